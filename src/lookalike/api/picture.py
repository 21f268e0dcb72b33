"""A picture of neighbors: queries, and beside each what lies nearest before and after training."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Bool, UInt8
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WRONG, INK, PALE = "#d1495b", "#22223b", "#e3e3e8"
TILE, GAP = 0.88, 0.6  # of a column: an image, and the space between the parts
INCH = 0.62  # a column on paper


@dataclass(frozen=True)
class Rows:
    """Q queries with their k nearest images, best first; same: of the query's class."""

    queries: UInt8[Tensor, "Q C H W"]
    neighbors: UInt8[Tensor, "Q k C H W"]
    same: Bool[Tensor, "Q k"]


def draw(path: Path, before: Rows, after: Rows) -> None:
    """Writes a PNG: a row per query, its neighbors before and after training, those of another class framed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count, k = after.same.shape
    width, height = 2 * k + 1 + 2 * GAP, count + 1.45
    figure = Figure(figsize=(INCH * (width + 0.6), INCH * height), dpi=160, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    left, right = 1 + GAP, 1 + 2 * GAP + k
    for row, query in enumerate(after.queries):
        _tile(axes, query, 0.0, float(row), INK)
    _part(axes, before, left, "before training")
    _part(axes, after, right, "after training")
    axes.text(TILE / 2, -0.2, "query", ha="center", va="bottom", fontsize=9, color=INK)
    note = "nearest training images, best first; in a red frame: another class than the query's"
    axes.text(0, count + 0.25, note, ha="left", va="center", fontsize=8, color=INK)
    axes.set(xlim=(-0.3, width + 0.3 - (1 - TILE)), ylim=(count + 0.6, -0.85), aspect="equal")
    axes.axis("off")
    FigureCanvasAgg(figure).print_png(path)


def _part(axes: "Axes", side: Rows, start: float, title: str) -> None:
    count, k = side.same.shape
    for row in range(count):
        for place in range(k):
            color = PALE if side.same[row, place] else WRONG
            _tile(axes, side.neighbors[row, place], start + place, float(row), color)
    text = f"{title}: {int(side.same.sum())} of {side.same.numel()} of the same class"
    axes.text(start, -0.2, text, ha="left", va="bottom", fontsize=9, weight="bold", color=INK)


def _tile(axes: "Axes", pixels: Tensor, x: float, y: float, color: str) -> None:
    """Dark ink on white paper: the digits are bright on black."""
    from matplotlib.patches import Rectangle

    place = (x, x + TILE, y + TILE, y)
    axes.imshow(pixels[0].numpy(), extent=place, cmap="gray_r", vmin=0, vmax=255, interpolation="bilinear")
    width = 2.4 if color == WRONG else 0.8
    axes.add_patch(Rectangle((x, y), TILE, TILE, fill=False, edgecolor=color, linewidth=width))
