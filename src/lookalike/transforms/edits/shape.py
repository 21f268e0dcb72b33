"""Edits that move pixels: crops, borders, turns, mirrors, perspective. Pictures are RGB; W width, H height."""

import math

import numpy as np
from PIL import Image

from lookalike.transforms.edits.family import Family, Rule, between, either, seed, signed, steps, uniforms

FILLS = ("#000000", "#ffffff", "#808080", "#1d3557", "#e63946", "#f1c40f")  # of borders and corners
BILINEAR = Image.Resampling.BILINEAR
TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
MIRRORS = {"sideways": Image.Transpose.FLIP_LEFT_RIGHT, "upside down": Image.Transpose.FLIP_TOP_BOTTOM}
LEAST = 4  # pixels of the shorter side that shrinking leaves


def crop(image: Image.Image, area: float, across: float, down: float) -> Image.Image:
    """A box of a share of the area and the picture's own shape; across, down in [0, 1]: where it lies."""
    side = math.sqrt(area)
    return _boxed(image, side, side, across, down)


def strip(image: Image.Image, share: float, along: str, at: float) -> Image.Image:
    """A share of the width ("width") or of the height, whole in the other direction."""
    wide = along == "width"
    return _boxed(image, share if wide else 1.0, 1.0 if wide else share, at, at)


def letterbox(image: Image.Image, share: float, along: str, color: str) -> Image.Image:
    """Two bars that make up a share of the new picture, left and right ("width") or above and below."""
    (width, height), more = image.size, share / (1 - share) / 2
    if along == "width":
        return _framed(image, max(1, round(more * width)), 0, color)
    return _framed(image, 0, max(1, round(more * height)), color)


def border(image: Image.Image, share: float, color: str) -> Image.Image:
    """A border all around, of a share of the shorter side."""
    width = max(1, round(share * min(image.size)))
    return _framed(image, width, width, color)


def shrink(image: Image.Image, scale: float) -> Image.Image:
    """Both sides scaled down, and up again to the size they had."""
    small = [max(min(LEAST, side), round(side * scale)) for side in image.size]
    return image.resize((small[0], small[1]), BILINEAR).resize(image.size, BILINEAR)


def rotate(image: Image.Image, degrees: float, color: str) -> Image.Image:
    """Turned about its center, on the same canvas."""
    return image.rotate(degrees, BILINEAR, fillcolor=color)


def turn(image: Image.Image, degrees: int, area: float, across: float, down: float) -> Image.Image:
    """A quarter, half or three-quarter turn of a crop."""
    return crop(image, area, across, down).transpose(TURNS[degrees])


def flip(image: Image.Image, direction: str, area: float, across: float, down: float) -> Image.Image:
    """The mirror image of a crop."""
    return crop(image, area, across, down).transpose(MIRRORS[direction])


def perspective(image: Image.Image, reach: float, seed: int, color: str) -> Image.Image:
    """Each corner moves inwards by half to all of a share `reach` of the sides."""
    width, height = image.size
    inwards = [reach * (0.5 + 0.5 * u) for u in uniforms(seed, 8)]
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    moved = [
        (x + (width if x == 0 else -width) * across, y + (height if y == 0 else -height) * down)
        for (x, y), across, down in zip(corners, inwards[::2], inwards[1::2], strict=True)
    ]
    return image.transform(
        image.size, Image.Transform.PERSPECTIVE, _homography(moved, corners), BILINEAR, fillcolor=color
    )


def shuffle(image: Image.Image, tiles: int, seed: int) -> Image.Image:
    """Cut into tiles x tiles, which change places."""
    (width, height), count = image.size, tiles * tiles
    order = np.argsort(uniforms(seed, count)).tolist()
    order = order[1:] + order[:1] if order == list(range(count)) else order
    boxes = [
        (width * (n % tiles) // tiles, height * (n // tiles) // tiles,
         width * (n % tiles + 1) // tiles, height * (n // tiles + 1) // tiles)
        for n in range(count)
    ]  # fmt: skip
    mixed = image.copy()
    for (left, top, right, bottom), source in zip(boxes, order, strict=True):
        if right > left and bottom > top:
            mixed.paste(image.resize((right - left, bottom - top), BILINEAR, boxes[source]), (left, top))
    return mixed


def _boxed(image: Image.Image, wide: float, high: float, across: float, down: float) -> Image.Image:
    """The box of these shares of width and height."""
    (width, height) = image.size
    w, h = max(1, round(width * wide)), max(1, round(height * high))
    left, top = round(across * (width - w)), round(down * (height - h))
    return image.crop((left, top, left + w, top + h))


def _framed(image: Image.Image, across: int, down: int, color: str) -> Image.Image:
    canvas = Image.new("RGB", (image.width + 2 * across, image.height + 2 * down), color)
    canvas.paste(image, (across, down))
    return canvas


def _homography(places: list[tuple[float, float]], sources: list[tuple[int, int]]) -> list[float]:
    """Pillow's eight numbers of the projective map that takes each of four places to its source."""
    rows, values = [], []
    for (x, y), (u, v) in zip(places, sources, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.linalg.solve(np.array(rows, float), np.array(values, float)).tolist()


ANYWHERE: dict[str, Rule] = {"across": between(0.0, 1.0), "down": between(0.0, 1.0)}
ALONG, FILL = either("width", "height"), either(*FILLS)
TRIMMED: Rule = steps(1.0, 0.9, 0.8, 0.7, 0.6)  # turned and mirrored copies are often trimmed too
SHAPE = (
    Family("crop", crop, {"area": steps(0.9, 0.7, 0.5, 0.3, 0.15)} | ANYWHERE),
    Family(
        "strip",
        strip,
        {"share": steps(0.9, 0.8, 0.65, 0.5, 0.35), "along": ALONG, "at": between(0.0, 1.0)},
    ),
    Family(
        "letterbox",
        letterbox,
        {"share": steps(0.1, 0.2, 0.3, 0.4, 0.5), "along": ALONG, "color": FILL},
    ),
    Family("border", border, {"share": steps(0.04, 0.08, 0.14, 0.22, 0.32), "color": FILL}),
    Family("shrink", shrink, {"scale": steps(0.7, 0.5, 0.35, 0.25, 0.125)}),
    Family("rotate", rotate, {"degrees": signed(5.0, 10.0, 20.0, 30.0, 45.0), "color": FILL}),
    Family(
        "turn",
        turn,
        {"degrees": either(90, 180, 270), "area": TRIMMED} | ANYWHERE,
    ),
    Family(
        "flip",
        flip,
        {"direction": either("sideways", "upside down"), "area": TRIMMED} | ANYWHERE,
    ),
    Family(
        "perspective",
        perspective,
        {"reach": steps(0.05, 0.1, 0.16, 0.23, 0.3), "seed": seed, "color": FILL},
    ),
    Family("shuffle", shuffle, {"tiles": steps(2, 3, 4, 5, 6), "seed": seed}),
)
