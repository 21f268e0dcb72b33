"""The hardest classes of each class: those whose weights point most nearly where its own do, found block by block."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lookalike.functional.classes import tiles
from lookalike.functional.collectives import Group, gather_rows, rank, world
from lookalike.functional.neighbors import Nearest, nearer

BLOCK, TILE = 512, 1024  # classes that look, and classes that are looked at, at once: a tile of cosines is 2 MiB


@torch.no_grad()
def hardest_classes(
    weights_nD: Float[Tensor, "n D"], k: int, *, sharded: bool = False, group: Group = None
) -> Int64[Tensor, "n {k}"]:
    """For each own class the numbers of the k others with the largest cosine of weights, largest first.

    N^2 D multiplications over all ranks; memory does not grow with N but for the result. Sharded: rank r of R holds
    classes r, r + R ...; numbers count over all of them. Of equal cosines any may be taken.
    Raises ValueError, on every rank, for a k that is not between 1 and the number of other classes.
    """
    sizes = gather_rows(torch.arange(len(weights_nD)), group) if sharded else torch.arange(len(weights_nD))
    if not 1 <= k < len(sizes):
        raise ValueError(
            f"the {k} hardest of {len(sizes) - 1} other classes were asked for: give a number from 1 to that"
        )
    ranks, own = (world(group), rank(group)) if sharded else (1, 0)
    found = torch.empty(len(weights_nD), k, dtype=torch.int64, device=weights_nD.device)
    for start in range(0, -(-len(sizes) // ranks), BLOCK):
        block_bD = torch.nn.functional.normalize(weights_nD[start : start + BLOCK], dim=1)
        block_BD = gather_rows(block_bD, group) if sharded else block_bD
        first = start * ranks  # the number of the block's first class, over all ranks
        near = _nearest(block_BD, weights_nD, k, first, ranks, own)
        if ranks > 1:
            cosines, numbers = (gather_rows(x, group).unflatten(0, (-1, ranks)).flatten(1) for x in near)
            near = Nearest(cosines, numbers.gather(1, cosines.topk(k, dim=1).indices))
        found[start : start + BLOCK] = near.rows[own::ranks]
    return found


def _nearest(block_BD: Tensor, weights_nD: Tensor, k: int, first: int, ranks: int, own: int) -> Nearest:
    """The k largest cosines with own classes, and the numbers of these; -inf and 0 where there are fewer."""
    none_Bk = block_BD.new_full((len(block_BD), k), -torch.inf)
    best = Nearest(none_Bk, torch.zeros_like(none_Bk, dtype=torch.int64))
    itself_B1 = torch.arange(first, first + len(block_BD), device=block_BD.device)[:, None]
    for start, _, unit_TD, _ in tiles(weights_nD, None, TILE):
        number_T = torch.arange(start, start + len(unit_TD), device=block_BD.device) * ranks + own
        cosines_BT = (block_BD @ unit_TD.T).masked_fill_(number_T == itself_B1, -torch.inf)
        top = cosines_BT.topk(min(k, len(unit_TD)), dim=1)
        best = nearer(best, Nearest(top.values, number_T[top.indices]), k)
    return best
