"""Whether a run was trained on the photos of a benchmark of copies: it then has seen what it is asked about."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

from lookalike.api.folder import RunFolder
from lookalike.api.frozen import manifest_of
from lookalike.data import CopyFolder, holds_copies
from lookalike.data.opening import address
from lookalike.evaluation import Score
from lookalike.training.checkpoint import CheckpointError
from lookalike.training.progress import Line

CAUTION = "trained on these photos"


def leaks(
    runs: Mapping[str, RunFolder | None], data: str | PathLike[str], benchmark: CopyFolder, line: Line
) -> list[str]:
    """The names of the runs that were trained on queries, references or their photos; a warning says so for each.

    Known are the same folder, one inside the other, and a benchmark that was built of the very files of the run,
    wherever they lie now. A run without a manifest tells nothing.
    """
    places = [_place(benchmark.queries.root), _place(benchmark.references.root)]
    places += [] if holds_copies(data) else [_place(data)]  # of what holds a benchmark, training/ may be trained on
    found = [name for name, run in runs.items() if run is not None and _seen(run, places, _built_of(benchmark))]
    for name in found:
        line.say(
            f"warning: {name} was trained on photos of this benchmark, so its scores are too high for others: train on "
            "the benchmark's training/ alone, or give photos that the run has not seen"
        )
    return found


def cautioned(scores: Sequence[Score]) -> list[Score]:
    """With a note of the leak."""
    return [replace(score, found={**score.found, "caution": CAUTION}) for score in scores]


def _seen(run: RunFolder, places: Sequence[str | Path], built_of: str | None) -> bool:
    try:
        manifest = run.manifest()
    except CheckpointError:
        return False
    data = manifest["data"]
    trained = None if data is None else _place(data)
    return manifest["identity"] == built_of or any(_one_in_the_other(trained, place) for place in places)


def _place(thing: str | PathLike[str]) -> str | Path:
    """A path without links, or the URI or name that is given."""
    text = address(thing)
    return Path(text).resolve() if text is not None and Path(text).is_absolute() else str(text)


def _one_in_the_other(one: str | Path | None, other: str | Path) -> bool:
    if isinstance(one, Path) and isinstance(other, Path):
        return one.is_relative_to(other) or other.is_relative_to(one)
    return one == other


def _built_of(benchmark: CopyFolder) -> str | None:
    """The identity of the photos, by the manifest of a benchmark that was built here."""
    try:
        return str(manifest_of(Path(benchmark.references.root).parent).asked["images"])
    except (ValueError, KeyError):
        return None
