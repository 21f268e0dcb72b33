"""The run's encoder over a sample of images: their features, and small pictures of what the encoder saw."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from lookalike.api.embed import Work
from lookalike.api.report.collect import Told
from lookalike.api.sources import opened
from lookalike.api.tiles import fitted
from lookalike.data import Images, Skipped
from lookalike.evaluation import extract
from lookalike.functional import random
from lookalike.recipes import view_size
from lookalike.training.processes import pick
from lookalike.training.progress import Line, steps_of

BATCH = 128
SIDES = ((1_500, 96), (4_000, 64), (9_000, 48))  # up to so many images: pixels of a small picture
LEAST = 32


@dataclass(frozen=True)
class Encoded:
    """N images: their number in the source, name, features, and small square pictures of side S.

    images: how many the source holds; skipped: how many of the sample could not be read.
    """

    index: Int64[Tensor, "N"]
    names: list[str]
    rows: Float32[Tensor, "N D"]
    thumbs: UInt8[Tensor, "N C S S"]
    images: int
    skipped: int


def images_of(told: Told, data: Any, line: Line) -> tuple[Images | None, str]:
    """The images to show, and a sentence about them: those of `data`, else the training images if they are still there.

    Only local paths are opened unasked. Raises ValueError where `data` is given and holds no images.
    """
    if data is not None:
        source = opened(data, told.recipe.data, line)
        same = source.identity() == told.manifest.get("identity")
        return source, f"Images of {data}{' (those of the training)' if same else ', not those of the training'}."
    place = told.manifest.get("data")
    if not isinstance(place, str) or not Path(place).exists():
        where = f"lay at {place}, which is not there" if isinstance(place, str) else "are not known"
        return None, f"The training images {where}: name a folder with --data to see neighbors, map and views."
    try:
        source = opened(place, told.recipe.data, line)
    except ValueError as error:
        return None, f"The training images cannot be shown: {error}."
    changed = "" if source.identity() == told.manifest.get("identity") else " They have changed since."
    return source, f"The training images, {place}.{changed}"


def encoded(told: Told, source: Images, most: int, device: str, line: Line) -> Encoded | None:
    """Features of all images, or of `most` chosen by the recipe's seed; None where none of them can be read."""
    encoder, size, place = told.folder.shown(), view_size(told.recipe), pick(device)
    index = sample(len(source), most, told.recipe.seed)
    side = min(size, next((side for count, side in SIDES if len(index) <= count), LEAST))
    work = Work(encoder.to(place), source, size, BATCH, len(index), place)
    skipped, thumbs = list[Skipped](), list[Tensor]()

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for numbers, views in work.batches(index, skipped):
            thumbs.extend(fitted(view, side) for view in views)
            yield numbers, views

    with line.track("Encoding images for the report", len(index)) as advance:
        try:
            found = extract(encoder, batches(), device=place, on_progress=steps_of(advance))
        except ValueError:
            if thumbs:
                raise
            return None  # there was no batch
    return Encoded(
        index=found.index,
        names=[source.name(i) for i in found.index.tolist()],
        rows=found.rows,
        thumbs=torch.stack(thumbs),
        images=len(source),
        skipped=len(skipped),
    )


def sample(images: int, most: int, seed: int) -> list[int]:
    """All numbers below `images`, or `most` of them in order, the same for the same seed."""
    if images <= most:
        return list(range(images))
    return torch.randperm(images, generator=random.generator("report map", seed))[:most].sort().values.tolist()
