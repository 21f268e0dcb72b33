"""The nearest keys of each query, found tile by tile: the matrix of all similarities never exists.

B queries, N keys, k of them, D dimensions.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

ENTRIES = 2**22  # similarities of one tile


class Nearest(NamedTuple):
    """q . key, and the numbers of the keys; the nearest first."""

    similarity: Float[Tensor, "B k"]
    rows: Int64[Tensor, "B k"]


@torch.no_grad()
def nearest_keys(
    q_BD: Float[Tensor, "B D"], keys_ND: Float[Tensor, "N D"], k: int, *, mask: Bool[Tensor, "B N"] | None = None
) -> Nearest:
    """The k keys with the largest q . key; entries that are true in `mask` come last, with -inf.

    Rows are taken as they are. Of equally near keys any may come first.
    Raises ValueError for a k that is not between 1 and N.

    >>> nearest_keys(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.6, 0.8], [1.0, 0.0]]), 2).rows
    tensor([[2, 1]])
    """
    if not 1 <= k <= len(keys_ND):
        raise ValueError(f"the {k} nearest of {len(keys_ND)} keys were asked for: give a number from 1 to that")
    best, tile = None, max(ENTRIES // max(len(q_BD), 1), k)
    with torch.autocast(q_BD.device.type, enabled=False):
        for start in range(0, len(keys_ND), tile):
            part = slice(start, start + tile)
            similarity_BT = q_BD @ keys_ND[part].to(q_BD.dtype).T
            if mask is not None:
                similarity_BT.masked_fill_(mask[:, part], -torch.inf)
            top = similarity_BT.topk(min(k, similarity_BT.shape[1]), dim=1)
            found = Nearest(top.values, top.indices + start)
            best = found if best is None else nearer(best, found, k)
    assert best is not None
    return best


@torch.no_grad()
def resembling(rows_BD: Float[Tensor, "B D"], keys_ND: Float[Tensor, "N D"], *, above: float) -> Bool[Tensor, "B N"]:
    """Which keys have a product with the row that is above a number: a mask of likely false negatives.

    >>> resembling(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.6, 0.8], [1.0, 0.0]]), above=0.5)
    tensor([[False,  True,  True]])
    """
    with torch.autocast(rows_BD.device.type, enabled=False):
        return rows_BD @ keys_ND.to(rows_BD.dtype).T > above


def nearer(one: Nearest, other: Nearest, k: int) -> Nearest:
    """The k nearest of both, for the same queries."""
    similarity, rows = (torch.cat(pair, 1) for pair in zip(one, other, strict=True))
    top = similarity.topk(min(k, similarity.shape[1]), dim=1)
    return Nearest(top.values, rows.gather(1, top.indices))
