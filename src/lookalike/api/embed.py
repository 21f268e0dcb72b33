"""embed: a row of numbers for each image, into one file, by one process or many; what was stopped goes on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lookalike.api.ahead import decoded
from lookalike.api.folder import RunFolder
from lookalike.api.rows import Part, Parts
from lookalike.data import Images, Skipped, Skips, open_source
from lookalike.evaluation import extract, fingerprint
from lookalike.functional.collectives import agree, rank, world
from lookalike.modules import Descriptor, Encoder
from lookalike.recipes import view_size
from lookalike.training.processes import processes
from lookalike.training.progress import Line
from lookalike.transforms import Views, eval_chain

PART = 2048  # images; what is lost at the most where a process is killed


@dataclass(frozen=True)
class Embedded:
    """What `embed` wrote: the file, rows and numbers in each, and the images that could not be read."""

    path: Path
    rows: int
    dim: int
    skipped: tuple[Skipped, ...]


def embed(
    run: str | PathLike[str],
    data: Any,
    *,
    out: str | PathLike[str],
    role: str = "encoder",
    batch: int = 128,
    part: int = PART,
    device: str = "auto",
    max_bad: float = 0.001,
    quiet: bool = True,
) -> Embedded:
    """Writes the features of the central view of every readable image, in the order of the source.

    out: FILE.parquet with the columns "id" and "embedding" (lists of float32), or FILE.npy with the ids beside it in
    FILE.ids.json; bytes of a name that are no UTF-8 are \\xNN there. batch: images computed at once; part: images
    between two saves. The file is written whole or not at all; until then finished parts lie in OUT.parts, and the
    same command goes on from there. Under torchrun each process takes every R-th part, and the file has the same
    bytes. Unreadable images are listed in OUT.skipped.jsonl; above the share `max_bad` nothing is written. Raises
    ValueError where the run has not finished, `out` is there or ends otherwise, or its parts belong to other rows.
    """
    folder, place = RunFolder(Path(run)), Path(out)
    if min(batch, part) < 1:
        raise ValueError(f"a batch of {batch} and a part of {part} images hold nothing: use 1 or more")
    encoder, recipe = folder.encoder(role), folder.recipe()
    source, size = open_source(data, channels=recipe.data.channels), view_size(recipe)
    facts = {"encoder": fingerprint(encoder), "images": source.identity(), "size": size, "batch": batch, "part": part}
    numbers = range(-(-len(source) // part))
    with processes(device) as here, Line(quiet=quiet or rank() != 0) as line:
        parts = Parts(place, facts)
        if rank() == 0:
            parts.begin()
        agree(True)  # nobody writes before the folder is there
        work = Work(encoder.to(here), source, size, batch, part, here)
        failure = _computed(work, parts, numbers[rank() :: world()], max_bad, line)
        if not agree(failure is None):
            raise failure or ValueError("another process could not go on: see what it says")
        wrote = _joined(parts, numbers, len(source), max_bad, line) if rank() == 0 else None
        agree(True)
    return wrote or Embedded(place, 0, encoder.dim, ())


def _computed(work: "Work", parts: Parts, todo: Sequence[int], max_bad: float, line: Line) -> Exception | None:
    """Makes the parts that are not there yet; what went wrong, so that all processes can stop together."""
    skips = Skips(None, len(work.source), allowed=max_bad)
    try:
        with line.track("Embedding images", sum(len(work.index(number)) for number in todo)) as advance:
            for number in todo:
                done = parts.read(number) or parts.write(number, work.rows(number))
                skips.add(done.skipped)
                advance(len(done.ids) + len(done.skipped))
    except (ValueError, OSError) as error:
        return error
    return None


def _joined(parts: Parts, numbers: Sequence[int], images: int, max_bad: float, line: Line) -> Embedded:
    """All parts as one file. Raises ValueError where too many images of all processes could not be read."""
    ledger = Skips(parts.out.with_name(parts.out.name + ".skipped.jsonl"), images, allowed=max_bad)
    for number in numbers:
        part = parts.read(number)
        assert part is not None
        ledger.add(part.skipped)
    rows, dim = parts.join(numbers)
    line.say(f"wrote {parts.out}: {rows:,} rows of {dim} numbers")
    if ledger.met:
        line.say(f"{len(ledger.met):,} of {images:,} images could not be read: {ledger.path}")
    return Embedded(parts.out, rows, dim, tuple(ledger.met.values()))


def text(name: str) -> str:
    """The name of an image as text that any file can hold: bytes that are no UTF-8 as \\xNN."""
    return "".join(_escaped(ord(one)) if "\ud800" <= one <= "\udfff" else one for one in name)


def _escaped(code: int) -> str:
    """A surrogate, which stands for a byte, or for nothing."""
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


@dataclass(frozen=True)
class Work:
    """What a part is computed from."""

    encoder: Encoder | Descriptor
    source: Images
    size: int
    batch: int
    part: int
    device: torch.device

    def index(self, number: int) -> range:
        """The images of a part."""
        return range(number * self.part, min((number + 1) * self.part, len(self.source)))

    def rows(self, number: int) -> Part:
        """Rows of the readable images of one part, always in the same batches."""
        skipped: list[Skipped] = []
        batches = self.batches(self.index(number), skipped)
        first = next(batches, None)
        if first is None:  # none of them can be read
            return Part([], torch.empty(0, self.encoder.dim), skipped)
        features = extract(self.encoder, chain([first], batches), device=self.device)
        return Part([text(self.source.name(i)) for i in features.index.tolist()], features.rows, skipped)

    def batches(self, index: Sequence[int], skipped: list[Skipped]) -> Iterator[tuple[Tensor, Tensor]]:
        """(index, central views)."""
        views = Views({"center": eval_chain(self.size)})
        for rows, images in decoded(self.source, index, self.batch, skipped):
            yield rows, views.render(images, views.draw(rows, seed=0, epoch=(0, 0)))["center"]
