"""Several processes against one with the joined batch, for losses of two views."""

from collections.abc import Callable

import torch
from torch import Tensor

from gloo import Gloo


def demand_joined(
    gloo: Gloo, processes: int, on_a_rank: Callable[[Tensor, Tensor], list[Tensor]], one: Tensor, two: Tensor
) -> None:
    """Loss and both gradients of each rank's rows r::R, averaged as DDP does, are those of all rows on one process."""
    loss, *slopes = on_a_rank(one, two)
    for r, (found, *others) in enumerate(gloo.run(processes, on_a_rank, one, two)):
        torch.testing.assert_close(found, loss, rtol=0, atol=1e-12)
        for slope, whole in zip(others, slopes, strict=True):
            torch.testing.assert_close(slope / processes, whole[r::processes], rtol=0, atol=1e-12)
