"""Shuffled batches over all processes: which sample meets which in a BatchNorm, and back (MoCo, section 3.3)."""

from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor

from lookalike.functional.collectives import Group, gather_rows, rank, world


def shuffled(
    x_bD: Shaped[Tensor, "b *row"], generator: torch.Generator, group: Group = None
) -> tuple[Shaped[Tensor, "b *row"], Callable[[Tensor], Tensor]]:
    """This rank's share of the global batch in a random order, and the function that puts its rows back.

    The generator must stand equal on all ranks. With one process both are permutations of the batch; with several
    the rows are gathered over ranks, before and after.
    """
    every_BD = gather_rows(x_bD, group)
    order = torch.randperm(len(every_BD), generator=generator).to(x_bD.device)
    back, mine = torch.argsort(order), slice(rank(group), None, world(group))

    def in_order(rows: Tensor) -> Tensor:
        return gather_rows(rows, group)[back][mine]

    return every_BD[order][mine], in_order
