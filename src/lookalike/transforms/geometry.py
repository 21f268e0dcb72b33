"""Where a view's pixels come from: the box of each random crop, and the resampling of that box to its size."""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from torch import Tensor

INTERPOLATIONS = ("bilinear", "bicubic")
SMALL = 40  # pixels; of larger images a box is resampled faster than its whole image is multiplied


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
        box = _placed((area, log_ratio, draws.across, draws.down), height, width)
        if box:
            return box
    w, h = width, height
    if width / height < ratio[0]:
        h = max(1, round(width / ratio[0]))
    elif width / height > ratio[1]:
        w = max(1, round(height * ratio[1]))
    return (width - w) // 2, (height - h) // 2, w, h


def overlapping_box(
    tries: Iterable[Sequence[float]], height: int, width: int, other: Region, overlap: float
) -> tuple[int, int, int, int] | None:
    """(left, top, width, height) of the first try that fits and meets `other` in the share `overlap` of its area.

    A try is (area, log_ratio, across, down) as in Draws; None if none does.
    """
    for draw in tries:
        box = _placed(draw, height, width)
        if box and _shared(box, other) >= overlap * draw[0] * width * height:
            return box
    return None


def _placed(draw: Sequence[float], height: int, width: int) -> tuple[int, int, int, int] | None:
    """The box of one try, if it fits into the image."""
    area, log_ratio, across, down = draw
    target, aspect = area * width * height, math.exp(log_ratio)
    w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
    if not (0 < w <= width and 0 < h <= height):
        return None
    return int(across * (width - w + 1)), int(down * (height - h + 1)), w, h


def _shared(box: tuple[int, int, int, int], other: Region) -> int:
    """Pixels that lie in both."""
    left, top, w, h = box
    across = min(left + w, other.left + other.width) - max(left, other.left)
    down = min(top + h, other.top + other.height) - max(top, other.top)
    return max(across, 0) * max(down, 0)


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


def products_fit(images: Sequence[Tensor], regions: Sequence[Region]) -> bool:
    """Whether `resample_together` takes these: small images of one shape on a CPU, and exact float32 products."""
    first, size = images[0], regions[0][4:]
    return (
        first.device.type == "cpu"
        and max(first.shape[1:]) <= SMALL
        and all(image.shape == first.shape for image in images)
        and all(region[4:] == size for region in regions)
        and all(region.width < 2 * size[0] and region.height < 2 * size[1] for region in regions)
        and torch.get_float32_matmul_precision() == "highest"
        and not torch.is_autocast_enabled("cpu")
    )


def resample_together(images_BCHW: UInt8[Tensor, "B C H W"], regions: Sequence[Region]) -> UInt8[Tensor, "B C H2 W2"]:
    """`resample` of one region of each image, the same bits, as two matrix products for all of them.

    Torch resamples uint8 along rows, then along columns, with weights that are multiples of a power of two, and rounds
    after each. Shrinking by less than 2, such sums stay below 2^24 steps: float32 holds them exactly, in any order.
    """
    (count, channels, height, width), (*_, out_width, out_height, mode) = images_BCHW.shape, regions[0]
    across = torch.stack([_weights(box.width, box.left, width, out_width, mode) for box in regions])
    down = torch.stack([_weights(box.height, box.top, height, out_height, mode) for box in regions])
    rows = torch.bmm(images_BCHW.float().reshape(count, channels * height, width), across.mT)
    levels = rows.add_(0.5).floor_().clamp_(0, 255).view(count, channels, height, out_width)
    return torch.matmul(down[:, None], levels).add_(0.5).floor_().clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=8192)
def _weights(length: int, start: int, size: int, out: int, mode: str) -> Float32[Tensor, "out size"]:
    """What each of `size` pixels weighs in each of `out`, made from `length` pixels from `start` on.

    Torch's weights for uint8: doubles, rounded to steps that give the largest 15 bits.
    """
    scale = length / out
    wide = max(scale, 1.0)
    reach = (1 if mode == "bilinear" else 2) * wide
    kernels = []
    for place in range(out):
        center = scale * (place + 0.5)
        first, last = max(int(center - reach + 0.5), 0), min(int(center + reach + 0.5), length)
        kernel = [_kernel(abs(pixel - center + 0.5) / wide, mode) for pixel in range(first, last)]
        kernels.append((first, [weight / sum(kernel) for weight in kernel]))
    largest, bits = max(max(kernel) for _, kernel in kernels), 0
    while bits < 22 and int(0.5 + largest * 2 ** (bits + 1)) < 2**15:
        bits += 1
    weights = torch.zeros(out, size)
    for place, (first, kernel) in enumerate(kernels):
        steps = [int(weight * 2**bits + math.copysign(0.5, weight)) / 2**bits for weight in kernel]
        weights[place, start + first : start + first + len(steps)] = torch.tensor(steps)
    return weights


def _kernel(x: float, mode: str) -> float:
    """The triangle, or Keys' cubic with a = -1/2, at a distance of x >= 0 pixels."""
    if mode == "bilinear":
        return max(0.0, 1 - x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0
