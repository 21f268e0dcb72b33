"""What happens to an image that cannot be read: the next one of the order stands in, and the ledger counts it."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from lookalike.data.cache import Cached, stacked
from lookalike.data.decode import Unreadable, shown
from lookalike.data.images import Source

ALLOWED = 0.001  # of the images
_STEPS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Skipped:
    """A sample that could not be read."""

    index: int
    name: str
    reason: str


@dataclass(frozen=True)
class Found:
    """The sample that stands at a position, and the unreadable ones met before it."""

    pixels: UInt8[Tensor, "C *size"]
    index: int
    skipped: list[Skipped]


class TooManyUnreadable(ValueError):  # noqa: N818 - named as the run's last line says it
    """More unreadable images than allowed."""


def replace_unreadable(source: Source, order: Int64[Tensor, "L"], position: int, stride: int) -> Found:
    """The first readable sample of `order` at position, position + stride, position + 2 stride ... (modulo its length).

    With the global batch size as stride these are the same slot of later batches, so that no other sample of any batch
    changes. Where the stride comes round without success, all other positions follow one by one from position + 1.
    A pure function of the order and of which files can be read. Raises TooManyUnreadable if none can.
    """
    skipped: list[Skipped] = []
    for place in _places(len(order), position, stride):
        index = int(order[place])
        try:
            return Found(source.read(index), index, skipped)
        except Unreadable as error:
            skipped.append(Skipped(index, source.name(index), error.reason))
    raise TooManyUnreadable(
        f"none of the {len(order):,} images can be read; the first: {_listed(skipped[:3])}: "
        "check the folder and its disk"
    )


def read_or_next(
    source: Source, order: Int64[Tensor, "L"], place: Int64[Tensor, "B"], *, stride: int
) -> tuple[Tensor | list[Tensor], Int64[Tensor, "B"], list[Skipped]]:
    """Pixels and index of the samples at `place` (modulo the length) of an order; `replace_unreadable` for each.

    The pixels are one tensor (B, C, H, W) where all sizes are equal, else a list of (C, H, W).
    """
    if isinstance(source, Cached) and not source.failures:
        index = order[place % len(order)]
        return source.pixels(index), index, []
    found = [replace_unreadable(source, order, position, stride) for position in place.tolist()]
    index = torch.tensor([sample.index for sample in found], dtype=torch.int64)
    return stacked([sample.pixels for sample in found]), index, [s for sample in found for s in sample.skipped]


class Skips:
    """The unreadable images of a run, each once, and the bound on their number.

    size: images in the data set. allowed: the fraction of them that may be unreadable. One image may always be, so that
    a single bad file never stops a run on fewer than 1,000 images; `allowed=0` allows none.
    path: `skipped.jsonl`, one object {"index", "name", "reason"} a line; lines of an earlier start are kept and not
    written twice, and count once they are added again (`still_unreadable`). None: nothing is written (ranks other than
    the first).
    """

    def __init__(self, path: Path | None, size: int, *, allowed: float = ALLOWED) -> None:
        if not 0 <= allowed <= 1:
            raise ValueError(f"the allowed fraction of unreadable images is {allowed}: give a number from 0 to 1")
        self.path, self.size, self.allowed = path, size, allowed
        self.bound = max(1, math.floor(allowed * size + 1e-9)) if allowed else 0
        self.met: dict[int, Skipped] = {}
        self._written, self._torn = _earlier(path)

    def __len__(self) -> int:
        return len(self.met)

    def add(self, skipped: Iterable[Skipped]) -> None:
        """Takes note of these. Raises TooManyUnreadable once there are more than allowed, after writing them down."""
        new = [record for record in {s.index: s for s in skipped}.values() if record.index not in self.met]
        self.met.update({record.index: record for record in new})
        self._write([record for record in new if (record.index, record.name) not in self._written])
        if new and len(self.met) > self.bound:
            raise TooManyUnreadable(self._sentence())

    def _write(self, records: list[Skipped]) -> None:
        if self.path is None or not records:
            return
        lines = [json.dumps({"index": r.index, "name": r.name, "reason": r.reason}) + "\n" for r in records]
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._torn + "".join(lines))
        except OSError as error:  # what fails while bytes go out does not name the file
            raise OSError(error.errno, error.strerror or str(error), str(self.path)) from error
        self._torn = False
        self._written |= {(record.index, record.name) for record in records}

    def _sentence(self) -> str:
        count, fraction = len(self.met), len(self.met) / self.size
        more = next((step for step in _STEPS if step >= 2 * fraction), 1.0)
        where = f" (all are listed in {shown(str(self.path))})" if self.path else ""
        return (
            f"{count:,} of {self.size:,} images ({fraction:.2%}) cannot be read, more than the {self.allowed:.2%} "
            f"allowed; the first: {_listed(list(self.met.values())[:3])}: repair or remove them{where}, "
            f"or allow more with --max-bad {more:g}"
        )


def still_unreadable(path: Path, source: Source) -> list[Skipped]:
    """What an earlier start listed in `path` and cannot be read now either: a run that goes on counts it at once.

    Repaired files, and lines about other images, are forgotten.
    """
    found = []
    for index, name in sorted(_earlier(path)[0]):
        if 0 <= index < len(source) and source.name(index) == name:
            try:
                source.read(index)
            except Unreadable as error:
                found.append(Skipped(index, name, error.reason))
    return found


def _places(length: int, position: int, stride: int) -> Iterator[int]:
    """Every position once: by the stride until it comes round, then one by one."""
    common = math.gcd(length, stride)
    yield from ((position + step * stride) % length for step in range(length // common))
    # the stride has been at all multiples of `common` from here
    yield from ((position + step) % length for step in range(1, length) if step % common)


def _listed(skipped: list[Skipped]) -> str:
    return ", ".join(f"{shown(record.name)} ({record.reason})" for record in skipped)


def _earlier(path: Path | None) -> tuple[set[tuple[int, str]], bool]:
    """What an earlier start wrote, and whether its last line is torn."""
    if path is None or not path.exists():
        return set(), False
    text = path.read_text(encoding="utf-8", errors="replace")
    written = set()
    for line in text.splitlines():
        try:
            row = json.loads(line)
            written.add((int(row["index"]), str(row["name"])))
        except (ValueError, KeyError, TypeError):  # a torn line
            continue
    return written, bool(text) and not text.endswith("\n")
