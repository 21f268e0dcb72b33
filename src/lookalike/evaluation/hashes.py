"""What finds copies without learning: perceptual hashes and the histogram of colors, as modules like any encoder.

Bits are given as -1 and 1, so that the cosine of two hashes is 1 - 2 (Hamming distance) / (number of bits).

Shapes: B batch, C channels (1 or 3), H and W pixels, D features.
"""

import math

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn
from torch.nn.functional import interpolate

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, what Pillow calls L
BITS, FINE = 8, 32  # a hash has BITS^2 bits; pHash looks at FINE x FINE pixels
BINS = 8  # of each color


class PerceptualHash(nn.Module):
    """pHash: of the 32 x 32 gray image, which of the 8 x 8 slowest cosine waves are above their median.

    Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010; in the form of the package
    imagehash: all 64 coefficients count, with the constant one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("waves", _waves(FINE)[:BITS], persistent=False)

    def forward(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B 64"]:
        gray = _gray(pixels, FINE, FINE).double()
        waves_kn = self.get_buffer("waves")
        slow_BD = (waves_kn @ gray @ waves_kn.T).flatten(1)
        middle = slow_BD.sort(dim=1).values[:, [slow_BD.shape[1] // 2 - 1, slow_BD.shape[1] // 2]].mean(1, keepdim=True)
        return _bits(slow_BD > middle)


class DifferenceHash(nn.Module):
    """dHash: of the gray image of 9 x 8 pixels, which are darker than their right neighbor (N. Krawetz, 2013)."""

    def forward(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B 64"]:
        gray = _gray(pixels, BITS, BITS + 1)
        return _bits((gray[..., 1:] > gray[..., :-1]).flatten(1))


class ColorHistogram(nn.Module):
    """Roots of the shares of pixels in 8 x 8 x 8 bins of color, or 8 of gray: a product is Bhattacharyya's."""

    def forward(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        bins = (_levels(pixels) * (BINS / 256)).long().clamp_(0, BINS - 1)
        places = torch.zeros_like(bins[:, 0])
        for color in bins.unbind(1):
            places = places * BINS + color
        size = BINS ** bins.shape[1]
        counts_BD = torch.zeros(len(bins), size, device=bins.device)
        counts_BD.scatter_add_(1, places.flatten(1), torch.ones_like(places.flatten(1), dtype=torch.float32))
        return (counts_BD / places[0].numel()).sqrt()


def _waves(size: int) -> Float64[Tensor, "{size} {size}"]:
    """Cosine transform of the second kind as a matrix: row k holds 2 cos(pi k (2 n + 1) / (2 size))."""
    n = torch.arange(size, dtype=torch.float64)
    return 2 * torch.cos(math.pi / (2 * size) * n[:, None] * (2 * n + 1))


def _gray(pixels: Tensor, height: int, width: int) -> Tensor:
    """(B, height, width) in whole levels from 0 to 255, as an image file would hold them."""
    levels = _levels(pixels)
    weights = torch.tensor(LUMA if levels.shape[1] == 3 else (1.0,), device=levels.device)
    gray = (levels * weights[:, None, None]).sum(1, keepdim=True).round_()
    return interpolate(gray, size=(height, width), mode="bicubic", antialias=True)[:, 0].clamp_(0, 255).round_()


def _levels(pixels: Tensor) -> Tensor:
    """Floats from 0 to 255."""
    if pixels.is_floating_point():
        return pixels.float() * 255
    return pixels.float() * (255 / torch.iinfo(pixels.dtype).max)


def _bits(true_BD: Tensor) -> Float[Tensor, "B D"]:
    return true_BD.float() * 2 - 1
