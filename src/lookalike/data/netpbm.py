"""PPM files that Pillow decodes value by value in Python: plain text, and maxima other than 255.

The format: https://netpbm.sourceforge.net/doc/ppm.html. Values are divided by the file's maximum, times 255, rounded.

C channels, H height, W width.
"""

import re
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import ImageFile
from torch import Tensor

TEXT_VALUES = 4_000_000  # about a second
CODECS = ("ppm", "ppm_plain")  # Pillow's names for what it does in Python

_BLANKS = b" \t\n\r\v\f"


def from_netpbm(image: ImageFile.ImageFile, data: bytes) -> UInt8[Tensor, "C H W"]:
    """The pixels of an opened, not loaded, PPM image whose codec is one of CODECS. Raises ValueError."""
    tile: Any = image.tile[0]  # its arguments differ with the codec
    codec, _, start, arguments = tile
    if image.mode not in ("1", "L", "I", "RGB"):
        raise ValueError(f"pixels of type {image.mode} are no part of PPM: save as gray or RGB")
    width, height = image.size
    count = width * height * (3 if image.mode == "RGB" else 1)
    if codec == "ppm":
        return _scaled(_binary(data, start, count, arguments[1]), arguments[1], height, width)
    if count > TEXT_VALUES:
        raise ValueError(f"{count:,} numbers as plain text are more than the {TEXT_VALUES:,} allowed: save it as PNG")
    text = re.sub(rb"#[^\r\n]*", b" ", data[start:])
    if image.mode == "1":
        return _bits(text, height, width)
    return _scaled(_numbers(text, count, arguments[1]), arguments[1], height, width)


def _binary(data: bytes, start: int, count: int, maximum: int) -> np.ndarray:
    kind = np.dtype(">u2" if maximum > 255 else "u1")
    if len(data) - start < count * kind.itemsize:
        raise ValueError("it is truncated: it holds fewer values than its header says")
    return np.minimum(np.frombuffer(data, kind, count, start), maximum)


def _numbers(text: bytes, count: int, maximum: int) -> np.ndarray:
    words = text.split(None, count)[:count]
    if len(words) < count:
        raise ValueError("it is truncated: it holds fewer values than its header says")
    values = [int(word) for word in words]
    if min(values) < 0 or max(values) > maximum:
        raise ValueError(f"it holds values outside of 0 to {maximum}, which its header says")
    return np.array(values)


def _bits(text: bytes, height: int, width: int) -> UInt8[Tensor, "1 H W"]:
    """Zeros and ones, with or without blanks between them; 1 is black."""
    digits = np.frombuffer(text.translate(None, _BLANKS)[: height * width], np.uint8) - ord("0")
    if len(digits) < height * width:
        raise ValueError("it is truncated: it holds fewer values than its header says")
    if digits.max() > 1:
        raise ValueError("it holds other digits than 0 and 1")
    return torch.from_numpy((255 * (1 - digits)).astype(np.uint8).reshape(1, height, width))


def _scaled(values: np.ndarray, maximum: int, height: int, width: int) -> UInt8[Tensor, "C H W"]:
    table = ((np.arange(maximum + 1, dtype=np.uint32) * 255 + maximum // 2) // maximum).astype(np.uint8)
    pixels_HWC = table[values].reshape(height, width, -1)
    return torch.from_numpy(pixels_HWC.transpose(2, 0, 1))
