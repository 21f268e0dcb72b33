"""What a view is made of: a Chain of transforms, each a frozen value that turns uniform numbers into its parameters.

A chain begins with its geometry (crops.py: RandomResizedCrop, OverlappingCrop, Whole, or Resize and CenterCrop), which
fixes the size, and goes on with changes of the pixels, executed in the order given; they may write into the pixels they
get. RemoveBackground may come before the geometry. `columns` uniform numbers per sample are what a transform draws
from, whatever the others draw.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Shaped
from torch import Tensor

from lookalike.transforms import ops
from lookalike.transforms.auto_augment import AutoAugment
from lookalike.transforms.background import RemoveBackground
from lookalike.transforms.crops import Geometry, Uniform, Values, between
from lookalike.transforms.edits.view import CopyEdits
from lookalike.transforms.either import Either

Pixels = Shaped[Tensor, "B C H W"]


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
            "amounts": torch.stack([between(ends, amounts[:, i]) for i, ends in enumerate(ranges)], dim=1),
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
        return {"applies": u_BK[:, 0] < self.p, "sigma": between(self.sigma, u_BK[:, 1])}

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


Change = HorizontalFlip | ColorJitter | Grayscale | GaussianBlur | Solarize | CopyEdits | AutoAugment | Either
Chain = tuple[RemoveBackground | Geometry | Change, ...]


def _check_chance(transform: HorizontalFlip | ColorJitter | Grayscale | GaussianBlur | Solarize) -> None:
    if not 0 <= transform.p <= 1:
        raise ValueError(f"{type(transform).__name__} takes a probability p from 0 to 1, got {transform.p}")
