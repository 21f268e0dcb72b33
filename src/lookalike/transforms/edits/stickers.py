"""Stickers, drawn: faces, a heart, a star, a sun, an arrow, a speech bubble, as RGBA pictures."""

import math
from collections.abc import Callable
from functools import lru_cache

from PIL import Image, ImageDraw

SIDE = 256  # pixels at which a sticker is drawn, before it is scaled
YELLOW, DARK, RED, WHITE = "#ffcc33", "#4a2c00", "#e63946", "#ffffff"

Pen = ImageDraw.ImageDraw


@lru_cache(maxsize=512)
def sticker(kind: str, side: int) -> Image.Image:
    """A sticker of KINDS on nothing, side x side pixels."""
    return _drawn(kind).resize((side, side), Image.Resampling.LANCZOS)


@lru_cache(maxsize=16)
def _drawn(kind: str) -> Image.Image:
    canvas = Image.new("RGBA", (SIDE, SIDE))
    DRAWINGS[kind](ImageDraw.Draw(canvas))
    return canvas


def _face(pen: Pen) -> None:
    pen.ellipse((8, 8, 248, 248), fill=YELLOW)


def _smile(pen: Pen) -> None:
    _face(pen)
    pen.ellipse((74, 76, 104, 120), fill=DARK)
    pen.ellipse((152, 76, 182, 120), fill=DARK)
    pen.chord((60, 100, 196, 214), 10, 170, fill=DARK)


def _tears(pen: Pen) -> None:
    _face(pen)
    pen.arc((56, 84, 112, 128), 190, 350, fill=DARK, width=12)
    pen.arc((144, 84, 200, 128), 190, 350, fill=DARK, width=12)
    pen.chord((64, 96, 192, 210), 5, 175, fill=DARK)
    pen.ellipse((24, 108, 70, 172), fill="#4cc9f0")
    pen.ellipse((186, 108, 232, 172), fill="#4cc9f0")


def _glasses(pen: Pen) -> None:
    _face(pen)
    pen.rectangle((34, 80, 222, 92), fill=DARK)
    pen.pieslice((40, 44, 122, 136), 0, 180, fill=DARK)
    pen.pieslice((134, 44, 216, 136), 0, 180, fill=DARK)
    pen.arc((76, 110, 188, 200), 20, 160, fill=DARK, width=12)


def _heart(pen: Pen) -> None:
    turns = [2 * math.pi * step / 90 for step in range(90)]
    pen.polygon(
        [
            (
                128 + 7.2 * 16 * math.sin(t) ** 3,
                118 - 7.2 * (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)),
            )
            for t in turns
        ],
        fill=RED,
    )


def _star(pen: Pen) -> None:
    pen.polygon(_spikes(5, 122.0, 50.0), fill="#ffd60a", outline="#b8860b", width=6)


def _sun(pen: Pen) -> None:
    pen.polygon(_spikes(12, 124.0, 88.0), fill="#ff9f1c")
    pen.ellipse((58, 58, 198, 198), fill="#ffd166")


def _arrow(pen: Pen) -> None:
    pen.polygon([(10, 96), (140, 96), (140, 40), (246, 128), (140, 216), (140, 160), (10, 160)], fill="#118ab2")


def _bubble(pen: Pen) -> None:
    pen.rounded_rectangle((12, 30, 244, 180), 48, fill=WHITE, outline=DARK, width=8)
    pen.polygon([(70, 174), (130, 174), (64, 240)], fill=WHITE)
    pen.line([(70, 178), (64, 240), (130, 178)], fill=DARK, width=8)
    for x in (76, 128, 180):
        pen.ellipse((x - 14, 92, x + 14, 120), fill=DARK)


def _spikes(count: int, outer: float, inner: float) -> list[tuple[float, float]]:
    """The corners of a star about the center, the first on top."""
    steps = range(2 * count)
    radii = [outer if step % 2 == 0 else inner for step in steps]
    turns = [math.pi * step / count for step in steps]
    return [(128 + r * math.sin(t), 128 - r * math.cos(t)) for r, t in zip(radii, turns, strict=True)]


DRAWINGS: dict[str, Callable[[Pen], None]] = {
    "smile": _smile,
    "tears": _tears,
    "glasses": _glasses,
    "heart": _heart,
    "star": _star,
    "sun": _sun,
    "arrow": _arrow,
    "bubble": _bubble,
}
KINDS = tuple(DRAWINGS)
