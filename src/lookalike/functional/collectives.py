"""Sums and gathers over processes, with exact gradients; the identity where there is one process.

Two conventions hold everywhere. Rank r of R holds positions r, r + R, r + 2R ... of the global batch, so that
the first ranks hold one row more when R does not divide it. Every rank back-propagates its own loss and the
gradients are then averaged over ranks (DistributedDataParallel); the loss of the global batch is their mean.

All functions are collective: every rank of `group` (None: all processes) calls them in the same order, and if
one rank's input requires gradient, so does every rank's.
"""

import torch
import torch.distributed as dist
from jaxtyping import Float, Num, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

Group = dist.ProcessGroup | None
NO_ROWS = "the mean over a batch needs at least one row, and there is none"


def world(group: Group = None) -> int:
    """Number of processes in the group; 1 where torch.distributed is not in use."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def rank(group: Group = None) -> int:
    """This process's number in the group; 0 where torch.distributed is not in use."""
    return dist.get_rank(group) if dist.is_available() and dist.is_initialized() else 0


def agree(flag: bool, group: Group = None) -> bool:
    """True if the flag is true on every rank."""
    if world(group) == 1:
        return flag
    vote = torch.tensor(int(flag), device="cuda" if dist.get_backend(group) == "nccl" else "cpu")
    dist.all_reduce(vote, dist.ReduceOp.MIN, group=group)
    return bool(vote)


def all_sum(x: Num[Tensor, "*shape"], group: Group = None) -> Num[Tensor, "*shape"]:
    """Sum over ranks, equal on every rank; the gradient is the sum over ranks as well."""
    return x if world(group) == 1 else _AllSum.apply(x, group)


def all_max(x: Float[Tensor, "*shape"], group: Group = None) -> Float[Tensor, "*shape"]:
    """Elementwise maximum over ranks, without gradient."""
    if world(group) == 1:
        return x.detach()
    y = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(y, dist.ReduceOp.MAX, group=group)
    return y


def global_mean(x_b: Float[Tensor, "b *row"], group: Group = None) -> Float[Tensor, "*row"]:
    """Mean over the rows of all ranks, equal on every rank; shares may be uneven, or empty on some ranks.

    Each own row gets the gradient R / (global number of rows), so that the average over ranks of the
    parameters' gradients is exactly that of the joined batch. Half precision is summed in float32.
    Raises ValueError if there is no row at all.
    """
    wide_b = x_b.float() if x_b.dtype in (torch.float16, torch.bfloat16) else x_b
    return mean_of_sum(wide_b.sum(0), len(x_b), group)


def mean_of_sum(total: Float[Tensor, "*row"], count: int, group: Group = None) -> Float[Tensor, "*row"]:
    """`global_mean` of `count` rows of this rank of which only the sum is known."""
    if world(group) > 1:
        return _MeanOfSum.apply(total, count, group)
    if count == 0:
        raise ValueError(NO_ROWS)
    return total / count


def gather_rows(x_bD: Shaped[Tensor, "b *row"], group: Group = None) -> Shaped[Tensor, "B *row"]:
    """Rows of all ranks in global position order: row i of rank r becomes row i R + r.

    Backward sums over ranks the gradient of this rank's rows: a loss of one rank that depends on another
    rank's rows reaches the parameters behind them. Any dtype; integers carry no gradient.
    Raises ValueError, on every rank, if the shares are not those of positions r::R.
    """
    return x_bD if world(group) == 1 else _GatherRows.apply(x_bD, group)


class _AllSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, group):
        ctx.group = group
        return _summed(x, group)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return _summed(gradient, ctx.group), None


class _MeanOfSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, total, count, group):
        both = _summed(torch.cat([total.flatten(), total.new_tensor([count])]), group)
        if both[-1] == 0:
            raise ValueError(NO_ROWS)
        ctx.weight = world(group) / both[-1]
        return (both[:-1] / both[-1]).view_as(total)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return gradient * ctx.weight, None, None


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_bD, group):
        counts = _counts(x_bD, group)
        ctx.group, ctx.rows = group, len(x_bD)
        padded = x_bD.new_zeros((counts[0], *x_bD.shape[1:]))
        padded[: len(x_bD)] = x_bD
        blocks = padded.new_empty((len(counts) * counts[0], *x_bD.shape[1:]))
        dist.all_gather_into_tensor(blocks, padded, group=group)
        by_rank = blocks.unflatten(0, (len(counts), counts[0]))
        return by_rank.transpose(0, 1).flatten(0, 1)[: sum(counts)].contiguous()  # the padding is last

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient_BD):
        gradient_BD = _summed(gradient_BD, ctx.group)
        return gradient_BD[rank(ctx.group) :: world(ctx.group)], None


def _summed(x: Tensor, group: Group) -> Tensor:
    """A new tensor with the sum over ranks; half precision is added in float32."""
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    total = wide.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total.to(x.dtype)


def _counts(x_bD: Tensor, group: Group) -> list[int]:
    """Rows held by each rank, after the check that rank r holds positions r::R."""
    size = world(group)
    table = torch.empty(size, dtype=torch.int64, device=x_bD.device)
    dist.all_gather_into_tensor(table, table.new_tensor([len(x_bD)]), group=group)
    counts: list[int] = table.tolist()
    total = sum(counts)
    if counts != [len(range(r, total, size)) for r in range(size)]:
        raise ValueError(
            f"ranks hold {counts} rows, but positions r::{size} of {total} give the first ranks one more: "
            "deal the batch out in turn"
        )
    return counts
