"""Keys dealt over ranks: rank r of R holds rows r, r + R ... of a memory too large for one process.

Every rank sweeps its shard for the queries of all ranks; the states are joined as `sweep.merge` does it, with one
maximum and one sum over ranks. The floating-point operations per rank are those of a whole memory and own
queries: sharding saves memory, not time.
b own queries, B queries of all ranks, n own keys, D dimensions.
"""

import torch
from jaxtyping import Float, Int64, Num
from torch import Tensor

from lookalike.functional.collectives import Group, all_max, all_sum, gather_rows, rank, world
from lookalike.functional.sweep import Backend, Swept, sweep


@torch.no_grad()
def sweep_shards(
    q_bD: Float[Tensor, "b D"], shard_nD: Float[Tensor, "n D"], *, backend: Backend = "auto", group: Group = None
) -> Swept:
    """`sweep` of own queries over the keys of all ranks."""
    if world(group) == 1:
        return sweep(q_bD, shard_nD, backend=backend)
    whole = join(sweep(gather_rows(q_bD, group), shard_nD, backend=backend), group)
    mine = slice(rank(group), None, world(group))
    return Swept(whole.log_sum[mine], whole.mean[mine])


@torch.no_grad()
def join(part: Swept, group: Group = None) -> Swept:
    """What the ranks saw of their keys for the same queries, merged: `sweep.merge` over ranks, equal on all of them."""
    if world(group) == 1:
        return part
    top_B = all_max(part.log_sum, group).clamp_min(torch.finfo(part.log_sum.dtype).min)  # no key anywhere: exp gives 0
    weight_B1 = torch.exp(part.log_sum - top_B)[:, None]
    joined = all_sum(torch.cat([weight_B1, weight_B1 * part.mean], 1), group)
    sum_B1, weighted_BD = joined[:, :1], joined[:, 1:]
    return Swept(top_B + sum_B1[:, 0].log(), weighted_BD / sum_B1.masked_fill(sum_B1 == 0, 1.0))


@torch.no_grad()
def rows_of_shards(shard_nD: Num[Tensor, "n D"], index: Int64[Tensor, "b"], group: Group = None) -> Num[Tensor, "b D"]:
    """Rows of the whole memory by their global index, for each rank its own."""
    ranks = world(group)
    index_B = gather_rows(index, group)
    mine_B = index_B % ranks == rank(group)
    rows_BD = shard_nD.new_zeros(len(index_B), shard_nD.shape[1])
    rows_BD[mine_B] = shard_nD[index_B[mine_B] // ranks]
    return all_sum(rows_BD, group)[rank(group) :: ranks]
