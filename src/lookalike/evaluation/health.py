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

from lookalike.functional.sphere import potential

# Alarms. Chen & He (2021, SimSiam) read the std against 1 / sqrt(D); Garrido et al. (2023, RankMe) the rank; the
# limits are our choice.
SPREAD = 0.1
COSINE = 0.99
RANK = 0.05  # of D, and of N / 2 where that is less: the rank of N rows is at most N, and 40 rows never alarm
PINNED = 0.005  # of the uniform loss
ABOVE = 1.5  # times the uniform loss
ZERO = 0.01  # of the uniform loss
RECOVERING, AHEAD = 1.05, 2  # least rise of a measure, and how often as much must bring it to its limit
BELOW = 0.95  # of the uniform loss: a loss that is as low has left it


class Health(TypedDict):
    """rows N and dimensions D; spread, rank and cosine as `health` defines them."""

    rows: int
    dimensions: int
    spread: float
    rank: float
    cosine: float


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Health at one step of training.

    uniform: the loss if all keys looked alike (log of their number), or None. rate: the learning rate of the step.
    """

    step: int
    rows: int
    dimensions: int
    spread: float
    rank: float
    cosine: float
    loss: float | None = None
    uniform: float | None = None
    rate: float | None = None


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
    unit_ND = normalize(z_ND.detach().double(), dim=1)
    total = potential(unit_ND, unit_ND, torch.arange(N, device=z_ND.device), t=t)  # rows of this process alone
    return math.log(float(total) / (N * (N - 1)))


def diagnose(readings: Sequence[Reading], *, warmup: int = 100, patience: int = 5) -> Diagnosis | None:
    """The first cause of CAUSES that holds in each of the last `patience` readings, or None.

    Readings before step `warmup`, and those at a higher learning rate than the one before, never count: random
    weights may look collapsed. Nor does a low spread or rank that rises over these readings, or a high loss that
    falls: the net is leaving it. Read every 20 steps, a collapse is named within 200 steps. Give `uniform` only for
    losses that compare with keys and leave it quickly: a classifier with a weight per image sits at log N for whole
    epochs in good health.
    For a finished encoder: diagnose([reading], warmup=0, patience=1).
    """
    pairs = zip([*readings[:1], *readings], readings, strict=False)
    last = [r for before, r in pairs if r.step >= warmup and not _rising(before, r)][-patience:]
    if len(last) < patience:
        return None
    for cause in CAUSES:
        if all(cause.holds(r) for r in last) and not _recovers(cause, last):
            return Diagnosis(cause=cause.name, sentence=cause.sentence.format(r=last[-1]))
    return None


@dataclass(frozen=True, kw_only=True)
class Cause:
    """holds: in one reading; sentence: formatted with a reading; measure: rises to 1 when a net leaves this state."""

    name: str
    holds: Callable[[Reading], bool]
    sentence: str
    measure: Callable[[Reading], float] | None = None


def _alike(r: Reading) -> bool:
    return r.spread < SPREAD or r.cosine > COSINE


def _rank(r: Reading) -> float:
    """The rank, as a share of the least that is healthy."""
    return r.rank / (RANK * min(r.dimensions, r.rows / 2))


def _recovers(cause: Cause, last: Sequence[Reading]) -> bool:
    """Whether the measure rises from the first two readings to the last two, and at this pace soon reaches its limit.

    Two, because the loss of a reading is that of one batch.
    """
    if cause.measure is None:
        return False
    values = [cause.measure(r) for r in last]
    first, now = sum(values[:2]) / len(values[:2]), sum(values[-2:]) / len(values[-2:])
    return now > RECOVERING * first and now + AHEAD * (now - first) > 1


def _over(r: Reading) -> float:
    """How many times the uniform loss the loss is; 0 where there is none."""
    return r.loss / r.uniform if r.loss is not None and r.uniform else 0.0


def _under(r: Reading) -> float:
    """The same, upside down."""
    return 1 / _over(r) if _over(r) > 0 else math.inf


def _solved(r: Reading) -> bool:
    return r.loss is not None and bool(r.uniform) and abs(_over(r)) < ZERO


def _rising(one: Reading, other: Reading) -> bool:
    """Whether the learning rate rises from one reading to the next."""
    return one.rate is not None and other.rate is not None and one.rate < other.rate


CAUSES = (
    Cause(
        name="complete collapse",
        holds=_alike,
        measure=lambda r: r.spread / SPREAD,
        sentence="The projections have collapsed: all images look alike (std {r.spread:.2g} of what is healthy, mean "
        "cosine {r.cosine:.3f}). Lower the learning rate (optimizer.rate), or check that the momentum encoder gets no "
        "gradient.",
    ),
    Cause(
        name="dimensional collapse",
        holds=lambda r: _rank(r) < 1,
        measure=_rank,
        sentence="The projections have collapsed to a few dimensions (rank {r.rank:.1f} of {r.dimensions}). Lower the "
        "learning rate (optimizer.rate), use stronger views, or give the projector batch norm.",
    ),
    Cause(
        name="loss above uniform",
        holds=lambda r: _over(r) > ABOVE,
        measure=lambda r: ABOVE * _under(r),
        sentence="The loss is {r.loss:.3g}, far above {r.uniform:.3f}, which it would be if all images looked alike. "
        "Raise the temperature (method.temperature), or lower the learning rate (optimizer.rate).",
    ),
    Cause(
        name="uniform loss",
        holds=lambda r: _over(r) > 1 - PINNED,
        measure=lambda r: BELOW * _under(r),
        sentence="The loss stays at {r.loss:.3f}, and it would be {r.uniform:.3f} if all images looked alike: a "
        "positive looks like any other key. Lower the learning rate (optimizer.rate), the weight decay or the "
        "temperature (method.temperature); check that both views show the same image, and that the images differ.",
    ),
    Cause(
        name="zero loss",
        holds=_solved,
        sentence="The loss is {r.loss:.1g}: positives are told apart without effort. Use stronger views, more "
        "negatives (batch, queue), or a higher temperature (method.temperature); lookalike doctor RUN says whether a "
        "queue is fed.",
    ),
)
