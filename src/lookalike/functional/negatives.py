"""Contrast that treats the batch's negatives by themselves: decoupled and debiased contrastive losses.

Every one of the 2B views has one positive, the other view of its image, and 2B - 2 negatives, all views of the other
images. What a loss needs of the negatives is the log of their sum,

    s = z . z' / t of the positive          n = log sum over the negatives of exp(z . z_j / t)
    NT-Xent    log(exp(s) + exp(n)) - s     decoupled  n - s     debiased  log(exp(s) + corrected exp(n)) - s

The logits exist for a chunk of rows at a time, in forward and again in backward.
b own rows, B rows of the global batch, N = 2B views, D dimensions.
"""

import math
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lookalike.functional.collectives import Group, gather_rows, global_mean
from lookalike.functional.in_batch import positions
from lookalike.functional.similarity import demand_temperature, unit

WayReduction: TypeAlias = Literal["mean", "sum"]
SCRATCH = 2**24  # bytes of one chunk of logits


class Views(NamedTuple):
    """Of own views, view 1 then view 2: the positive's logit, the log-sum of the negatives, how many these are."""

    positive: Float[Tensor, "two_b"]
    negatives: Float[Tensor, "two_b"]
    others: int


def decoupled(
    z1_bD: Float[Tensor, "b D"],
    z2_bD: Float[Tensor, "b D"],
    *,
    temperature: float,
    sigma: float | None = None,
    weight_gradient: bool = False,
    reduction: WayReduction = "mean",
    group: Group = None,
) -> Float[Tensor, ""]:
    """DCL: the log-sum of the negatives less the positive's logit (Yeh et al. 2021, eq. 6). Can be negative.

    sigma: DCLW, which weighs each positive by 2 - B softmax over the batch of (z1 . z2 / sigma): far pairs count more.
    weight_gradient: whether gradient flows through that weight. reduction: "mean" over all 2B views, or "sum" of the
    means of both views. Rows are normalized inside; the loss is that of the global batch of `group`.

    >>> same = torch.eye(2)                       # both views alike, two images orthogonal: log 2 - 1 / t
    >>> decoupled(same, same, temperature=1.0)
    tensor(-0.3069)

    Raises ValueError for a temperature or sigma <= 0, another reduction, or a single image.
    """
    if reduction not in get_args(WayReduction):
        raise ValueError(f"reduction is {reduction!r}: give one of {get_args(WayReduction)}")
    views = _views(z1_bD, z2_bD, temperature, group)
    pull = views.positive
    if sigma is not None:
        if not sigma > 0:
            raise ValueError(f"sigma is {sigma}: give a number above 0, or None for no weights")
        pull = pull * _weights(pull * (temperature / sigma), weight_gradient, group)
    return global_mean(views.negatives - pull, group) * (2 if reduction == "sum" else 1)


def debiased(
    z1_bD: Float[Tensor, "b D"],
    z2_bD: Float[Tensor, "b D"],
    *,
    temperature: float,
    prior: float,
    group: Group = None,
) -> Float[Tensor, ""]:
    """NT-Xent with the share `prior` of false negatives taken out (Chuang et al. 2020, one positive).

    With P = exp(s), M negatives and their sum S: max((S - prior M P) / (1 - prior), M exp(-1 / t)) stands for S.
    Mean over all 2B views of the global batch of `group`; rows are normalized inside; prior 0 is NT-Xent.
    Raises ValueError for a temperature <= 0, a prior outside [0, 1), or a single image.
    """
    if not 0 <= prior < 1:
        raise ValueError(f"the prior is {prior}: give the share of false negatives, from 0 to below 1")
    positive, negatives, count = _views(z1_bD, z2_bD, temperature, group)
    rest = 1 - prior * count * (positive - negatives).clamp(max=60).exp()  # beyond e^60 nothing is left either way
    least = torch.finfo(rest.dtype).tiny
    share = negatives + rest.clamp(min=least).log() - math.log1p(-prior)
    floor = math.log(count) - 1 / temperature
    share = share.masked_fill(rest <= least, floor).clamp(min=floor)
    gap = share - positive
    return global_mean(torch.logaddexp(gap, torch.zeros_like(gap)), group)


def _views(z1_bD: Tensor, z2_bD: Tensor, temperature: float, group: Group) -> Views:
    demand_temperature(temperature)
    wide = torch.float64 if z1_bD.dtype == torch.float64 else torch.float32
    with torch.autocast(z1_bD.device.type, enabled=False):
        z1_bD, z2_bD = unit(z1_bD.to(wide)), unit(z2_bD.to(wide))
        z_ND = torch.cat([gather_rows(z1_bD, group), gather_rows(z2_bD, group)])  # all of view 1, all of view 2
        images = len(z_ND) // 2
        if images < 2:
            raise ValueError("a single image has no negatives: use a larger batch")
        own_b = positions(z1_bD, group)
        positive_b = (z1_bD * z2_bD).sum(1) / temperature
        negatives = _LogSum.apply(torch.cat([z1_bD, z2_bD]), z_ND, own_b.repeat(2), temperature)
    return Views(positive_b.repeat(2), negatives, 2 * images - 2)


def _weights(logits: Tensor, gradient: bool, group: Group) -> Tensor:
    """2 - B softmax of each image's logit over the images of the global batch, for own views."""
    own_b = logits.chunk(2)[0] if gradient else logits.chunk(2)[0].detach()
    all_B = gather_rows(own_b, group)
    return (2 - len(all_B) * (own_b - all_B.logsumexp(0)).exp()).repeat(2)


class _LogSum(torch.autograd.Function):
    """log of the sum of exp(q . key / t) over the keys but both views of the image that the query shows."""

    @staticmethod
    def forward(ctx, q_nD, keys_ND, own_n, temperature):
        logs = [_logits(q_nD[r] / temperature, keys_ND, own_n[r]).logsumexp(1) for r in _chunks(q_nD, keys_ND)]
        ctx.temperature = temperature
        ctx.save_for_backward(q_nD, keys_ND, own_n, torch.cat(logs))
        return torch.cat(logs)

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream_n):
        q_nD, keys_ND, own_n, logs_n = ctx.saved_tensors
        dq_nD, dkeys_ND = torch.empty_like(q_nD), torch.zeros_like(keys_ND)
        for r in _chunks(q_nD, keys_ND):
            pull_cN = _logits(q_nD[r] / ctx.temperature, keys_ND, own_n[r]).sub_(logs_n[r, None]).exp_()
            pull_cN.mul_(upstream_n[r, None] / ctx.temperature)
            torch.mm(pull_cN, keys_ND, out=dq_nD[r])
            dkeys_ND.addmm_(pull_cN.T, q_nD[r])
        return dq_nD, dkeys_ND, None, None


def _chunks(q_nD: Tensor, keys_ND: Tensor) -> list[slice]:
    size = max(SCRATCH // (len(keys_ND) * keys_ND.element_size()), 1)
    return [slice(start, start + size) for start in range(0, len(q_nD), size)]


def _logits(u_cD: Tensor, keys_ND: Tensor, own_c: Tensor) -> Tensor:
    """-inf at both views of the own image."""
    logits_cN = u_cD @ keys_ND.T
    both_c2 = torch.stack([own_c, own_c + len(keys_ND) // 2], 1)
    return logits_cN.scatter_(1, both_c2, -torch.inf)
