"""Other images as positives too, the more the surer the teacher is of them (ASCL: Feng & Patras 2022).

With d_j = teacher . key_j, q' = softmax(d / t) over the N keys, and the confidence c = 1 - entropy(q') / log N, the
positive has y = 1 and the keys

    soft       y_j = min(1, c K q'_j)                ASCL
    adaptive   y_j = c for the K nearest, else 0     the paper's adaptive hard form
    hard       y_j = 1 for the K nearest, else 0

all divided by their sum. K = 0 leaves the positive alone: MoCo's target, or BYOL's.
b own rows, B rows, N keys, D dimensions.
"""

from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lookalike.functional.collectives import Group, gather_rows, global_mean
from lookalike.functional.contrast import Target
from lookalike.functional.in_batch import positions
from lookalike.functional.neighbors import nearest_keys
from lookalike.functional.similarity import demand_temperature, unit
from lookalike.functional.sweep import sweep

Rule: TypeAlias = Literal["soft", "hard", "adaptive"]


class Relabeled(NamedTuple):
    """A loss, and the entropy of its target for the log: means over the global batch."""

    loss: Float[Tensor, ""]
    target_entropy: Float[Tensor, ""]


@torch.no_grad()
def relabeled(
    teacher_BD: Float[Tensor, "B D"],
    keys_ND: Float[Tensor, "N D"],
    *,
    temperature: float,
    neighbors: int,
    rule: Rule = "soft",
    mask: Bool[Tensor, "B N"] | None = None,
) -> Target:
    """The target beside the positive, for `soft_contrast`. neighbors is K; of fewer keys all are neighbors.

    Entries that are true in `mask` are no keys for a row, and N is what is left to it. With a single key there is no
    confidence: c is 0.
    Raises ValueError for a temperature <= 0.
    """
    demand_temperature(temperature)
    wide = torch.float64 if teacher_BD.dtype == torch.float64 else torch.float32
    with torch.autocast(teacher_BD.device.type, enabled=False):
        t_BD = teacher_BD.to(wide) / temperature
        if neighbors == 0 or len(keys_ND) == 0:
            return Target(t_BD.new_zeros(len(t_BD)), torch.zeros_like(t_BD), t_BD.new_zeros(len(t_BD)))
        seen = sweep(t_BD, keys_ND, mask=mask)
        count_B = len(keys_ND) - (t_BD.new_zeros(len(t_BD)) if mask is None else mask.sum(1).to(wide))
        entropy_B = (seen.log_sum - (t_BD * seen.mean).sum(1)).masked_fill(count_B == 0, 0.0)
        c_B = (1 - entropy_B / count_B.clamp_min(2).log()).clamp(0, 1).masked_fill(count_B < 2, 0.0)
        nearest = nearest_keys(t_BD, keys_ND, min(neighbors, len(keys_ND)), mask=mask)
        near_BkD, real_Bk = keys_ND[nearest.rows].to(wide), nearest.similarity.isfinite()  # a row may have fewer
        if rule == "soft":
            p_Bk = torch.exp(nearest.similarity - seen.log_sum[:, None]).masked_fill(~real_Bk, 0.0)
            return _soft(neighbors * c_B, seen.mean, entropy_B, p_Bk, near_BkD)
        found_B = real_Bk.sum(1).to(wide)
        sum_B, some_B = found_B * c_B if rule == "adaptive" else found_B, found_B.clamp_min(1)
        mean_BD = torch.einsum("bk,bkd->bd", real_Bk.to(wide), near_BkD) / some_B[:, None]
        return Target(sum_B / (1 + sum_B), mean_BD, some_B.log())


def _soft(weight_B: Tensor, mean_BD: Tensor, entropy_B: Tensor, p_Bk: Tensor, near_BkD: Tensor) -> Target:
    """y = min(1, weight q'): what exceeds 1 lies on the nearest keys, fewer than K of them, as the sum is below K."""
    y_Bk = weight_B[:, None] * p_Bk
    over_Bk = (y_Bk - 1).clamp_min(0)
    sum_B = weight_B - over_Bk.sum(1)
    weighted_BD = weight_B[:, None] * mean_BD - torch.einsum("bk,bkd->bd", over_Bk, near_BkD)
    some_B = sum_B.clamp_min(torch.finfo(sum_B.dtype).tiny)
    y_log_y_B = (
        torch.xlogy(weight_B, weight_B) - weight_B * entropy_B - (torch.xlogy(y_Bk, y_Bk) * (over_Bk > 0)).sum(1)
    )
    return Target(sum_B / (1 + sum_B), weighted_BD / some_B[:, None], some_B.log() - y_log_y_B / some_B)


def relabeled_distance(
    prediction_bD: Float[Tensor, "b D"],
    target_bD: Float[Tensor, "b D"],
    *,
    temperature: float,
    neighbors: int,
    rule: Rule = "soft",
    group: Group = None,
) -> Relabeled:
    """ASCL's form of BYOL: mean of 2 - 2 sum_j y_ij <unit(prediction_i), unit(target_j)> over the global batch.

    The keys of a row are the other targets of the batch, of all ranks. The targets get no gradient.
    """
    p_bD, k_bD = unit(prediction_bD), unit(target_bD.detach())
    k_BD, place_b = gather_rows(k_bD, group), positions(k_bD, group)
    itself_bB = torch.arange(len(k_BD), device=place_b.device) == place_b[:, None]
    y = relabeled(k_bD, k_BD, temperature=temperature, neighbors=neighbors, rule=rule, mask=itself_bB)
    mixed_bD = (1 - y.share)[:, None] * k_bD + y.share[:, None] * y.mean
    split_b = -torch.xlogy(y.share, y.share) - torch.xlogy(1 - y.share, 1 - y.share)
    columns_b2 = torch.stack([2 - 2 * (p_bD * mixed_bD).sum(1), split_b + y.share * y.entropy], 1)
    loss, entropy = global_mean(columns_b2, group).unbind(-1)
    return Relabeled(loss, entropy.detach())
