"""Edits that lose detail: compression, blur, noise, coarse pixels."""

import io
import math

import numpy as np
import torch
from jaxtyping import Int32
from PIL import Image, ImageFilter
from torch import Tensor

from lookalike.functional import random
from lookalike.transforms.edits.family import Family, either, seed, steps

GRAIN = 2  # pixels of a grain of film
WIDTH = math.sqrt(4 * (256**2 - 1) / 12)  # deviation of the sum of four random bytes


def jpeg(image: Image.Image, quality: int, generations: int) -> Image.Image:
    """Saved and opened again so many times; each time one pixel is trimmed off, which moves the blocks."""
    for generation in range(generations):
        if generation and min(image.size) > 8:
            image = image.crop((1, 1, *image.size))
        image = _saved(image, "JPEG", quality)
    return image


def webp(image: Image.Image, quality: int) -> Image.Image:
    """Saved and opened again."""
    return _saved(image, "WEBP", quality, method=1)  # a third of the time of the default, the same losses


def blur(image: Image.Image, kind: str, share: float) -> Image.Image:
    """A radius of a share of the shorter side: Gaussian, a box (defocus), or along one direction (motion)."""
    radius = share * min(image.size)
    if kind == "gauss":
        return image.filter(ImageFilter.GaussianBlur(radius))
    across, down = {"box": (1.5, 1.5), "sideways": (2.5, 0.0), "upwards": (0.0, 2.5)}[kind]
    return image.filter(ImageFilter.BoxBlur((across * radius, down * radius)))


def noise(image: Image.Image, kind: str, level: float, seed: int) -> Image.Image:
    """Noise of a standard deviation of `level` of white (gauss), in grains (grain), or so many dead pixels (salt).

    Sums of whole numbers from a keyed generator: the same pixels on every machine.
    """
    generator = random.generator("noise", seed)
    pixels = torch.from_numpy(np.array(image))
    height, width, _ = pixels.shape
    if kind == "salt":
        dice = torch.randint(0, 1 << 16, (height, width), generator=generator)
        dead = dice < int(level * (1 << 16))
        pixels[dead] = (255 * (dice[dead] % 2)).to(torch.uint8)[:, None]
        return Image.fromarray(pixels.numpy())
    coarse, bands = (GRAIN, 1) if kind == "grain" else (1, 3)
    shape = (-(-height // coarse), -(-width // coarse), bands)
    bell = _bells(math.prod(shape), generator).view(shape)
    bell = bell.repeat_interleave(coarse, 0)[:height].repeat_interleave(coarse, 1)[:, :width]
    noisy = pixels.int() + (bell * round(level * 255 * 256 / WIDTH) >> 8)
    return Image.fromarray(noisy.clamp_(0, 255).to(torch.uint8).numpy())


def pixelate(image: Image.Image, across: int) -> Image.Image:
    """Squares of one color, so many along the shorter side; of 2 pixels at least."""
    block = max(2, round(min(image.size) / across))
    width, height = image.size
    small = image.resize((-(-width // block), -(-height // block)), Image.Resampling.BOX)
    return small.resize((small.width * block, small.height * block), Image.Resampling.NEAREST).crop((0, 0, *image.size))


def _bells(count: int, generator: torch.Generator) -> Int32[Tensor, "{count}"]:
    """Sums of four random bytes, less their mean: nearly normal, with a deviation of WIDTH; two from 64 bits."""
    words = torch.randint(-(2**63), 2**63 - 1, (-(-count // 2),), generator=generator)
    return words.view(torch.uint8).view(-1, 4).sum(1, dtype=torch.int32)[:count] - 510


def _saved(image: Image.Image, form: str, quality: int, method: int = 0) -> Image.Image:
    file = io.BytesIO()
    image.save(file, form, quality=quality, method=method)
    return Image.open(file).convert("RGB")


QUALITY = (
    Family(
        "jpeg",
        jpeg,
        {"quality": steps(50, 20, 10, 5, 3), "generations": steps(1, 2, 3, 4, 5)},
    ),
    Family("webp", webp, {"quality": steps(50, 25, 10, 5, 0)}),
    Family(
        "blur",
        blur,
        {"kind": either("gauss", "box", "sideways", "upwards"), "share": steps(0.008, 0.016, 0.026, 0.04, 0.06)},
    ),
    Family(
        "noise",
        noise,
        {"kind": either("gauss", "grain", "salt"), "level": steps(0.03, 0.06, 0.11, 0.18, 0.28), "seed": seed},
    ),
    Family("pixelate", pixelate, {"across": steps(64, 44, 30, 20, 12)}),
)
