"""Contrast with a few rows of a bank, drawn for each query: noise-contrastive estimation, and cross-entropy.

For a query q of sample i and a bank v of N rows, with K rows j drawn uniformly,

    NCE             P(j) = exp(q . v_j / t) / Z
                    loss = - log P(i) / (P(i) + K/N) - sum over the drawn of log (K/N) / (P(j) + K/N)
    cross-entropy   loss = - log exp(q . v_i / t) / sum over i and the drawn of exp(q . v_j / t)

A drawn row may be i's own, and come twice; -1 stands for none. Rows are taken as they are, gradient reaches q alone,
and the drawn rows are gathered for a chunk of queries at a time.
b own queries, N rows of the bank, K drawn, D dimensions.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from lookalike.functional.chunks import chunks
from lookalike.functional.collectives import Group, global_mean
from lookalike.functional.known_gradient import known_gradient
from lookalike.functional.margin import Margin
from lookalike.functional.similarity import demand_temperature

Judge: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]  # logits of own and drawn rows -> losses, slopes
SCRATCH = 2**26  # bytes of the rows that are gathered at a time


def nce(
    q_bD: Float[Tensor, "b D"],
    bank_ND: Float[Tensor, "N D"],
    index_b: Int64[Tensor, "b"],
    drawn_bK: Int64[Tensor, "b K"],
    *,
    temperature: float,
    normalizer: Float[Tensor, ""],
    group: Group = None,
) -> Float[Tensor, ""]:
    """Wu et al. 2018, equations 4 to 7: is a row the sample's own, or noise? The mean over the batch of all ranks.

    normalizer is Z, a constant. Raises ValueError for a temperature <= 0.
    """
    shift = torch.log(normalizer) + math.log(drawn_bK.shape[1] / len(bank_ND))  # of the noise: log Z K / N

    def judge(logits_cK: Tensor) -> tuple[Tensor, Tensor]:
        odds_cK = logits_cK - shift.to(logits_cK)  # log P - log K/N
        loss_c = softplus(odds_cK[:, 1:]).sum(1) - logsigmoid(odds_cK[:, 0])
        slope_cK = odds_cK.sigmoid()
        slope_cK[:, 0] -= 1
        return loss_c, slope_cK

    return global_mean(_judged(q_bD, bank_ND, index_b, drawn_bK, temperature, judge), group)


def drawn_contrast(
    q_bD: Float[Tensor, "b D"],
    bank_ND: Float[Tensor, "N D"],
    index_b: Int64[Tensor, "b"],
    drawn_bK: Int64[Tensor, "b K"],
    *,
    temperature: float,
    margin: Margin = Margin(),  # noqa: B008
    group: Group = None,
) -> Float[Tensor, ""]:
    """The cross-entropy of the sample's own row among itself and the drawn ones; the mean over the batch of all ranks.

    The margin is on the own row; a query for which no row is drawn has the loss 0.
    Raises ValueError for a temperature <= 0.
    """

    def judge(logits_cK: Tensor) -> tuple[Tensor, Tensor]:
        own_c, steep_c = margin.logits(logits_cK[:, 0], temperature)
        log_p_cK = torch.cat([own_c[:, None], logits_cK[:, 1:]], 1).log_softmax(1)
        slope_cK = log_p_cK.exp()
        slope_cK[:, 0] = (slope_cK[:, 0] - 1) * steep_c
        return -log_p_cK[:, 0], slope_cK

    return global_mean(_judged(q_bD, bank_ND, index_b, drawn_bK, temperature, judge), group)


@torch.no_grad()
def mean_exponential(
    q_bD: Float[Tensor, "b D"],
    bank_ND: Float[Tensor, "N D"],
    index_b: Int64[Tensor, "b"],
    drawn_bK: Int64[Tensor, "b K"],
    *,
    temperature: float,
) -> Float[Tensor, "b"]:
    """For each query the mean of exp(q . v / t) over its own row and the drawn ones: times N, an estimate of Z."""

    def judge(logits_cK: Tensor) -> tuple[Tensor, Tensor]:
        return logits_cK.exp().mean(1), logits_cK

    return _judged(q_bD, bank_ND, index_b, drawn_bK, temperature, judge)


def _judged(
    q_bD: Tensor, bank_ND: Tensor, index_b: Tensor, drawn_bK: Tensor, temperature: float, judge: Judge
) -> Tensor:
    """A loss of each query's logits, with its gradient by the query."""
    demand_temperature(temperature)
    rows_bK = torch.cat([index_b[:, None], drawn_bK], 1)
    with torch.no_grad(), torch.autocast(q_bD.device.type, enabled=False):
        u_bD = q_bD.to(torch.float64 if q_bD.dtype == torch.float64 else torch.float32) / temperature
        loss_b, slope_bD = u_bD.new_empty(len(u_bD)), torch.empty_like(u_bD)
        gathered = rows_bK.shape[1] * bank_ND.shape[1] * u_bD.element_size()
        for part in chunks(len(u_bD), bytes_of_a_row=gathered, scratch=SCRATCH):
            v_cKD = bank_ND[rows_bK[part].clamp_min(0)].to(u_bD.dtype)
            logits_cK = torch.einsum("ckd,cd->ck", v_cKD, u_bD[part]).masked_fill_(rows_bK[part] < 0, -torch.inf)
            loss_b[part], slope_cK = judge(logits_cK)
            slope_bD[part] = torch.einsum("ck,ckd->cd", slope_cK, v_cKD) / temperature
    return known_gradient(q_bD, loss_b, slope_bD)
