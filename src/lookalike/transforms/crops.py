"""The geometry of a view: which region of an image it shows, drawn from uniform numbers, resized to its side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from lookalike.transforms import ops
from lookalike.transforms.geometry import INTERPOLATIONS, Draws, Region, overlapping_box, random_box

Values = Mapping[str, Shaped[Tensor, "B ..."]]  # a transform's parameters by name, one row per sample
Uniform = Float64[Tensor, "B K"]
Sizes = Sequence[tuple[int, int]]  # (height, width) of each image
TRIES = 10  # of torchvision's RandomResizedCrop


@dataclass(frozen=True)
class RandomResizedCrop:
    """A box of a random share `scale` of the area and a random `ratio` width / height, resampled to size x size.

    Inception's crop, with the rule of torchvision. Values: "areas" and "log_ratios" (B, 10), "across", "down" (B,).
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"
    columns: ClassVar[int] = 2 * TRIES + 2

    def __post_init__(self) -> None:
        _check_size(self)
        _check_interpolation(self)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"RandomResizedCrop takes 0 < low <= high <= 1 as scale, got {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"RandomResizedCrop takes 0 < low <= high as ratio, got {self.ratio}")

    def draw(self, u_BK: Uniform) -> Values:
        areas, ratios, across, down = u_BK.split([TRIES, TRIES, 1, 1], dim=1)
        logs = math.log(self.ratio[0]), math.log(self.ratio[1])
        return {
            "areas": between(self.scale, areas),
            "log_ratios": between(logs, ratios),
            "across": across[:, 0],
            "down": down[:, 0],
        }

    def regions(self, values: Values, sizes: Sizes) -> list[Region]:
        columns = (values[name].tolist() for name in ("areas", "log_ratios", "across", "down"))
        return [
            Region(*random_box(Draws(*row), height, width, self.ratio), self.size, self.size, self.interpolation)
            for row, (height, width) in zip(zip(*columns, strict=True), sizes, strict=True)
        ]


@dataclass(frozen=True)
class OverlappingCrop:
    """A box drawn as by `crop` until the share `overlap` of it lies in the view `of`, whose crop is `anchor`.

    After ten draws in vain it is `crop`'s box, wherever that lies (Van Gansbeke et al. 2021, constrained_cropping.py).
    Values: those of `crop`, "tries" (B, 10, 4), and "of/..." of the anchor, which Views adds.
    """

    crop: RandomResizedCrop
    of: str
    anchor: RandomResizedCrop
    overlap: float = 0.1
    columns: ClassVar[int] = RandomResizedCrop.columns + 4 * TRIES

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"OverlappingCrop takes a share from 0 to 1 as overlap, got {self.overlap}")

    @property
    def size(self) -> int:
        return self.crop.size

    def draw(self, u_BK: Uniform) -> Values:
        free, tries = u_BK.split([RandomResizedCrop.columns, 4 * TRIES], dim=1)
        areas, ratios, across, down = tries.split(TRIES, dim=1)
        logs = math.log(self.crop.ratio[0]), math.log(self.crop.ratio[1])
        columns = (between(self.crop.scale, areas), between(logs, ratios), across, down)
        return {**self.crop.draw(free), "tries": torch.stack(columns, dim=2)}

    def regions(self, values: Values, sizes: Sizes) -> list[Region]:
        others = self.anchor.regions({name.removeprefix("of/"): value for name, value in values.items()}, sizes)
        free = self.crop.regions(values, sizes)
        boxes = [
            overlapping_box(tries, height, width, other, self.overlap)
            for tries, (height, width), other in zip(values["tries"].tolist(), sizes, others, strict=True)
        ]
        return [Region(*box, *one[4:]) if box else one for box, one in zip(boxes, free, strict=True)]


@dataclass(frozen=True)
class Resize:
    """The short side becomes `size`, the long side keeps the proportion."""

    size: int
    interpolation: str = "bilinear"
    columns: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _check_size(self)
        _check_interpolation(self)

    def draw(self, u_BK: Uniform) -> Values:
        return {}

    def regions(self, values: Values, sizes: Sizes) -> list[Region]:
        return [
            Region(0, 0, w, h, self.size * w // min(h, w), self.size * h // min(h, w), self.interpolation)
            for h, w in sizes
        ]


@dataclass(frozen=True)
class CenterCrop:
    """The central size x size pixels. `regions` raises ValueError for an image that is smaller."""

    size: int
    columns: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _check_size(self)

    def draw(self, u_BK: Uniform) -> Values:
        return {}

    def regions(self, values: Values, sizes: Sizes) -> list[Region]:
        side = self.size
        for h, w in sizes:
            if min(h, w) < side:
                raise ValueError(f"CenterCrop({side}) does not fit into {h} x {w} pixels: put a Resize before it")
        return [Region(round((w - side) / 2), round((h - side) / 2), side, side, side, side) for h, w in sizes]


@dataclass(frozen=True)
class Whole:
    """All of the image, resampled to size x size whatever its proportions."""

    size: int
    interpolation: str = "bilinear"
    columns: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _check_size(self)
        _check_interpolation(self)

    def draw(self, u_BK: Uniform) -> Values:
        return {}

    def regions(self, values: Values, sizes: Sizes) -> list[Region]:
        return [Region(0, 0, w, h, self.size, self.size, self.interpolation) for h, w in sizes]


# each is read alone; what Resize, CenterCrop and Whole have in common are the checks below
Geometry = RandomResizedCrop | OverlappingCrop | Resize | CenterCrop | Whole


def between(ends: tuple[float, float], u: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """u in [0, 1) as a number from the first to the second end."""
    return ends[0] + (ends[1] - ends[0]) * u


def _check_size(transform: RandomResizedCrop | Resize | CenterCrop | Whole) -> None:
    if not 1 <= transform.size <= ops.WIDEST:
        name = type(transform).__name__
        raise ValueError(f"{name} takes a size from 1 to {ops.WIDEST} pixels, got {transform.size}")


def _check_interpolation(transform: RandomResizedCrop | Resize | Whole) -> None:
    if transform.interpolation not in INTERPOLATIONS:
        known = " or ".join(map(repr, INTERPOLATIONS))
        raise ValueError(f"{type(transform).__name__} interpolates by {known}, got {transform.interpolation!r}")
