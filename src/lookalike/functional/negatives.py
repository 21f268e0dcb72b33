"""Contrast that treats the batch's negatives by themselves: decoupled and debiased contrastive losses.

Every one of the 2B views has one positive, the other view of its image, and 2B - 2 negatives, all views of the other
images. What a loss needs of the negatives is the log of their sum,

    s = z . z' / t of the positive          n = log sum over the negatives of exp(z . z_j / t)
    NT-Xent    log(exp(s) + exp(n)) - s     decoupled  n - s     debiased  log(exp(s) + corrected exp(n)) - s

The logits exist for a chunk of rows at a time (in_batch.py).
b own rows, B rows of the global batch, N = 2B views, D dimensions.
"""

import math
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from lookalike.functional.collectives import Group, gather_rows, global_mean, mean_of_sum
from lookalike.functional.in_batch import positions, summed
from lookalike.functional.similarity import unit

WayReduction: TypeAlias = Literal["mean", "sum"]
# s and n of each row, how many negatives -> losses, slopes by s and by n
Judge: TypeAlias = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor, Tensor]]


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
    if sigma is not None and not sigma > 0:
        raise ValueError(f"sigma is {sigma}: give a number above 0, or None for no weights")
    negatives = _judged(z1_bD, z2_bD, temperature, _log_sum, group)
    pull_b = (unit(z1_bD) * unit(z2_bD)).sum(1) / temperature
    if sigma is not None:
        pull_b = pull_b * _weights(pull_b * (temperature / sigma), weight_gradient, group)
    return (negatives - global_mean(pull_b, group)) * (2 if reduction == "sum" else 1)


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

    def judge(positive_c: Tensor, negatives_c: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        rest_c = 1 - prior * count * (positive_c - negatives_c).clamp(max=60).exp()  # above nothing is left
        left_c = rest_c.clamp(min=torch.finfo(rest_c.dtype).tiny)
        floor = math.log(count) - 1 / temperature
        share_c = negatives_c + left_c.log() - math.log1p(-prior)
        held_c = (share_c < floor) | (rest_c < left_c)
        gap_c = share_c.masked_fill(held_c, floor) - positive_c
        away_c = gap_c.sigmoid()
        slope_c = away_c / left_c  # with r = rest: d gap/dn = 1 / r, d gap/ds = -1 / r; on the floor 0 and -1
        return (
            torch.logaddexp(gap_c, torch.zeros_like(gap_c)),
            -torch.where(held_c, away_c, slope_c),
            slope_c.masked_fill(held_c, 0.0),
        )

    return _judged(z1_bD, z2_bD, temperature, judge, group)


def _log_sum(positive_c: Tensor, negatives_c: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """n itself: the positive's part needs no sweep."""
    return negatives_c, torch.zeros_like(positive_c), torch.ones_like(negatives_c)


def _judged(z1_bD: Tensor, z2_bD: Tensor, temperature: float, judge: Judge, group: Group) -> Tensor:
    """The mean over all views of what `judge` makes of the positive's logit and the log-sum of the negatives."""
    z1_bD, z2_bD = unit(z1_bD), unit(z2_bD)
    z_ND = torch.cat([gather_rows(z1_bD, group), gather_rows(z2_bD, group)])  # all of view 1, all of view 2
    if len(z_ND) < 4:
        raise ValueError("a single image has no negatives: use a larger batch")
    own_b = positions(z1_bD, group)
    both_n2 = torch.stack([own_b.repeat(2), own_b.repeat(2) + len(z_ND) // 2], 1)
    partner_n1 = torch.cat([both_n2[: len(own_b), 1:], both_n2[len(own_b) :, :1]])

    def pulls(u_cD: Tensor, keys_ND: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        logits_cN = u_cD @ keys_ND.T
        positive_c1 = logits_cN.gather(1, partner_n1[rows])
        logits_cN.scatter_(1, both_n2[rows], -torch.inf)
        negatives_c1 = logits_cN.logsumexp(1, keepdim=True)
        loss_c, by_positive_c, by_negatives_c = judge(positive_c1[:, 0], negatives_c1[:, 0], len(keys_ND) - 2)
        pull_cN = logits_cN.sub_(negatives_c1).exp_().mul_(by_negatives_c[:, None])
        return loss_c, pull_cN.scatter_(1, partner_n1[rows], by_positive_c[:, None])

    total = summed(torch.cat([z1_bD, z2_bD]), z_ND, pulls, temperature)
    return mean_of_sum(total, 2 * len(z1_bD), group)


def _weights(logits_b: Tensor, gradient: bool, group: Group) -> Tensor:
    """2 - B softmax of each image's logit over the images of the global batch."""
    own_b = logits_b if gradient else logits_b.detach()
    all_B = gather_rows(own_b, group)
    return 2 - len(all_B) * (own_b - all_B.logsumexp(0)).exp()
