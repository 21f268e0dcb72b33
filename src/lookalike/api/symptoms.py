"""What the lines of metrics.jsonl show of a run: collapse, nothing learned, dropped steps, a starved loader."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from lookalike.api.closing import IMAGES
from lookalike.api.probes import readings_of
from lookalike.evaluation import diagnose
from lookalike.recipes import METHODS, Recipe, method_name

Rows: TypeAlias = Sequence[Mapping[str, Any]]

# our choice, all of them
WAITING = 0.15  # share of the time that may go into waiting for images
SETTLING = 30  # steps that fp16 may drop while its loss scale settles
FALL = 0.01  # least fall of a loss from its highest level, as a share of it
STILL = 5  # fewest lines at the end with a gradient of zero
SURE = 3  # standard deviations between trained and random weights
LEVELS, LINES = 5, 20  # levels of a loss over a run, each the median of its part of the lines; fewest lines to tell


@dataclass(frozen=True)
class Finding:
    """what: its name; sentence: what is wrong, the value seen, what to do; change: KEY=VALUE for a new run, if any."""

    what: str
    sentence: str
    change: str | None = None


def collapsed(rows: Rows, recipe: Recipe) -> list[Finding]:
    """What the last readings of health show; else what was named while training and has passed."""
    readings = readings_of(rows)
    if found := diagnose(readings):
        sentence = f"step {readings[-1].step:,}: {found.sentence}"
        return [Finding(found.cause, sentence, CHANGES[found.cause](recipe))]
    named = [row["collapse"] for row in rows if isinstance(row.get("collapse"), str)]
    if not named:
        return []
    since = "the last readings do not show it any more" if readings else "look at its probes in metrics.jsonl"
    return [Finding("collapse while training", f"{named[-1]} Named while training; {since}.")]


def flat(rows: Rows) -> list[Finding]:
    """A loss against keys that ends as high as it ever was. Other losses may rise in good health, as BYOL's does."""
    losses = numbers(rows, "loss")
    if len(losses) < LINES or not any(reading.uniform for reading in readings_of(rows)):
        return []
    part = len(losses) // LEVELS
    levels = [statistics.median(losses[part * n : part * (n + 1)]) for n in range(LEVELS)]
    highest, last = max(levels[:-1]), levels[-1]
    if last < (1 - FALL) * highest:
        return []
    return [
        Finding(
            "loss not falling",
            f"The loss is {last:.4g} at the end and was never higher than {max(highest, last):.4g}: it does not fall. "
            "Change the learning rate (optimizer.rate), train for more epochs, or check with --dry-run that the views "
            "are those you want.",
        )
    ]


def unmoved(rows: Rows, recipe: Recipe) -> list[Finding]:
    """A gradient that is zero to the end: weights move by their decay alone."""
    norms = [(row["step"], row["gradient_norm"]) for row in rows if isinstance(row.get("gradient_norm"), int | float)]
    moved = [step for step, norm in norms if norm != 0]
    moved += [row["step"] for row in rows if "gradient_norm" in row.get("nonfinite", ())]
    still = [step for step, _ in norms if not moved or step > max(moved)]
    if len(still) < STILL:
        return []
    half = str(recipe.runtime.precision) == "fp16"
    rest = " Or it is too small for fp16: try runtime.precision=fp32." if half else ""
    return [
        Finding(
            "no gradient",
            f"The gradient is 0 from step {still[0]:,} to {still[-1]:,}, so that nothing is learned: look for a "
            "setting that leaves the loss nothing to compare, such as a mask over all negatives or a weight of 0."
            f"{rest}",
            "runtime.precision=fp32" if half else None,
        )
    ]


def unlearned(rows: Rows, recipe: Recipe, images: int, labeled: bool = False) -> list[Finding]:
    """An encoder that knows images by another view less often than random weights do: more than chance explains.

    images: of the data set. labeled: with labels, with which SupCon takes images of a class for one: nothing is found.
    """
    last = next((row for row in reversed(rows) if "recognized/trained" in row), {})
    trained, random = (last.get(f"recognized/{name}") for name in ("trained", "random weights"))
    classes = labeled and METHODS[method_name(recipe)].facts.unlabeled
    if classes or trained is None or random is None:
        return []
    spread = math.sqrt((trained * (1 - trained) + random * (1 - random)) / min(images, IMAGES))
    if random - trained <= SURE * spread:
        return []
    return [
        Finding(
            "less than random weights",
            f"The encoder knows {trained:.1%} of images by another view of them, and one with random weights "
            f"{random:.1%}: train for more epochs (epochs={2 * recipe.epochs:g}), or change the learning rate "
            f"(optimizer.rate, {recipe.optimizer.rate:g}).",
        )
    ]


def dropped(rows: Rows, recipe: Recipe) -> list[Finding]:
    """Steps that were dropped because loss or gradients were not finite."""
    counts = [(row["step"], row["dropped"]) for row in rows if isinstance(row.get("dropped"), int)]
    total = sum(count for _, count in counts)
    precision = str(recipe.runtime.precision)
    if total <= (SETTLING if precision == "fp16" else 0):
        return []
    other = "" if precision == "fp32" else f" or use runtime.precision=fp32 (it was {precision})"
    return [
        Finding(
            "dropped steps",
            f"{total:,} steps were dropped, the last before step {counts[-1][0]:,}, because loss or gradients were NaN "
            f"or infinite: lower the learning rate (optimizer.rate, {recipe.optimizer.rate:g}){other}.",
            _slower(recipe) if precision == "fp32" else "runtime.precision=fp32",
        )
    ]


def starved(rows: Rows, recipe: Recipe) -> list[Finding]:
    """The share of the time that went into waiting for images; the first line, with the start in it, does not count."""
    waits = numbers(rows, "wait")[1:]
    share = statistics.fmean(waits) if waits else 0.0
    if share <= WAITING:
        return []
    workers = recipe.runtime.workers if isinstance(recipe.runtime.workers, int) else 0
    more = max(2, 2 * workers)
    return [
        Finding(
            "starved loader",
            f"{share:.0%} of the time went into waiting for images: more processes that prepare them "
            f"(runtime.workers={more}, it was {workers}) or smaller files on a faster disk shorten it; images that fit "
            "into memory are decoded once (data.cache=auto).",
            f"runtime.workers={more}",
        )
    ]


def numbers(rows: Rows, name: str) -> list[float]:
    """The values under a name in the lines of training; lines of probes, and what is no number, are left out."""
    values = (row.get(name) for row in rows if not row.get("probe"))
    return [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]


def _slower(recipe: Recipe) -> str:
    return f"optimizer.rate={recipe.optimizer.rate / 10:g}"


def _warmer(recipe: Recipe) -> str | None:
    temperature = dict(recipe.method).get("temperature")
    return None if temperature is None else f"method.temperature={2 * temperature:g}"


CHANGES: Mapping[str, Callable[[Recipe], str | None]] = {
    "complete collapse": _slower,
    "dimensional collapse": _slower,
    "loss above uniform": _warmer,
    "uniform loss": _slower,
    "zero loss": _warmer,
}
