"""Contrast with the other rows of the batch, whose gradient reaches both sides: SimCLR's NT-Xent, CLIP, MoCo v3.

Each row of one side picks its partner among the rows of all ranks. The logits exist for a chunk of rows at a
time; value and both gradients are computed in the same pass and scaled in backward:

    p = softmax(q K / t)      loss_i = -log p_i,target      dq = (p - target) K / t      dK = (p - target)^T q / t

b own rows, B rows of the global batch, N candidates, D dimensions.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lookalike.functional.chunks import chunks
from lookalike.functional.collectives import Group, gather_rows, mean_of_sum, rank, world
from lookalike.functional.similarity import demand_temperature, unit

Reduction: TypeAlias = Literal["mean", "tf_sum"]
Pulls: TypeAlias = Callable[[Tensor, Tensor, slice], tuple[Tensor, Tensor]]
SCRATCH = 2**24  # bytes of one chunk of logits


def nt_xent(
    z1_bD: Float[Tensor, "b D"],
    z2_bD: Float[Tensor, "b D"],
    *,
    temperature: float,
    reduction: Reduction = "mean",
    group: Group = None,
) -> Float[Tensor, ""]:
    """Every view finds the other view of its image among all 2B - 1 other rows (Chen et al. 2020, eq. 1).

    Rows are normalized inside. The loss is that of the global batch of `group`: "mean" over its 2B rows as in
    the paper; "tf_sum" is the mean over view 1 plus the mean over view 2, twice as much, as in the official code.

    >>> same = torch.eye(2)                       # both views alike, two images orthogonal: log(1 + 2 exp(-1 / t))
    >>> nt_xent(same, same, temperature=1.0)
    tensor(0.5514)

    Raises ValueError for a temperature <= 0 or another reduction.
    """
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction is {reduction!r}: give one of {get_args(Reduction)}")
    z1_bD, z2_bD = unit(z1_bD), unit(z2_bD)
    z_ND = torch.cat([gather_rows(z1_bD, group), gather_rows(z2_bD, group)])  # all of view 1, all of view 2
    own_b = positions(z1_bD, group)
    other_b = own_b + len(z_ND) // 2
    total = _picked(
        torch.cat([z1_bD, z2_bD]),
        z_ND,
        torch.cat([other_b, own_b]),
        torch.cat([own_b, other_b]),
        temperature,
    )
    return mean_of_sum(total, 2 * len(z1_bD), group) * (2 if reduction == "tf_sum" else 1)


def in_batch_contrast(
    q_bD: Float[Tensor, "b D"],
    k_bD: Float[Tensor, "b D"],
    *,
    temperature: float,
    group: Group = None,
) -> Float[Tensor, ""]:
    """Every query finds its own key among the keys of the global batch: the mean cross-entropy, one direction.

    Rows are taken as they are: normalize them before. Gradient reaches the keys too, unless they need none.
    MoCo v3 multiplies by 2 t and adds both directions; CLIP averages both. Raises ValueError for a temperature <= 0.
    """
    total = _picked(q_bD, gather_rows(k_bD, group), positions(q_bD, group), None, temperature)
    return mean_of_sum(total, len(q_bD), group)


def positions(x_bD: Tensor, group: Group) -> Tensor:
    """Places of this rank's rows in the global batch."""
    return torch.arange(len(x_bD), device=x_bD.device) * world(group) + rank(group)


def _picked(q_bD: Tensor, keys_ND: Tensor, target_b: Tensor, hidden_b: Tensor | None, temperature: float) -> Tensor:
    """Sum over rows of -log softmax(q keys / t)[target], with the key hidden_b[i] left out of row i."""

    def pulls(u_cD: Tensor, keys_ND: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        return _pulls(u_cD, keys_ND, target_b[rows], None if hidden_b is None else hidden_b[rows])

    return summed(q_bD, keys_ND, pulls, temperature)


def summed(q_bD: Tensor, keys_ND: Tensor, pulls: Pulls, temperature: float) -> Tensor:
    """Sum over rows of a loss of the logits q keys / t, chunk by chunk, with gradient to both sides.

    pulls(q / t of a chunk, keys, the chunk's rows) gives each row's loss, and its derivative by the logits.
    """
    demand_temperature(temperature)
    wide = torch.float64 if q_bD.dtype == torch.float64 else torch.float32
    with torch.autocast(q_bD.device.type, enabled=False):
        return _Summed.apply(q_bD.to(wide), keys_ND.to(wide), pulls, temperature)


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q_bD, keys_ND, pulls, temperature):
        total, dq_bD = q_bD.new_zeros(()), torch.empty_like(q_bD)
        dkeys_ND = torch.zeros_like(keys_ND) if ctx.needs_input_grad[1] else None
        for rows in chunks(len(q_bD), bytes_of_a_row=len(keys_ND) * keys_ND.element_size(), scratch=SCRATCH):
            loss_c, pull_cN = pulls(q_bD[rows] / temperature, keys_ND, rows)
            total += loss_c.sum()
            torch.mm(pull_cN, keys_ND, out=dq_bD[rows])
            if dkeys_ND is not None:
                dkeys_ND.addmm_(pull_cN.T, q_bD[rows])
        ctx.temperature = temperature
        ctx.save_for_backward(dq_bD, dkeys_ND)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        dq_bD, dkeys_ND = ctx.saved_tensors
        scale = upstream / ctx.temperature
        return dq_bD * scale, None if dkeys_ND is None else dkeys_ND * scale, None, None


def _pulls(u_cD: Tensor, keys_ND: Tensor, target_c: Tensor, hidden_c: Tensor | None) -> tuple[Tensor, Tensor]:
    """Loss of each row, and softmax minus one-hot; the target stays out of the sum, so small losses stay precise."""
    logits_cN = u_cD @ keys_ND.T
    positive_c1 = logits_cN.gather(1, target_c[:, None])
    logits_cN.scatter_(1, target_c[:, None], -torch.inf)
    if hidden_c is not None:
        logits_cN.scatter_(1, hidden_c[:, None], -torch.inf)
    top_c1 = logits_cN.amax(1, keepdim=True).clamp_min(torch.finfo(logits_cN.dtype).min)  # no other key: exp gives 0
    weights_cN = logits_cN.sub_(top_c1).exp_()
    sum_c1 = weights_cN.sum(1, keepdim=True)
    gap_c1 = top_c1 + sum_c1.log() - positive_c1
    away_c1 = torch.sigmoid(gap_c1)
    pull_cN = weights_cN.mul_(away_c1 / sum_c1.clamp_min(torch.finfo(sum_c1.dtype).tiny))
    pull_cN.scatter_(1, target_c[:, None], -away_c1)
    return torch.logaddexp(torch.zeros_like(gap_c1), gap_c1)[:, 0], pull_cN
