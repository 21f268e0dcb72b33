"""A benchmark of copies as rows: each image is decoded once, whole, and described by all models."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lookalike.api.ahead import decoded
from lookalike.api.sides import Entry, Sides
from lookalike.data import CopyFolder, Images, Skipped, Skips
from lookalike.data.copies import Edits
from lookalike.evaluation import extract
from lookalike.training.progress import Line
from lookalike.transforms import Whole
from lookalike.transforms.geometry import resample

BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Described:
    """One model's rows of queries, references and background, of which an entry has none."""

    query: Tensor
    reference: Tensor
    background: Tensor


@dataclass(frozen=True, kw_only=True)
class Haystack:
    """The readable images: rows by the name of the model, the true pairs among them, and what was done to queries."""

    rows: dict[str, Described]
    truth: Tensor
    edits: Edits | None


def haystack(
    folder: CopyFolder,
    models: Sequence[Sides],
    entries: Sequence[Entry],
    *,
    device: torch.device,
    max_bad: float,
    line: Line,
) -> Haystack:
    """Describes all images. Unreadable ones are left out, with their true pairs, and counted in a note.

    Raises ValueError where more than the share `max_bad` of a part is unreadable, or no true pair is left.
    """
    queries, references = [(m.query, m.size) for m in models], [(m.reference, m.size) for m in models]
    parts = [
        _described(folder.queries, queries, "queries", device, max_bad, line),
        _described(folder.references, references, "references", device, max_bad, line),
    ]
    if folder.background is not None:
        parts.append(_described(folder.background, references, "background", device, max_bad, line))
    (query_index, query_rows), (reference_index, reference_rows), *background = parts
    nothing = [torch.empty(0, rows.shape[1]) for rows in reference_rows]
    background_rows = background[0][1] if background else nothing
    described = {
        model.name: Described(query=query, reference=reference, background=others)
        for model, query, reference, others in zip(models, query_rows, reference_rows, background_rows, strict=True)
    }
    for entry in entries:
        query, reference = entry.rows.query[query_index], entry.rows.reference[reference_index]
        described[entry.name] = Described(query=query, reference=reference, background=query[:0])
    return Haystack(
        rows=described,
        truth=_left(folder, query_index, reference_index, line),
        edits=None if folder.edits is None else [folder.edits[i] for i in query_index.tolist()],
    )


def whole(images: Sequence[Tensor], size: int) -> Tensor:
    """(B, C, size, size) uint8: all of each image, whatever its proportions."""
    regions = Whole(size).regions({}, [(image.shape[1], image.shape[2]) for image in images])
    return torch.stack([resample(image, region) for image, region in zip(images, regions, strict=True)])


def _described(
    source: Images,
    modules: Sequence[tuple[nn.Module, int]],
    what: str,
    device: torch.device,
    max_bad: float,
    line: Line,
) -> tuple[Tensor, list[Tensor]]:
    """The numbers of the readable images, and their rows by each module with its size."""
    skips, skipped = Skips(None, len(source), allowed=max_bad), list[Skipped]()
    indices: list[Tensor] = []
    rows: list[list[Tensor]] = [[] for _ in modules]
    with line.track(f"Describing {what}", len(source)) as advance:
        for index, images in decoded(source, range(len(source)), BATCH, skipped):
            views = {size: whole(images, size) for size in {size for _, size in modules}}
            for found, (module, size) in zip(rows, modules, strict=True):
                found.append(extract(module, [(index, views[size])], device=device).rows)
            indices.append(index)
            skips.add(skipped)
            advance(len(index))
    skips.add(skipped)
    if skips.met:
        names = ", ".join(one.name for one in list(skips.met.values())[:5])
        line.say(f"unreadable {what}, left out: {len(skips.met):,} of {skips.size:,}, first {names}")
    if not indices:
        raise ValueError(f"none of the {len(source):,} {what} could be read: check the files")
    return torch.cat(indices), [torch.cat(found) for found in rows]


def _left(folder: CopyFolder, query_index: Tensor, reference_index: Tensor, line: Line) -> Tensor:
    """The true pairs of readable images, by their new numbers."""
    places = []
    for source, index in ((folder.queries, query_index), (folder.references, reference_index)):
        place = torch.full((len(source),), -1)
        place[index] = torch.arange(len(index))
        places.append(place)
    truth = torch.stack([place[column] for place, column in zip(places, folder.truth.unbind(1), strict=True)], dim=1)
    there = (truth >= 0).all(1)
    if not there.any():
        raise ValueError(f"all {len(there):,} true pairs have an unreadable image: check the files")
    if not there.all():
        line.say(f"{int((~there).sum()):,} of {len(there):,} true pairs have an unreadable image and do not count")
    return truth[there]
