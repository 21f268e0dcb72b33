"""Where a view's pixels come from: the box of each random crop, and the resampling of that box to its size."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

INTERPOLATIONS = ("bilinear", "bicubic")


class Region(NamedTuple):
    """A box of an image in pixels, the size it is resampled to, and how."""

    left: int
    top: int
    width: int
    height: int
    out_width: int
    out_height: int
    interpolation: str = "bilinear"


class Draws(NamedTuple):
    """What a random box is made of before the image's size is known.

    areas: fractions of the image's area, one per try; log_ratios: log(width / height), one per try;
    across, down: where the box lies in the room it leaves, in [0, 1).
    """

    areas: list[float]
    log_ratios: list[float]
    across: float
    down: float


def random_box(draws: Draws, height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """(left, top, width, height) of the first try that fits into the image, else the largest central box of the ratio.

    The algorithm of torchvision's RandomResizedCrop. In plain Python floats: a vector of exponentials may differ in
    the last bit with the length of the vector.
    """
    for area, log_ratio in zip(draws.areas, draws.log_ratios, strict=True):
        target, aspect = area * width * height, math.exp(log_ratio)
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(draws.across * (width - w + 1)), int(draws.down * (height - h + 1)), w, h
    w, h = width, height
    if width / height < ratio[0]:
        h = max(1, round(width / ratio[0]))
    elif width / height > ratio[1]:
        w = max(1, round(height * ratio[1]))
    return (width - w) // 2, (height - h) // 2, w, h


def resample(image_CHW: UInt8[Tensor, "C H W"], region: Region) -> UInt8[Tensor, "C H2 W2"]:
    """The region's pixels at its size, antialiased; nothing outside the box counts.

    On the CPU in torch's integer arithmetic for uint8: the same bits for any layout and number of threads, Pillow's
    within one level. Elsewhere in float, rounded once: within one level of the CPU's, but for cubic overshoots
    beyond black and white, which the CPU clips after each direction, as Pillow does.
    """
    box = image_CHW[:, region.top : region.top + region.height, region.left : region.left + region.width]
    size = (region.out_height, region.out_width)
    if box.shape[1:] == size:
        return box
    if box.device.type == "cpu":
        return F.interpolate(box[None], size=size, mode=region.interpolation, antialias=True)[0]
    return resample_float(box, size, region.interpolation)


def resample_float(
    box_CHW: UInt8[Tensor, "C H W"], size: tuple[int, int], interpolation: str
) -> UInt8[Tensor, "C H2 W2"]:
    """The whole box at another size, antialiased, in float arithmetic."""
    x = F.interpolate(box_CHW[None].float(), size=size, mode=interpolation, antialias=True)[0]
    return x.clamp_(0, 255).round_().to(torch.uint8)
