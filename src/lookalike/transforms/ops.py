"""Pixel operations on a batch, each row with its own parameters and untouched by its neighbors, to the last bit.

Pixels are float levels in [0, 255], (B, C, H, W). A pixel comes out the same wherever it stands: only single IEEE
operations (add, multiply, minimum ...) touch it, and sums are exact or in a fixed order. A fused multiply-add, a
convolution or a matrix product rounds differently with the batch, the layout and the number of threads.
"""

import math
from collections.abc import Callable, Sequence
from types import ModuleType

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from lookalike.functional.machine_code import call, kernels

FEW = 2**16  # numbers; for fewer, importing a compiler costs more than its kernels save
CACHED = 2**16  # numbers of a few images that are blurred at a time: they stay in the cache of a core
NARROW = 3  # weights of half a kernel: up to these, all images are blurred at once
WHITE = 255.0
LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601-2, as rounded by torchvision
REACH = 4.0  # a Gaussian kernel ends after so many sigma: what lies beyond holds 6e-5 of the weight
WIDEST = 4096  # rows of up to this many pixels have exact sums in `channel_means`

Pixels = Float[Tensor, "B C H W"]
PerRow = Float[Tensor, "B"]


def rounded(x_BCHW: Pixels) -> UInt8[Tensor, "B C H W"]:
    """The nearest of the 256 levels. Through int16: torch's direct way to uint8 takes three times as long."""
    return x_BCHW.round().to(torch.int16).to(torch.uint8)


def gray(x_B3HW: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 H W"]:
    """Luma of RGB."""
    red, green, blue = x_B3HW.split(1, dim=1)
    total, part = red * LUMA[0], green * LUMA[1]
    return total.add_(part).add_(torch.mul(blue, LUMA[2], out=part))


def channel_means(x_BCHW: Pixels) -> Float64[Tensor, "B C"]:
    """Means over the image, of levels rounded to sixteenths: sums of integers below 2^24, exact in any order."""
    rows_BCH = (x_BCHW * 16).round_().sum(-1)
    return rows_BCH.double().sum(-1) / (16 * x_BCHW[0, 0].numel())


def brightness_(x_BCHW: Pixels, factor_B: PerRow) -> Pixels:
    """Blend with black: levels times the factor, clamped as after each of the four jitters. In place, like these."""
    return x_BCHW.mul_(_per_row(factor_B, x_BCHW)).clamp_(0, WHITE)


def contrast_(x_BCHW: Pixels, factor_B: PerRow) -> Pixels:
    """Blend with the mean of the gray image."""
    mean_B = channel_means(gray(x_BCHW) if x_BCHW.shape[1] == 3 else x_BCHW)[:, 0]
    shift_B = (1 - factor_B).to(mean_B) * mean_B
    return x_BCHW.mul_(_per_row(factor_B, x_BCHW)).add_(_per_row(shift_B, x_BCHW)).clamp_(0, WHITE)


def saturation_(x_BCHW: Pixels, factor_B: PerRow) -> Pixels:
    """Blend with the gray image; one channel stays as it is."""
    if x_BCHW.shape[1] == 1:
        return x_BCHW
    gray_B1HW = gray(x_BCHW).mul_(_per_row(1 - factor_B, x_BCHW))
    return x_BCHW.mul_(_per_row(factor_B, x_BCHW)).add_(gray_B1HW).clamp_(0, WHITE)


def hue_(x_BCHW: Pixels, turns_B: PerRow) -> Pixels:
    """Turn the hue of HSV by a fraction of the circle; one channel stays as it is.

    With largest V and smallest m of (r, g, b), chroma C = V - m and hue h in sixths of the circle from red, in
    [-3, 3]: |h| C = C - m + g + b - r, and h has the sign of g - b. Back: a channel whose color lies d sixths away
    on the circle has level V - C clamp(d - 1, 0, 1). Both hold in all six sectors, so no sector is ever looked up.
    On the circle a difference of x sixths, at most 9, is d = ||x - 3| - 3|.
    """
    if x_BCHW.shape[1] == 1:
        return x_BCHW
    red, green, blue = x_BCHW.split(1, dim=1)
    largest = torch.maximum(red, green)
    torch.maximum(largest, blue, out=largest)
    smallest = torch.minimum(red, green)
    torch.minimum(smallest, blue, out=smallest)
    chroma = largest - smallest
    h = (green + blue).sub_(red).add_(chroma).sub_(smallest)
    torch.copysign(h, torch.sub(green, blue, out=smallest), out=h)
    h.div_(torch.clamp(chroma, min=1e-6, out=smallest))  # gray has no hue: 0 / 1e-6
    h.add_(_per_row(6 * turns_B, x_BCHW))
    center_131 = h.new_tensor([0.0, 2.0, -2.0]).view(3, 1, 1)  # red, green, blue
    distance = torch.sub(h, center_131, out=x_BCHW).abs_().sub_(3).abs_().sub_(3).abs_()
    return torch.sub(largest, distance.sub_(1).clamp_(0, 1).mul_(chroma), out=x_BCHW)


JITTERS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (brightness_, contrast_, saturation_, hue_)
NEUTRAL = (1.0, 1.0, 1.0, 0.0)  # the amounts at which each of the four does nothing


def color_jitter_(x_BCHW: Pixels, order_B4: Int64[Tensor, "B 4"], amounts_B4: Float[Tensor, "B 4"]) -> Pixels:
    """Brightness, contrast, saturation and hue (columns 0 to 3) by the amounts, one after another in each row's order.

    In place. Raises ValueError unless there are 1 or 3 channels.
    """
    if x_BCHW.shape[1] not in (1, 3):
        raise ValueError(
            f"color jitter needs gray or RGB images, got {x_BCHW.shape[1]} channels: leave ColorJitter out of the views"
        )
    amounts = amounts_B4.tolist()
    active = [number for number in range(4) if any(row[number] != NEUTRAL[number] for row in amounts)]
    if _memory_of_floats(x_BCHW) and x_BCHW.numel() >= FEW and kernels(compiled_kernels) is not None:
        order_B4 = torch.where(torch.isin(order_B4, torch.tensor(active, dtype=order_B4.dtype)), order_B4, -1)
        blends = amounts_B4.to(x_BCHW), (1 - amounts_B4).double(), (6 * amounts_B4[:, 3]).to(x_BCHW)
        call(compiled_kernels, "jitter", x_BCHW.flatten(2), order_B4, *blends, x_BCHW.new_tensor(LUMA))
        return x_BCHW
    orders = order_B4.tolist()
    for place in range(4):
        for number in active:
            rows = [row for row, order in enumerate(orders) if order[place] == number]
            if len(rows) == len(orders):
                JITTERS[number](x_BCHW, amounts_B4[:, number])
            elif rows:
                at = torch.tensor(rows, device=x_BCHW.device)
                x_BCHW[at] = JITTERS[number](x_BCHW[at], amounts_B4[rows, number])
    return x_BCHW


def grayscale(x_BCHW: Pixels) -> Pixels:
    """Luma in all three channels; one channel stays as it is. Raises ValueError for other numbers of channels."""
    channels = x_BCHW.shape[1]
    if channels not in (1, 3):
        raise ValueError(
            f"grayscale needs gray or RGB images, got {channels} channels: leave Grayscale out of the views"
        )
    return x_BCHW if channels == 1 else gray(x_BCHW).repeat(1, 3, 1, 1)


def gaussian_blur(x_BCHW: Pixels, sigma_B: PerRow, kernel: int | None = None) -> Pixels:
    """Convolution with a sampled Gaussian of each row's sigma in pixels, first along rows, then along columns.

    The kernel has at most `kernel` taps (None: as many as sigma asks for), ends after 4 sigma and sums to one; the
    border is a mirror, as in torchvision. At the same sigma it is what Pillow's GaussianBlur approximates.
    """
    side = min(x_BCHW.shape[-2:])
    most = side - 1 if kernel is None else min(kernel // 2, side - 1)
    weights = [_half_gaussian(sigma, most) for sigma in sigma_B.tolist()]
    taps = [len(half) for half in weights]
    if max(taps) <= NARROW or x_BCHW.device.type != "cpu":
        return _blurred(x_BCHW, weights)
    rows = max(1, CACHED // x_BCHW[0].numel())
    alike = torch.tensor(taps).argsort(stable=True)  # narrow ones do not wait for wide ones
    y_BCHW = torch.empty_like(x_BCHW)
    for some in alike.split(rows):
        y_BCHW[some] = _blurred(x_BCHW[some], [weights[row] for row in some.tolist()])
    return y_BCHW


def _blurred(x_BCHW: Pixels, weights: Sequence[Sequence[float]]) -> Pixels:
    """The convolution with the halves of some kernels, each from its center outwards."""
    rows, channels, height, width = x_BCHW.shape
    reach = max(len(half) for half in weights) - 1
    if reach == 0:
        return x_BCHW
    weights_BR = x_BCHW.new_tensor([[*half] + [0.0] * (reach + 1 - len(half)) for half in weights])
    # on flat memory, where neighbors lie 1 or `width` numbers apart: what comes out across borders is cut off
    wide = F.pad(x_BCHW, (reach, reach, 0, 0), mode="reflect")
    across = _symmetric_sum(wide.reshape(rows, -1), weights_BR, 1).view(rows, channels, height, -1)[..., :width]
    tall = F.pad(across, (0, 0, reach, reach), mode="reflect")
    return _symmetric_sum(tall.reshape(rows, -1), weights_BR, width).view(rows, channels, -1, width)[:, :, :height]


def solarize(x_BCHW: Pixels, threshold: float) -> Pixels:
    """Invert the levels from threshold x 255 up."""
    return torch.where(x_BCHW >= threshold * WHITE, WHITE - x_BCHW, x_BCHW)


def _half_gaussian(sigma: float, most: int) -> list[float]:
    """The weights of a Gaussian kernel from its center outwards."""
    reach = min(math.ceil(REACH * sigma), most)
    half = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(reach + 1)]
    total = 2 * sum(half) - half[0]
    return [weight / total for weight in half]


def _symmetric_sum(flat_BL: Tensor, weights_BR: Tensor, stride: int) -> Tensor:
    """Sum of weight r times the two neighbors r strides away, nearest first; a zero weight changes no bit.

    Number i of the result is centered on number i + reach x stride; the last 2 reach x stride numbers are not defined.
    """
    reach = weights_BR.shape[1] - 1
    length, center = flat_BL.shape[1] - 2 * reach * stride, reach * stride
    whole = torch.empty_like(flat_BL)
    total, pair = whole[:, :length], torch.empty_like(flat_BL)[:, :length]
    torch.mul(flat_BL.narrow(1, center, length), weights_BR[:, :1], out=total)
    for step in range(1, reach + 1):
        before, after = center - step * stride, center + step * stride
        torch.add(flat_BL.narrow(1, before, length), flat_BL.narrow(1, after, length), out=pair)
        total.add_(pair.mul_(weights_BR[:, step : step + 1]))
    return whole


def compiled_kernels() -> ModuleType:
    """The kernels; importing them needs numba."""
    from lookalike.transforms import jitter_kernels

    return jitter_kernels


def _memory_of_floats(x_BCHW: Tensor) -> bool:
    return x_BCHW.device.type == "cpu" and x_BCHW.dtype == torch.float32 and x_BCHW.is_contiguous()


def _per_row(value_B: Tensor, x_BCHW: Tensor) -> Tensor:
    return value_B.to(x_BCHW).view(-1, 1, 1, 1)
