"""Views of several sizes through one network: those of one size together."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Size, Tensor


def by_size(
    network: Callable[[Tensor], Tensor],
    views: Mapping[str, Shaped[Tensor, "B *pixels"]],
    names: Sequence[str],
    *,
    joined: bool = True,
) -> dict[str, Float[Tensor, "B dim"]]:
    """The network's output for each of the views `names`, in their order; one forward for all views of one shape.

    Views of one shape share their batch statistics (the rule of SwAV's and DINO's code for multi-crop). Without
    `joined` each view has a forward and statistics of its own.

    >>> views = {"global/1": torch.zeros(2, 8), "local/1": torch.ones(2, 4), "global/2": torch.ones(2, 8)}
    >>> {name: rows.tolist() for name, rows in by_size(lambda x: x.mean(1, keepdim=True), views, list(views)).items()}
    {'global/1': [[0.0], [0.0]], 'local/1': [[1.0], [1.0]], 'global/2': [[1.0], [1.0]]}
    """
    alike: dict[Size | str, list[str]] = {}
    for name in names:
        alike.setdefault(views[name].shape[1:] if joined else name, []).append(name)
    rows = dict[str, Tensor]()
    for group in alike.values():
        found = network(torch.cat([views[name] for name in group]))
        rows.update(zip(group, found.chunk(len(group)), strict=True))
    return {name: rows[name] for name in names}
