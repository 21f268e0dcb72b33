"""From a loaded Pillow image to uint8 pixels (C, H, W): upright, one band of rows after another.

A picture of 64 million pixels is held twice, by Pillow and as the result; whatever lies between is as large as a band.
In memory the channels of a pixel stand side by side, as in the file: resampling (C, H, W) of that layout takes half the
time.

C channels, H height, W width.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

BAND = 1 << 20  # pixels converted at once

_ORIENTATION = 0x0112  # EXIF 2.3, table 4
# orientation -> a view of the upright pixels in the order of the file
_STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright_CHW: upright_CHW,
    2: lambda upright_CHW: upright_CHW[:, :, ::-1],
    3: lambda upright_CHW: upright_CHW[:, ::-1, ::-1],
    4: lambda upright_CHW: upright_CHW[:, ::-1],
    5: lambda upright_CHW: upright_CHW.transpose(0, 2, 1),
    6: lambda upright_CHW: np.rot90(upright_CHW, 1, (1, 2)),
    7: lambda upright_CHW: upright_CHW[:, ::-1, ::-1].transpose(0, 2, 1),
    8: lambda upright_CHW: np.rot90(upright_CHW, -1, (1, 2)),
}
_OPAQUE = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"}
_ALPHA = {"LA", "PA", "RGBA", "RGBa"}


def from_pillow(image: Image.Image) -> UInt8[Tensor, "C H W"]:
    """A loaded Pillow image upright, with one channel where it is gray and three otherwise. ValueError if undefined."""
    channels, convert = _conversion(image)
    width, height = image.size
    turn = orientation(image)
    sides = (width, height) if turn >= 5 else (height, width)
    upright_CHW = np.empty((*sides, channels), np.uint8).transpose(2, 0, 1)
    stored_CHW = _STORED[turn](upright_CHW)
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        band = image if rows >= height else image.crop((0, top, width, min(height, top + rows)))
        stored_CHW[:, top : top + rows] = convert(band)
    return torch.from_numpy(upright_CHW)


def with_channels(pixels: UInt8[Tensor, "C H W"], channels: int) -> UInt8[Tensor, "{channels} H W"]:
    """One channel repeated to three, three weighed to luma, or the pixels as they are."""
    if len(pixels) == channels:
        return pixels
    if channels == 3:
        return pixels.permute(1, 2, 0).expand(-1, -1, 3).contiguous().permute(2, 0, 1)
    luma = torch.empty_like(pixels[:1])
    rows = max(1, BAND // pixels.shape[2])
    for top in range(0, pixels.shape[1], rows):
        red, green, blue = pixels[:, top : top + rows].int()
        luma[0, top : top + rows] = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return luma


def orientation(image: Image.Image) -> int:
    """1 to 8, as EXIF numbers them; 1 where the EXIF block is missing or broken, since the pixels need not be."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # on hostile bytes Pillow raises nearly any type of error
        return 1
    return value if isinstance(value, int) and value in _STORED else 1


def _conversion(image: Image.Image) -> tuple[int, Callable[[Image.Image], np.ndarray]]:
    """How many channels the image has, and how a band of it becomes an array (channels, rows, columns)."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return 1, _high_byte
    if image.mode in _ALPHA or (image.mode in _OPAQUE and _transparent(image)):
        return 3, _over_white
    if image.mode not in _OPAQUE:
        raise ValueError(f"pixels of type {image.mode} have no agreed range: save as 8 or 16 bits, gray or RGB")
    if image.mode in ("1", "L"):
        return 1, lambda band: np.asarray(band.convert("L"))[None]
    return 3, lambda band: np.asarray(band if band.mode == "RGB" else band.convert("RGB")).transpose(2, 0, 1)


def _transparent(image: Image.Image) -> bool:
    palette = image.palette.mode if image.mode == "P" and image.palette else ""
    return "transparency" in image.info or palette.endswith("A")


def _high_byte(band: Image.Image) -> np.ndarray:
    """16 bits over 257, rounded."""
    return ((np.asarray(band).astype(np.uint32) + 128) // 257)[None]


def _over_white(band: Image.Image) -> np.ndarray:
    """(alpha c + (255 - alpha) 255) / 255, rounded: what Pillow's paste computes, in a quarter of NumPy's time."""
    rgba, over = band.convert("RGBA"), Image.new("RGB", band.size, "white")
    over.paste(rgba, mask=rgba)
    return np.asarray(over).transpose(2, 0, 1)
