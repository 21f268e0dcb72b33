"""views: what the augmentations do to some images, drawn as training draws them; as tiles, and as one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lookalike.api.pretrain import chosen
from lookalike.api.sources import Others
from lookalike.api.tiles import fitted, picture
from lookalike.data import Images, Unreadable
from lookalike.data.decode import shown
from lookalike.functional import random
from lookalike.recipes import Recipe, build_views
from lookalike.training.files import replacing
from lookalike.transforms import Views
from lookalike.transforms.words import words

TILE, GAP = 112, 8  # pixels of an image on the sheet, and between two
MARGIN, HEAD, LINE = 24, 72, 16  # pixels around the sheet, above its columns, and of a line of text
MOST = 8  # columns of views that a screen holds beside the image itself
PAPER, INK, PALE = "#ffffff", "#22223b", "#6c6c80"
KINDS = (".png", ".webp", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Row:
    """An image: its name, its pixels as decoded, and the pixels of each draw of each view, views in order."""

    name: str
    decoded: UInt8[Tensor, "C H W"]
    draws: dict[str, list[Tensor]]


@dataclass(frozen=True)
class Sheet:
    """Images and their views; plan says in words what each view is; passed counts images that could not be read."""

    rows: list[Row]
    plan: dict[str, str]
    passed: int

    @property
    def side(self) -> int:
        """Pixels of the largest view: smaller ones are shown smaller."""
        return max(len(draw[0]) for row in self.rows for draws in row.draws.values() for draw in draws)


def views(
    data: Any,
    *,
    out: str | PathLike[str],
    method: str | None = None,
    recipe: str | None = None,
    overrides: str | Sequence[str] = (),
    images: int = 6,
) -> Path:
    """Writes a picture: a row for each of some images, as decoded and then by every view of the recipe's plan.

    The recipe is found as `pretrain` finds it. The draws of a view are those that the first epochs of training show.
    out: FILE.png, .webp or .jpg. The same images, recipe and seed give the same pixels. Raises ValueError in one
    sentence where `out` ends otherwise, no image can be read, or the recipe cannot be found.
    """
    place = Path(out)
    if place.suffix.lower() not in KINDS:
        raise ValueError(f"--out {place} is no picture: name a file that ends in {', '.join(KINDS)}")
    if images < 1:
        raise ValueError(f"a sheet of {images} images is empty: ask for 1 or more")
    settled, source, _ = chosen(data, method, recipe, overrides, least=1)
    drawing = painted(sheet(source, settled, images))
    with replacing(place) as temporary:
        drawing.save(temporary, format=Image.registered_extensions()[place.suffix.lower()])
    return place


def sheet(source: Images, recipe: Recipe, images: int) -> Sheet:
    """Some images, chosen by the recipe's seed, and what the first epochs of training see of them.

    Raises ValueError where none can be read.
    """
    plan = build_views(recipe, Others(source))
    epochs = max(1, MOST // len(plan.plan))
    order = torch.randperm(len(source), generator=random.generator("views sheet", recipe.seed)).tolist()
    rows, passed = list[Row](), 0
    for index in order:
        try:
            rows.append(_row(source, index, plan, recipe.seed, epochs))
        except Unreadable:
            passed += 1
        if len(rows) == images:
            break
    if not rows:
        raise ValueError(f"none of the {len(source):,} images can be read: check that they open in an image viewer")
    return Sheet(rows, {name: words(chain) for name, chain in plan.plan.items()}, passed)


def _row(source: Images, index: int, plan: Views, seed: int, epochs: int) -> Row:
    image = source.read(index)
    draws: dict[str, list[Tensor]] = {name: [] for name in plan.plan}
    for epoch in range(epochs):
        parameters = plan.draw(torch.tensor([index]), seed=seed, epoch=(0, epoch))
        for name, pixels in plan.render([image], parameters).items():
            draws[name].append(pixels[0])
    return Row(source.name(index), image, draws)


def painted(found: Sheet) -> Image.Image:
    """The sheet as one picture."""
    columns = 1 + sum(map(len, found.rows[0].draws.values()))
    width = 2 * MARGIN + columns * TILE + (columns + len(found.plan) - 1) * GAP
    height = HEAD + len(found.rows) * (TILE + LINE + GAP) + len(found.plan) * LINE + 2 * MARGIN
    canvas = Image.new("RGB", (width, height), PAPER)
    pen, large, small = ImageDraw.Draw(canvas), ImageFont.load_default(15), ImageFont.load_default(11)
    pen.text((MARGIN, HEAD - 30), "as decoded", INK, large)
    for name, left in _columns(found):
        pen.text((left, HEAD - 30), name, INK, large)
        for epoch in range(len(found.rows[0].draws[name])):
            pen.text((left + epoch * (TILE + GAP), HEAD - 13), f"epoch {epoch + 1}", PALE, small)
    for number, row in enumerate(found.rows):
        top = HEAD + GAP + number * (TILE + LINE + GAP)
        _centered(canvas, fitted(row.decoded, TILE), MARGIN, top)
        pen.text((MARGIN, top + TILE + 2), _short(row.name, columns), PALE, small)
        for name, left in _columns(found):
            for epoch, pixels in enumerate(row.draws[name]):
                side = max(1, round(TILE * len(pixels[0]) / found.side))
                _centered(canvas, fitted(pixels, side, enlarge=True), left + epoch * (TILE + GAP), top)
    for number, (name, text) in enumerate(found.plan.items()):
        pen.text((MARGIN, height - MARGIN - (len(found.plan) - number) * LINE), f"{name}: {text}", INK, small)
    return canvas


def _columns(found: Sheet) -> list[tuple[str, int]]:
    """Views, and where the first draw of each begins."""
    left, places = MARGIN + TILE + 2 * GAP, []
    for name, draws in found.rows[0].draws.items():
        places.append((name, left))
        left += len(draws) * (TILE + GAP) + GAP
    return places


def _centered(canvas: Image.Image, tile: Tensor, left: int, top: int) -> None:
    drawn = picture(tile)
    canvas.paste(drawn, (left + (TILE - drawn.width) // 2, top + (TILE - drawn.height) // 2))


def _short(name: str, columns: int) -> str:
    """A name that fits under its row."""
    text, most = shown(name), columns * TILE // 7
    return text if len(text) <= most else f"…{text[1 - most :]}"
