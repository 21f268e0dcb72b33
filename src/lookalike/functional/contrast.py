"""The contrastive loss with frozen keys: one engine for MoCo, ReSSL, SCE and contrast with a whole bank.

For a query q, candidates k_j, any target w over them with sum 1, and c = sum_j w_j k_j,

    loss = logsumexp_j(q k_j / t) - q c / t        d loss / dq = (a - c) / t        a = sum_j softmax(q K / t)_j k_j

so that loss and exact gradient come from one sweep over the keys (sweep.py), and only d loss / dq is kept for
backward. The candidates are the positive, as a column of its own, and the N keys:

    target of the keys        (1 - mix) softmax(teacher keys / t_teacher)
    target of the positive    what is left: mix
    MoCo   mix = 1                                   He et al. 2020
    ReSSL  mix = 0, positive_in_denominator=False    Zheng et al. 2021
    SCE    0 < mix < 1                               Denize et al. 2023

Rows are taken as they are: normalize them before. Gradient reaches q alone. Half precision is computed in
float32, under autocast too. Options:

    mask_positive   "paper" leaves the positive out of the teacher's softmax; "official" gives it the logit 0
                    there, as the published code of SCE does: its share of the target is a little above mix
    mask (B, N)     keys that are no candidates for a row (false negatives); a row with no candidate but its
                    positive has a hard target, a row with none at all has loss 0
    margin          on the positive's similarity, before the temperature (margin.py)
    reduction       "mean" over the global batch of `group`, or "none": own rows
    backend         see sweep.py
    sharded         rank r holds keys r, r + R ... (shards.py); an index counts over all of them
    target          the whole target, made before: of many queries at once, or of another rule (ASCL: relabel.py)
    beside          what q / t knows of candidates beside the keys, each row of its own (MoCHi: mixing.py)

    >>> from lookalike.functional import unit
    >>> q, k, queue = (unit(torch.randn(n, 8)) for n in (4, 4, 100))
    >>> moco = soft_contrast(q, positive=k, keys=queue, temperature=0.2)
    >>> logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], dim=1) / 0.2
    >>> torch.allclose(moco.loss, logits.logsumexp(1).mean() - logits[:, 0].mean(), atol=1e-5)
    True

B queries, N keys, D dimensions.
"""

from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lookalike.functional.collectives import Group, global_mean
from lookalike.functional.known_gradient import known_gradient
from lookalike.functional.margin import Margin
from lookalike.functional.shards import rows_of_shards, sweep_shards
from lookalike.functional.similarity import demand_temperature
from lookalike.functional.sweep import Backend, Swept, merge, sweep

Reduction: TypeAlias = Literal["mean", "none"]
MaskPositive: TypeAlias = Literal["paper", "official"]


class Contrast(NamedTuple):
    """Loss, and two detached numbers for the log; means over the global batch, or one value per row.

    target_entropy: entropy of the target in nats, 0 if it is hard; loss - target_entropy is a KL divergence.
    confidence: the probability that the query gives to its positive; 0 without a positive.
    """

    loss: Tensor
    target_entropy: Tensor
    confidence: Tensor


class Target(NamedTuple):
    """Share of the target that lies on the keys; average key and entropy there. The rest is on the positive."""

    share: Float[Tensor, "B"]
    mean: Float[Tensor, "B D"]
    entropy: Float[Tensor, "B"]


class _Solved(NamedTuple):
    """Per row: loss, d loss / d(q / t), entropy of the target, log-sum over the keys less the positive's logit."""

    loss: Float[Tensor, "B"]
    slope: Float[Tensor, "B D"]
    entropy: Float[Tensor, "B"]
    gap: Float[Tensor, "B"]


def soft_contrast(
    q_BD: Float[Tensor, "B D"],
    *,
    keys: Float[Tensor, "N D"],
    temperature: float,
    positive: Float[Tensor, "B D"] | None = None,
    teacher: Float[Tensor, "B D"] | None = None,
    teacher_temperature: float | None = None,
    mix: float = 1.0,
    positive_in_denominator: bool = True,
    mask_positive: MaskPositive = "paper",
    target: Target | None = None,
    beside: Swept | None = None,
    mask: Bool[Tensor, "B N"] | None = None,
    margin: Margin = Margin(),  # noqa: B008
    reduction: Reduction = "mean",
    backend: Backend = "auto",
    sharded: bool = False,
    group: Group = None,
) -> Contrast:
    """Cross-entropy of the query's softmax over [positive, keys] against the target of this file's head.

    Raises ValueError for a temperature <= 0, an unknown option, or where a part is missing that `mix` needs.
    """
    demand_temperature(temperature)
    _check_parts(positive, teacher, teacher_temperature, mix, mask_positive, positive_in_denominator, target)
    with torch.no_grad(), torch.autocast(q_BD.device.type, enabled=False):
        u_BD = _wide(q_BD) / temperature
        own_BD = torch.zeros_like(u_BD) if positive is None else positive.to(u_BD.dtype)
        student = _seen(u_BD, keys, mask, backend, sharded, group)
        student = student if beside is None else merge(student, beside)
        if mix < 1 and teacher is not None and teacher_temperature is not None:
            t_BD = teacher.to(u_BD.dtype) / teacher_temperature
            seen = _seen(t_BD, keys, mask, backend, sharded, group)
            target = _relations(t_BD, seen, 1 - mix, beside_zero=mask_positive == "official")
        target = _hard(u_BD) if target is None else target
        solved = _solve(u_BD, student, own_BD, target, positive_in_denominator, margin, temperature)
        confidence_B = torch.sigmoid(-solved.gap) * (positive is not None)
    return _result(q_BD, solved, confidence_B, temperature, reduction, group)


@torch.no_grad()
def relations(
    teacher_BD: Float[Tensor, "B D"], keys_ND: Float[Tensor, "N D"], *, temperature: float, backend: Backend = "auto"
) -> Target:
    """The target that follows softmax(teacher keys / t), nothing of it on a positive: ReSSL's.

    The same as mix=0 with this teacher, made once for several calls. Raises ValueError for a temperature <= 0.
    """
    demand_temperature(temperature)
    with torch.autocast(teacher_BD.device.type, enabled=False):
        t_BD = _wide(teacher_BD) / temperature
        return _relations(t_BD, sweep(t_BD, keys_ND, backend=backend), 1.0, beside_zero=False)


def contrast(
    q_BD: Float[Tensor, "B D"],
    keys: Float[Tensor, "N D"],
    index: Int64[Tensor, "B"],
    *,
    temperature: float,
    mask: Bool[Tensor, "B N"] | None = None,
    reduction: Reduction = "mean",
    backend: Backend = "auto",
    sharded: bool = False,
    group: Group = None,
) -> Contrast:
    """Cross-entropy of the query's softmax over all keys; the positive of row i is key index[i].

    The N-way classification of QK Iteration, against a bank of the whole data set.
    Raises ValueError for a temperature <= 0, or if `mask` hides a positive.
    """
    demand_temperature(temperature)
    if mask is not None and bool(mask.gather(1, index[:, None]).any()):
        raise ValueError("the mask hides the positive of a row: leave mask[i, index[i]] false")
    with torch.no_grad(), torch.autocast(q_BD.device.type, enabled=False):
        u_BD = _wide(q_BD) / temperature
        student = _seen(u_BD, keys, mask, backend, sharded, group)
        own_BD = (rows_of_shards(keys, index, group) if sharded else keys[index]).to(u_BD.dtype)
        solved = _solve(u_BD, student, own_BD, _hard(u_BD), column=False)  # it is among the keys
        confidence_B = torch.exp(-solved.gap)
    return _result(q_BD, solved, confidence_B, temperature, reduction, group)


def _wide(x_BD: Tensor) -> Tensor:
    return x_BD.detach().to(torch.float64 if x_BD.dtype == torch.float64 else torch.float32)


def _seen(u_BD: Tensor, keys_ND: Tensor, mask: Tensor | None, backend: Backend, sharded: bool, group: Group) -> Swept:
    if not sharded:
        return sweep(u_BD, keys_ND, mask=mask, backend=backend)
    if mask is not None:
        raise ValueError("a mask over sharded keys is not supported: contrast with whole keys, or without a mask")
    return sweep_shards(u_BD, keys_ND, backend=backend, group=group)


def _hard(u_BD: Tensor) -> Target:
    """All of the target on the positive."""
    zero_B = u_BD.new_zeros(len(u_BD))
    return Target(zero_B, torch.zeros_like(u_BD), zero_B)


def _relations(t_BD: Tensor, seen: Swept, share: float, beside_zero: bool) -> Target:
    """`share` of the target follows the teacher's softmax, with or without a logit 0 for the positive beside it.

    Where no key was seen, none of the target does.
    """
    share_B = torch.full_like(seen.log_sum, share)
    if beside_zero:
        share_B = share_B * torch.sigmoid(seen.log_sum)
    empty_B = seen.log_sum.isneginf()
    entropy_B = seen.log_sum - (t_BD * seen.mean).sum(1)
    return Target(share_B.masked_fill(empty_B, 0.0), seen.mean, entropy_B.masked_fill(empty_B, 0.0))


def _solve(
    u_BD: Tensor,
    student: Swept,
    own_BD: Tensor,
    target: Target,
    column: bool,
    margin: Margin | None = None,
    temperature: float = 1.0,
) -> _Solved:
    """Loss and slope, arranged so that small losses keep their relative precision.

    With near and away = 1 - near the softmax's split between the positive and the keys,
    a - c = (m - k)((1 - share) away - share near) + share (m - r), for the positive k, the student's and the
    teacher's average keys m and r.
    """
    positive_B = (u_BD * own_BD).sum(1)
    if margin is not None:
        positive_B, steep_B = margin.logits(positive_B, temperature)
        own_BD = steep_B[:, None] * own_BD
    gap_B = student.log_sum - positive_B
    if column:
        hard_B = torch.logaddexp(torch.zeros_like(gap_B), gap_B)
        near_B, away_B = torch.sigmoid(-gap_B), torch.sigmoid(gap_B)
    else:
        hard_B, near_B, away_B = gap_B, torch.zeros_like(gap_B), torch.ones_like(gap_B)
    share_B, relation_BD = target.share, target.mean
    soft_B = positive_B + hard_B - (u_BD * relation_BD).sum(1)
    loss_B = (1 - share_B) * hard_B + share_B * soft_B
    pull_B = (1 - share_B) * away_B - share_B * near_B
    slope_BD = pull_B[:, None] * (student.mean - own_BD)
    slope_BD += share_B[:, None] * (student.mean - relation_BD)
    split_B = -torch.xlogy(share_B, share_B) - torch.xlogy(1 - share_B, 1 - share_B)
    entropy_B = split_B + share_B * target.entropy
    if not column:
        empty_B = student.log_sum.isneginf()
        loss_B, slope_BD = loss_B.masked_fill(empty_B, 0.0), slope_BD.masked_fill(empty_B[:, None], 0.0)
    return _Solved(loss_B, slope_BD, entropy_B, gap_B)


def _result(
    q_BD: Tensor, solved: _Solved, confidence_B: Tensor, temperature: float, reduction: Reduction, group: Group
) -> Contrast:
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction is {reduction!r}: give one of {get_args(Reduction)}")
    loss_B = known_gradient(q_BD, solved.loss, solved.slope / temperature)
    columns_B3 = torch.stack([loss_B, solved.entropy, confidence_B], 1)
    loss, entropy, confidence = (global_mean(columns_B3, group) if reduction == "mean" else columns_B3).unbind(-1)
    return Contrast(loss, entropy.detach(), confidence.detach())


def _check_parts(
    positive: Tensor | None,
    teacher: Tensor | None,
    teacher_temperature: float | None,
    mix: float,
    mask_positive: str,
    positive_in_denominator: bool,
    target: Target | None,
) -> None:
    if not 0 <= mix <= 1:
        raise ValueError(f"mix is {mix}: give the positive's share of the target, from 0 to 1")
    if target is not None and (teacher is not None or mix < 1):
        raise ValueError("target is given besides teacher or mix: it replaces both, leave them out")
    if positive is None and ((target is None and mix > 0) or positive_in_denominator):
        raise ValueError("no positive given: that needs mix=0 and positive_in_denominator=False")
    if mask_positive not in get_args(MaskPositive):
        raise ValueError(f"mask_positive is {mask_positive!r}: give one of {get_args(MaskPositive)}")
    if mask_positive == "official" and not positive_in_denominator:
        raise ValueError("mask_positive is 'official' but the positive is no candidate: use 'paper'")
    if mix < 1 and (teacher is None or teacher_temperature is None):
        raise ValueError(f"mix is {mix}, below 1: give teacher and teacher_temperature, or mix=1")
    if teacher_temperature is not None:
        demand_temperature(teacher_temperature)
