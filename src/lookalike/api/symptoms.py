"""What the lines of metrics.jsonl show of a run: collapse, a flat loss, dropped steps, a starved loader."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from lookalike.api.probes import readings_of
from lookalike.evaluation import diagnose
from lookalike.recipes import Recipe

Rows: TypeAlias = Sequence[Mapping[str, Any]]

# our choice, all of them
WAITING = 0.15  # share of the time that may go into waiting for images
SETTLING = 30  # steps that fp16 may drop while its loss scale settles
FALL = 0.01  # least fall of a loss from its highest level, as a share of it
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
