"""Health of representations: readings from a batch of rows, and the names of collapse in plain words.

Training reads the projections of a step every few steps and asks `diagnose` about the history:

    history.append(Reading(step=step, loss=loss, uniform=math.log(keys), **health(projections)))
    found = diagnose(history)

Shapes: N rows, D dimensions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

# Alarms. Chen & He (2021, SimSiam) read the std against 1 / sqrt(D); Garrido et al. (2023, RankMe) the rank; the
# limits are our choice.
SPREAD = 0.1
COSINE = 0.99
RANK = 0.05  # of D, and of N / 2 where that is less: the rank of N rows is at most N, and 40 rows never alarm
PINNED = 0.005  # of the uniform loss
ZERO = 1e-3
RECOVERING = 1.1


class Health(TypedDict):
    """rows N and dimensions D; spread, rank and cosine as `health` defines them."""

    rows: int
    dimensions: int
    spread: float
    rank: float
    cosine: float


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Health at one step of training. uniform: the loss if all keys looked alike (log of their number), or None."""

    step: int
    rows: int
    dimensions: int
    spread: float
    rank: float
    cosine: float
    loss: float | None = None
    uniform: float | None = None


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """cause: a name for the log; sentence: what is wrong and which setting to change."""

    cause: str
    sentence: str


def health(rows_ND: Float[Tensor, "N D"]) -> Health:
    """Readings of one batch of features or projections, of any norm; without gradient.

    spread: std per dimension of the unit rows over 1 / sqrt(D), root mean square over dimensions, so that a
    rotation changes nothing. 1 for rows spread evenly over the sphere, 0 for equal rows; cosine near 1 -
    spread^2. rank: RankMe. cosine: mean over pairs of different rows. ValueError for fewer than two rows
    and for rows that are not finite.
    """
    rows_ND = rows_ND.detach().float()
    N, D = rows_ND.shape
    if N < 2:
        raise ValueError(f"health is read from pairs of rows; there is {N} row")
    broken = int((~rows_ND.isfinite().all(1)).sum())
    if broken:
        raise ValueError(f"{broken} of {N} rows are not finite; lower the learning rate (optimizer.rate)")
    unit_ND = normalize(rows_ND, dim=1)
    spread = unit_ND.var(0, correction=0).sum().sqrt()
    squares = unit_ND.pow(2).sum()
    cosine = (unit_ND.sum(0).pow(2).sum() - squares) / (N * (N - 1))
    spread, rank, cosine = torch.stack([spread, rankme(rows_ND), cosine]).tolist()
    return Health(rows=N, dimensions=D, spread=spread, rank=rank, cosine=cosine)


def rankme(rows_ND: Float[Tensor, "N D"], eps: float = 1e-7) -> Float[Tensor, ""]:
    """Smooth rank, 1 to min(N, D): exp of the entropy of the singular values divided by their sum.

    Garrido et al., "RankMe", 2023 (arXiv 2210.02885), equation 1: rows neither centered nor normalized.
    """
    s_K = torch.linalg.svdvals(rows_ND.float())
    p_K = s_K / s_K.sum().clamp_min(torch.finfo(s_K.dtype).tiny) + eps
    return torch.exp(-(p_K * p_K.log()).sum())


def alignment(z1_ND: Float[Tensor, "N D"], z2_ND: Float[Tensor, "N D"]) -> float:
    """Mean squared distance of positive pairs on the unit sphere, 0 to 4: Wang & Isola 2020 (arXiv 2005.10242)."""
    return float((normalize(z1_ND, dim=1) - normalize(z2_ND, dim=1)).pow(2).sum(1).mean())


def uniformity(z_ND: Float[Tensor, "N D"], t: float = 2.0) -> float:
    """log of the mean over pairs of exp(-t distance^2) on the unit sphere: 0 if all rows are equal, lower is more even.

    Wang & Isola 2020 (arXiv 2005.10242). In tiles: no N x N matrix. ValueError for fewer than two rows.
    """
    N = len(z_ND)
    if N < 2:
        raise ValueError(f"uniformity is read from pairs of rows; there is {N} row")
    unit_ND = normalize(z_ND.double(), dim=1)
    total = sum(float(torch.exp(2 * t * (tile @ unit_ND.T - 1)).sum()) for tile in unit_ND.split(1024))
    return math.log((total - N) / (N * (N - 1)))  # a row's own pair adds exp(0)


def diagnose(readings: Sequence[Reading], *, warmup: int = 100, patience: int = 5) -> Diagnosis | None:
    """The first cause of CAUSES that holds in each of the last `patience` readings, or None.

    Readings before step `warmup` never count: random weights may look collapsed. Nor does a low spread or rank
    that rises over these readings: the net is leaving it. Read every 20 steps, a collapse is named within 200
    steps. Give `uniform` only for losses that compare with keys and leave it quickly: a classifier with a weight
    per image sits at log N for whole epochs in good health.
    For a finished encoder: diagnose([reading], warmup=0, patience=1).
    """
    last = [r for r in readings if r.step >= warmup][-patience:]
    if len(last) < patience:
        return None
    for cause in CAUSES:
        recovers = cause.measure is not None and cause.measure(last[-1]) > RECOVERING * cause.measure(last[0])
        if all(cause.holds(r) for r in last) and not recovers:
            return Diagnosis(cause=cause.name, sentence=cause.sentence.format(r=last[-1]))
    return None


@dataclass(frozen=True, kw_only=True)
class Cause:
    """holds: in one reading; measure: what rises when a net leaves this state; sentence: formatted with a reading."""

    name: str
    holds: Callable[[Reading], bool]
    sentence: str
    measure: Callable[[Reading], float] | None = None


def _alike(r: Reading) -> bool:
    return r.spread < SPREAD or r.cosine > COSINE


def _flat(r: Reading) -> bool:
    return r.rank < RANK * min(r.dimensions, r.rows / 2)


def _pinned(r: Reading) -> bool:
    return r.loss is not None and r.uniform is not None and abs(r.loss - r.uniform) < PINNED * r.uniform


def _solved(r: Reading) -> bool:
    return r.loss is not None and r.uniform is not None and abs(r.loss) < ZERO


CAUSES = (
    Cause(
        name="complete collapse",
        holds=_alike,
        measure=lambda r: r.spread,
        sentence="The projections have collapsed: all images look alike (std {r.spread:.2g} of what is healthy, mean "
        "cosine {r.cosine:.3f}). Lower the learning rate (optimizer.rate), or check that the momentum encoder gets no "
        "gradient.",
    ),
    Cause(
        name="dimensional collapse",
        holds=_flat,
        measure=lambda r: r.rank,
        sentence="The projections have collapsed to a few dimensions (rank {r.rank:.1f} of {r.dimensions}). Lower the "
        "learning rate (optimizer.rate), use stronger views, or give the projector batch norm.",
    ),
    Cause(
        name="uniform loss",
        holds=_pinned,
        sentence="The loss stays at {r.loss:.3f}, log of the number of keys: a positive looks like any other key. "
        "Lower the temperature (method.temperature), check that both views show the same image, or that the images "
        "differ at all.",
    ),
    Cause(
        name="zero loss",
        holds=_solved,
        sentence="The loss is {r.loss:.1g}: positives are told apart without effort. Use stronger views, more "
        "negatives (batch, queue), or a higher temperature (method.temperature).",
    ),
)
