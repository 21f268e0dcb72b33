"""Is it worth it: a score beside that of the best reference, with an interval that pairs the test images.

Shapes: M test images, G groups of them, K quotients, R draws of the bootstrap.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from lookalike.evaluation.score import Score
from lookalike.functional import random

RESAMPLES = 1000  # of the bootstrap
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Worth:
    """How far the trained encoder is ahead of `reference`, the best of them, under the protocol `probe`.

    gain and its 95 % interval are differences of values between 0 and 1.
    """

    probe: str
    reference: str
    gain: float
    interval: tuple[float, float]

    @property
    def verdict(self) -> str:
        """By the interval: "worth it" above 0, "not worth it" below, "not clear" where it holds 0."""
        low, high = self.interval
        return "worth it" if low > 0 else "not worth it" if high < 0 else "not clear"

    def line(self) -> str:
        """For example: worth it: +23.1 points (22.0 to 24.2) over raw pixels."""
        gain, low, high = (100 * x for x in (self.gain, *self.interval))
        return f"{self.probe}: {self.verdict}: {gain:+.1f} points ({low:.1f} to {high:.1f}) over {self.reference}"

    def as_dict(self) -> dict[str, object]:
        return {
            "probe": self.probe,
            "reference": self.reference,
            "gain": self.gain,
            "interval": list(self.interval),
            "verdict": self.verdict,
        }


def worth(trained: Score, references: Mapping[str, Score], *, seed: int = 0) -> Worth:
    """The trained encoder against the best of the references, of equals the first.

    Features and crop may differ: each model is read at its own layer and size. Raises ValueError without a reference,
    without values for each image, and where something else differs in how they were measured.
    """
    if not references:
        raise ValueError("there is no reference to compare with: measure one under the same protocol")
    name, best = max(references.items(), key=lambda item: item[1].value)
    differences = {key: pair for key, pair in trained.differences(best).items() if key not in ("features", "crop")}
    if differences:
        named = "; ".join(f"{key} {here!r} and {there!r}" for key, (here, there) in differences.items())
        raise ValueError(f"trained and {name} are not comparable: {named}; measure both in the same way")
    if trained.each is None or best.each is None:
        raise ValueError(f"{trained.name} holds no value for each test image: measure it again")
    gain = float((trained.each - best.each).mean())
    ends = paired(trained.each, best.each, seed=seed)
    settings = trained.protocol.settings
    probe = f"{trained.name} {100 * float(settings['share']):g} %" if "share" in settings else trained.name
    return Worth(probe=probe, reference=name, gain=gain, interval=ends)


def worth_of_draws(
    probe: str, trained: tuple[float, Tensor], references: Mapping[str, tuple[float, Tensor]]
) -> Worth | None:
    """The same of (value, its bootstrap values), where all were drawn on the same samples; None without a reference."""
    if not references:
        return None
    name, (best, draws_R) = max(references.items(), key=lambda item: item[1][0])
    return Worth(probe=probe, reference=name, gain=trained[0] - best, interval=percentiles(trained[1] - draws_R))


def paired(
    a_M: Float64[Tensor, "M"], b_M: Float64[Tensor, "..."], *, seed: int = 0, draws: int = RESAMPLES
) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of a - b, over `draws` bootstrap samples of the M test images.

    Both models are read on the same images, so what makes an image hard for both cancels (Efron and Tibshirani, "An
    introduction to the bootstrap", 1993). A function of the values and the seed. Raises ValueError for unequal lengths.
    """
    if len(a_M) != len(b_M) or not len(a_M):
        raise ValueError(f"{len(a_M)} and {len(b_M)} test images cannot be paired: measure both on the same ones")
    difference_M, generator = a_M - b_M, random.generator("paired bootstrap", seed)
    means = [
        difference_M[torch.randint(len(difference_M), (len(difference_M),), generator=generator)].mean()
        for _ in range(draws)
    ]
    return percentiles(torch.stack(means))


def resampled_ratio(
    above_GK: Shaped[Tensor, "G K"], below_GK: Shaped[Tensor, "G K"], *, seed: int = 0, draws: int = RESAMPLES
) -> Float64[Tensor, "R"]:
    """The mean over K of sum(above) / sum(below), on `draws` bootstrap samples of the G groups (images, clips).

    Where a sample's `below` is 0, that column is not in its mean. A function of the values and the seed: the samples of
    two models on the same groups are the same, and their differences are paired.
    """
    generator, values = random.generator("bootstrap of groups", seed), []
    for _ in range(draws):
        chosen = torch.randint(len(above_GK), (len(above_GK),), generator=generator)
        values.append((above_GK[chosen].sum(0).double() / below_GK[chosen].sum(0)).nanmean())
    return torch.stack(values)


def percentiles(values_R: Float64[Tensor, "R"]) -> tuple[float, float]:
    """The 95 % percentile interval of bootstrap values; NaN ones do not count."""
    low, high = values_R.nanquantile(torch.tensor([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).double()).tolist()
    return low, high
