"""The images of a run, opened as its recipe says, and taken by a number; and a word about what takes long meanwhile."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from lookalike.data import Files, Images, Scalable, Source, Unreadable, duplicates, merged, open_source
from lookalike.recipes import Data, asked
from lookalike.training.progress import SECONDS, Line, steps_of


@dataclass(frozen=True)
class Others:
    """An image of the source for a number in [0, 1), as edits want others; None where it cannot be read."""

    source: Images

    def __call__(self, share: float) -> UInt8[Tensor, "C H W"] | None:
        try:
            return self.source.read(int(share * len(self.source)))
        except Unreadable:
            return None


def opened(data: Any, settings: Data, line: Line) -> Images:
    """The images of `data`, copies merged if that is asked for. Raises ValueError as `data.open_source` does."""
    source = open_source(
        data,
        channels=settings.channels,
        column=settings.column,
        download=settings.download,
        on_progress=_heard(line),
    )
    if settings.scaled_to is not None:
        if not isinstance(source, Scalable):
            raise ValueError("data.scaled_to is for files, and these images are decoded already: leave it out")
        source.scaled_to = settings.scaled_to
    return without_copies(source, line) if settings.merge_duplicates else source


def without_copies(source: Images, line: Line) -> Files:
    """The files that repeat no earlier one byte for byte; says how many do. Raises ValueError for other sources."""
    if not isinstance(source, Files):
        raise ValueError("data.merge_duplicates compares files, and these images are none: leave it out")
    copies = exact_copies(source, line)
    if copies:
        line.say(f"{told_copies(source, copies)}: merged, each counts once")
    return merged(source, copies)


def exact_copies(source: Images, line: Line) -> list[list[int]]:
    """As `data.duplicates`, which reads much where many files are of one length."""
    with line.track("Looking for exact copies", len(source)) as advance:
        return duplicates(source, on_progress=steps_of(advance))


def told_copies(source: Source, copies: Sequence[Sequence[int]]) -> str:
    """How many there are beside the first ones, and a pair."""
    return (
        f"exact copies of other images: {sum(len(group) - 1 for group in copies):,}, for instance "
        f"{source.name(copies[0][1])} of {source.name(copies[0][0])}"
    )


def opened_early(data: Any, overrides: Sequence[str], line: Line) -> Images:
    """The images of `data` before there is a recipe, which is chosen by looking at them."""
    column, download = asked(overrides, "data.column"), asked(overrides, "data.download")
    scaled_to = asked(overrides, "data.scaled_to")
    settings = Data(
        channels=1 if asked(overrides, "data.channels") == 1 else 3,
        column=None if column is None else str(column),
        download=None if download is None else str(download),
        scaled_to=scaled_to if isinstance(scaled_to, int) and scaled_to > 0 else None,  # a mistake is named later
        merge_duplicates=asked(overrides, "data.merge_duplicates") is True,
    )
    return opened(data, settings, line)


def tell_duplicates(source: Source, line: Line, *, files: bool) -> None:
    """Says how many images are exact copies of others, for a method that tells each image from all others."""
    found = exact_copies(source, line) if isinstance(source, Images) else []
    if found:
        remedy = "data.merge_duplicates=true takes equal files for one" if files else "leave them out of the data"
        line.say(
            f"{told_copies(source, found)}: each counts as another image than its copy; {remedy}, if that is not wanted"
        )


def _heard(line: Line) -> Callable[[int, int], None]:
    """Says that headers of tar files are read, and every ten seconds how many have been."""
    said = time.monotonic()

    def hear(done: int, total: int) -> None:
        nonlocal said
        if done == 0:
            line.say(f"reading the headers of {total:,} tar file{'s' if total > 1 else ''}")
        elif time.monotonic() - said >= SECONDS:
            said = time.monotonic()
            line.say(f"read the headers of {done:,} of {total:,} tar files")

    return hear
