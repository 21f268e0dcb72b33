"""The lines of metrics.jsonl as curves: which there are, what each means, and where its alarms lie."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lookalike.evaluation.health import COSINE, RANK, SPREAD

MOST = 4_000  # points of a curve; of more, evenly spaced ones are shown, the last among them
SILENT = {"step", "epoch", "phase", "probe", "updated", "skipped", "dropped", "rows", "dimensions", "uniform"}
GROUPS = ("learning", "health", "speed", "method")
PERCENT = ("knn", "wait")


@dataclass(frozen=True)
class Limit:
    """A level that a value is compared with."""

    value: float
    text: str


@dataclass(frozen=True)
class Known:
    """A curve that the package writes: its title, where it belongs, and how to read it."""

    title: str
    group: str
    note: str


KNOWN: Mapping[str, Known] = {
    "loss": Known("Loss", "learning", "Should fall and settle. Losses of different methods are not comparable."),
    "knn": Known("k-NN accuracy, online", "learning", "Scored while training, on training images that were held out."),
    "rate": Known("Learning rate", "learning", "The base rate of each step: warm-up, then the schedule."),
    "gradient_norm": Known("Gradient norm", "learning", "Before clipping. Spikes hint at a rate that is too high."),
    "rank": Known("Effective rank", "health", "How many dimensions the projections use. Near 1: all on a line."),
    "spread": Known("Spread", "health", "1: evenly over the sphere. 0: all images look alike."),
    "cosine": Known("Mean cosine", "health", "Between different images. Near 1: all images look alike."),
    "alignment": Known("Alignment", "health", "Squared distance of two views of an image. Lower: views agree more."),
    "uniformity": Known("Uniformity", "health", "Lower: images lie more evenly over the sphere."),
    "images_per_second": Known("Images per second", "speed", "Over all processes, probes and checkpoints left out."),
    "wait": Known("Waiting for data", "speed", "Share of the time in which training waited for images."),
}


@dataclass(frozen=True)
class Curve:
    """Steps and values of one number; None where it was not finite. whole: how many points there were."""

    key: str
    title: str
    group: str
    note: str
    percent: bool
    steps: list[int]
    values: list[float | None]
    whole: int
    limits: list[Limit] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def curves(rows: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """A curve for each number that changes while training: first the known ones, then the method's own."""
    found: dict[str, list[tuple[int, float | None]]] = {}
    of_training = {name for row in rows if not row.get("probe") for name in row}
    for row in rows:
        for name, value in row.items():
            again = row.get("probe") and name in of_training  # the loss and rate of a probed step
            if name not in SILENT and not again and "/" not in name and _possible(row, name, value):
                found.setdefault(name, []).append((row["step"], value))
    order = [*(name for name in KNOWN if name in found), *sorted(found.keys() - KNOWN.keys())]
    return [_curve(name, found[name], rows) for name in order if any(value is not None for _, value in found[name])]


def _possible(row: Mapping[str, Any], name: str, value: Any) -> bool:
    """A number, or a null that stands for one that was not finite."""
    if value is None:
        broken = row.get("nonfinite")
        return isinstance(broken, list) and name in broken
    return isinstance(value, int | float) and not isinstance(value, bool)


def _curve(name: str, points: list[tuple[int, float | None]], rows: Sequence[Mapping[str, Any]]) -> Curve:
    told = KNOWN.get(name, Known(name.replace("_", " "), "method", "Of this method: see its page in the docs."))
    shown = thinned(points)
    return Curve(
        key=name,
        title=told.title,
        group=told.group,
        note=told.note,
        percent=name in PERCENT,
        steps=[step for step, _ in shown],
        values=[value for _, value in shown],
        whole=len(points),
        limits=limits(name, rows),
    )


def thinned(points: list[tuple[int, float | None]]) -> list[tuple[int, float | None]]:
    """At most MOST of the points, evenly spaced, first and last among them."""
    if len(points) <= MOST:
        return points
    return [points[i * (len(points) - 1) // (MOST - 1)] for i in range(MOST)]


def limits(name: str, rows: Sequence[Mapping[str, Any]]) -> list[Limit]:
    """The levels at which doctor speaks, as the last reading sets them."""
    readings = (row for row in reversed(rows) if row.get("probe") and "rank" in row)
    last: Mapping[str, Any] = next(readings, {})
    if name == "loss" and isinstance(last.get("uniform"), int | float):
        return [Limit(last["uniform"], "if all images looked alike")]
    if name == "spread":
        return [Limit(SPREAD, "collapsed below")]
    if name == "cosine":
        return [Limit(COSINE, "collapsed above")]
    if name == "rank" and isinstance(last.get("dimensions"), int) and isinstance(last.get("rows"), int):
        return [Limit(RANK * min(last["dimensions"], last["rows"] / 2), "collapsed below")]
    return []
