"""Edits with other pictures: on top of one, below one, beside some, through one."""

import math
from collections.abc import Sequence

from PIL import Image

from lookalike.transforms.edits.family import Family, between, steps, uniforms
from lookalike.transforms.edits.shape import ANYWHERE

Others = Sequence[Image.Image]


def overlay(image: Image.Image, others: Others, area: float, across: float, down: float) -> Image.Image:
    """The picture on another one, of whose area it takes a share."""
    return _pasted(filled(others[0], image.size), image, area, across, down)


def inset(image: Image.Image, others: Others, area: float, across: float, down: float) -> Image.Image:
    """Another picture on this one, of whose area it takes a share."""
    return _pasted(image, filled(others[0], image.size), area, across, down)


def collage(image: Image.Image, others: Others, columns: int, rows: int, place: float) -> Image.Image:
    """One of columns x rows pictures of one size; fewer others come again."""
    scale = max(columns, rows)
    size = max(1, image.width // scale), max(1, image.height // scale)
    own, canvas = int(place * columns * rows), Image.new("RGB", (columns * size[0], rows * size[1]))
    pieces = [filled(other, size) for other in others[: columns * rows - 1]]
    for cell in range(columns * rows):
        piece = image.resize(size, Image.Resampling.BILINEAR) if cell == own else pieces[cell % len(pieces)]
        canvas.paste(piece, (cell % columns * size[0], cell // columns * size[1]))
    return canvas


def blend(image: Image.Image, others: Others, share: float) -> Image.Image:
    """Another picture shines through."""
    return Image.blend(image, filled(others[0], image.size), share)


def filled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The largest central box of the shape of `size`, at that size."""
    width = min(image.width, image.height * size[0] / size[1])
    height = min(image.height, image.width * size[1] / size[0])
    left, top = (image.width - width) / 2, (image.height - height) / 2
    return image.resize(size, Image.Resampling.BILINEAR, (left, top, left + width, top + height))


def stand_in(share: float, size: tuple[int, int]) -> Image.Image:
    """A slope between two colors, where no other picture can be had: a pure function of the share in [0, 1)."""
    u = [round(255 * level) for level in uniforms(int(share * 2**32), 6)]
    (first, second), mask = ((*u[:3],), (*u[3:],)), Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, first), Image.new("RGB", size, second), mask)


def _pasted(below: Image.Image, above: Image.Image, area: float, across: float, down: float) -> Image.Image:
    side = math.sqrt(area)
    size = max(1, round(below.width * side)), max(1, round(below.height * side))
    canvas = below.copy()
    place = round(across * (below.width - size[0])), round(down * (below.height - size[1]))
    canvas.paste(above.resize(size, Image.Resampling.BILINEAR), place)
    return canvas


SCENE = (
    Family("overlay", overlay, {"area": steps(0.8, 0.6, 0.45, 0.3, 0.2)} | ANYWHERE, 1),
    Family("inset", inset, {"area": steps(0.1, 0.2, 0.32, 0.45, 0.6)} | ANYWHERE, 1),
    Family(
        "collage",
        collage,
        {"columns": steps(2, 3, 2, 3, 3), "rows": steps(1, 1, 2, 2, 3), "place": between(0.0, 0.9999)},
        3,
    ),
    Family("blend", blend, {"share": steps(0.15, 0.25, 0.35, 0.45, 0.55)}, 1),
)
