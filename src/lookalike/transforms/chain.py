"""What a view is made of: a Chain of transforms, each a frozen value that turns uniform numbers into its parameters.

A chain begins with its geometry (RandomResizedCrop, Whole, or Resize and CenterCrop), which fixes the size, and goes on
with changes of the pixels, executed in the order given; they may write into the pixels they get. RemoveBackground may
come before the geometry. `columns` uniform numbers per sample are what a transform draws from, whatever the others
draw.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from lookalike.transforms import ops
from lookalike.transforms.background import RemoveBackground
from lookalike.transforms.edits.view import CopyEdits
from lookalike.transforms.geometry import INTERPOLATIONS, Draws, Region, random_box

Values = Mapping[str, Shaped[Tensor, "B ..."]]  # a transform's parameters by name, one row per sample
Uniform = Float64[Tensor, "B K"]
Pixels = Shaped[Tensor, "B C H W"]
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
            "areas": _between(self.scale, areas),
            "log_ratios": _between(logs, ratios),
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


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror left and right with probability p. Values: "applies" (B,)."""

    p: float = 0.5
    columns: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check_chance(self)

    def draw(self, u_BK: Uniform) -> Values:
        return {"applies": u_BK[:, 0] < self.p}

    def change(self, x_BCHW: Pixels, values: Values) -> Pixels:
        return x_BCHW.flip(-1)


@dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast, saturation and hue in a random order, with probability p.

    Factors are uniform in [max(0, 1 - strength), 1 + strength], the turn of the hue in [-hue, hue] of the circle.
    Values: "applies" (B,); "order" (B, 4), which of the four comes first, second ...; "amounts" (B, 4).
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    p: float = field(default=0.8, kw_only=True)
    columns: ClassVar[int] = 9

    def __post_init__(self) -> None:
        _check_chance(self)
        if min(self.brightness, self.contrast, self.saturation) < 0:
            raise ValueError(f"strengths of a jitter are 0 or more, got {self}")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"ColorJitter turns the hue by at most 0.5 of the circle, got hue={self.hue}")

    def draw(self, u_BK: Uniform) -> Values:
        applies, order, amounts = u_BK.split([1, 4, 4], dim=1)
        ranges = [(max(0.0, 1 - strength), 1 + strength) for strength in self._strengths] + [(-self.hue, self.hue)]
        return {
            "applies": applies[:, 0] < self.p,
            "order": order.argsort(dim=1, stable=True),
            "amounts": torch.stack([_between(ends, amounts[:, i]) for i, ends in enumerate(ranges)], dim=1),
        }

    @property
    def _strengths(self) -> tuple[float, float, float]:
        return self.brightness, self.contrast, self.saturation

    def change(self, x_BCHW: Pixels, values: Values) -> Pixels:
        return ops.color_jitter_(x_BCHW.float(), values["order"], values["amounts"])


@dataclass(frozen=True)
class Grayscale:
    """Luma in all channels with probability p. Values: "applies" (B,)."""

    p: float = 0.2
    columns: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check_chance(self)

    def draw(self, u_BK: Uniform) -> Values:
        return {"applies": u_BK[:, 0] < self.p}

    def change(self, x_BCHW: Pixels, values: Values) -> Pixels:
        return ops.grayscale(x_BCHW.float())


@dataclass(frozen=True)
class GaussianBlur:
    """Blur by a Gaussian of random sigma in pixels of the view, with probability p.

    `kernel`, an odd number, bounds the taps as the TensorFlow papers do (SimCLR, BYOL: a tenth of the size, 23 at
    224). None bounds nothing, which is what Pillow's blur of radius sigma means (MoCo v2, SCE on small images).
    Values: "applies", "sigma" (B,).
    """

    sigma: tuple[float, float] = (0.1, 2.0)
    kernel: int | None = None
    p: float = 0.5
    columns: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _check_chance(self)
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise ValueError(f"GaussianBlur takes 0 < low <= high as sigma, got {self.sigma}")
        if self.kernel is not None and (self.kernel < 1 or self.kernel % 2 == 0):
            raise ValueError(f"GaussianBlur takes an odd kernel of at least 1 tap, or None, got {self.kernel}")

    def draw(self, u_BK: Uniform) -> Values:
        return {"applies": u_BK[:, 0] < self.p, "sigma": _between(self.sigma, u_BK[:, 1])}

    def change(self, x_BCHW: Pixels, values: Values) -> Pixels:
        return ops.gaussian_blur(x_BCHW.float(), values["sigma"], self.kernel)


@dataclass(frozen=True)
class Solarize:
    """Invert what is at least `threshold` (black 0, white 1) bright, with probability p. Values: "applies" (B,)."""

    threshold: float = 0.5
    p: float = 0.2
    columns: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check_chance(self)
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"Solarize takes a threshold from 0 to 1, got {self.threshold}")

    def draw(self, u_BK: Uniform) -> Values:
        return {"applies": u_BK[:, 0] < self.p}

    def change(self, x_BCHW: Pixels, values: Values) -> Pixels:
        return ops.solarize(x_BCHW.float(), self.threshold)


Geometry = RandomResizedCrop | Resize | CenterCrop | Whole
Change = HorizontalFlip | ColorJitter | Grayscale | GaussianBlur | Solarize | CopyEdits
Chain = tuple[RemoveBackground | Geometry | Change, ...]


def _between(ends: tuple[float, float], u: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return ends[0] + (ends[1] - ends[0]) * u


def _check_size(transform: Geometry) -> None:
    if not 1 <= transform.size <= ops.WIDEST:
        name = type(transform).__name__
        raise ValueError(f"{name} takes a size from 1 to {ops.WIDEST} pixels, got {transform.size}")


def _check_chance(transform: HorizontalFlip | ColorJitter | Grayscale | GaussianBlur | Solarize) -> None:
    if not 0 <= transform.p <= 1:
        raise ValueError(f"{type(transform).__name__} takes a probability p from 0 to 1, got {transform.p}")


def _check_interpolation(transform: RandomResizedCrop | Resize | Whole) -> None:
    if transform.interpolation not in INTERPOLATIONS:
        known = " or ".join(map(repr, INTERPOLATIONS))
        raise ValueError(f"{type(transform).__name__} interpolates by {known}, got {transform.interpolation!r}")
