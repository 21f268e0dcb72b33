"""One image becomes a uint8 tensor (C, H, W), or an `Unreadable` that says in one sentence why not.

What the pixels are:

- the first frame, upright by its EXIF orientation; color profiles (ICC) are ignored;
- gray, repeated over three channels; with `channels=1` luma, (19595 R + 38470 G + 7471 B + 32768) >> 16 (ITU-R 601-2);
- 16-bit gray divided by 257 and rounded; of 16-bit color Pillow delivers the high byte, at most one level away;
- palettes looked up; alpha composited over white, as a page shows the image (the transparent key value of a 16-bit
  gray PNG is ignored);
- CMYK as (255 - C)(255 - K)/255;
- 32-bit, floating-point and LAB pixels have no agreed range: Unreadable.

C channels, H height, W width.
"""

import io
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import (  # the plugins by name: Pillow then never loads one that is not allowed
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    MpoImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)
from torch import Tensor

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # JPEG opens MPO too
KINDS = "JPEG, PNG, WebP, GIF, BMP, TIFF or PPM"
EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm".split()  # noqa: SIM905
)

File = io.BytesIO | io.BufferedReader

_ORIENTATION = 0x0112  # EXIF 2.3, table 4
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OPAQUE = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"}
_ALPHA = {"LA", "PA", "RGBA", "RGBa"}
# Both flags are absent on some systems. O_NONBLOCK: opening a named pipe must not wait for its writer.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class Unreadable(ValueError):  # noqa: N818 - a finding, which most callers survive
    """An image that cannot be decoded: `path` names it, `reason` says why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)  # the arguments themselves, so that the error crosses process borders
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{shown(self.path)} cannot be read: {self.reason}"


def shown(name: str) -> str:
    """A file name fit for one line of any terminal: odd characters and undecodable bytes are escaped."""
    return name if name.isprintable() else ascii(name)


def decode(
    image: str | os.PathLike[str] | bytes,
    *,
    channels: int = 3,
    max_pixels: int = 64_000_000,
    max_side: int = 20_000,
    max_bytes: int = 50_000_000,
) -> UInt8[Tensor, "{channels} H W"]:
    """The pixels of a file or of its bytes, as the head of this file defines them.

    The limits are checked before anything is decoded: bytes by the file's length, sides and pixels by its header. (A
    `max_pixels` above twice PIL.Image.MAX_IMAGE_PIXELS has no effect: Pillow refuses first.) Only regular files are
    opened. The kind is told by content, not by extension, and is one of `FORMATS`.

    Raises Unreadable for whatever is wrong with the file, truncation included; ValueError for `channels` but 1 and 3.
    """
    demand_channels(channels)
    with _reasons(image):
        data = image if isinstance(image, bytes) else _contents(image, max_bytes)
        if len(data) > max_bytes:
            raise ValueError(_too_long(len(data), max_bytes))
        opened = _open(io.BytesIO(data), max_pixels, max_side)
        opened.load()
        return with_channels(from_pillow(opened), channels)


def size(
    path: str | os.PathLike[str],
    *,
    max_pixels: int = 64_000_000,
    max_side: int = 20_000,
    max_bytes: int = 50_000_000,
) -> tuple[int, int]:
    """(height, width) that `decode` would give, from the header alone. Raises Unreadable."""
    with _reasons(path), _regular_file(path, max_bytes) as file:
        opened = _open(file, max_pixels, max_side)
        width, height = opened.size
        # Pillow gives the size of a TIFF after its turn, of all others before it.
        turned = opened.format != "TIFF" and _orientation(opened) >= 5
        return (width, height) if turned else (height, width)


def from_pillow(image: Image.Image) -> UInt8[Tensor, "C H W"]:
    """A loaded Pillow image upright, with one channel where it is gray and three otherwise. ValueError if undefined."""
    turn = _TURNS.get(_orientation(image))
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        values_HW = np.asarray(image).astype(np.uint32)
        return torch.from_numpy(((values_HW + 128) // 257).astype(np.uint8)[None])
    if image.mode in _ALPHA or (image.mode in _OPAQUE and _transparent(image)):
        return _over_white(np.asarray(image.convert("RGBA")))
    if image.mode not in _OPAQUE:
        raise ValueError(f"pixels of type {image.mode} have no agreed range: save as 8 or 16 bits, gray or RGB")
    if image.mode in ("1", "L"):
        return torch.from_numpy(np.array(image.convert("L"))[None])
    return _planes(np.asarray(image if image.mode == "RGB" else image.convert("RGB")))


def with_channels(pixels: UInt8[Tensor, "C H W"], channels: int) -> UInt8[Tensor, "{channels} H W"]:
    """One channel repeated to three, three weighed to luma, or the pixels as they are."""
    if len(pixels) == channels:
        return pixels
    if channels == 3:
        return pixels.expand(3, -1, -1).contiguous()
    red, green, blue = pixels.int()
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).to(torch.uint8)[None]


def demand_channels(channels: int) -> None:
    """ValueError unless pixels can be delivered with that many channels."""
    if channels not in (1, 3):
        raise ValueError(f"images of {channels} channels are not supported: choose 1 (luma) or 3 (color)")


@contextmanager
def _reasons(image: str | os.PathLike[str] | bytes) -> Iterator[None]:
    """Whatever fails inside is said as Unreadable: on hostile bytes Pillow raises nearly any type of error."""
    path = f"<{len(image)} bytes>" if isinstance(image, bytes) else os.fspath(image)
    try:
        yield
    except UnidentifiedImageError as error:
        raise Unreadable(path, f"its content is not {KINDS}") from error
    except Image.DecompressionBombError as error:
        raise Unreadable(path, "its header claims more pixels than Pillow allows: scale it down") from error
    except OSError as error:
        raise Unreadable(path, " ".join((error.strerror or str(error)).split())) from error
    except Exception as error:
        raise Unreadable(path, " ".join(str(error).split()) or type(error).__name__) from error


def _contents(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    with _regular_file(path, max_bytes) as file:
        return file.read(max_bytes + 1)  # one more than allowed: a file that grows meanwhile is noticed


def _regular_file(path: str | os.PathLike[str], max_bytes: int) -> File:
    descriptor = os.open(path, _FLAGS)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "folder" if stat.S_ISDIR(status.st_mode) else "pipe, socket or device"
            raise ValueError(f"it is a {kind}, not a file")
        if status.st_size == 0:
            raise ValueError("the file is empty")
        if status.st_size > max_bytes:
            raise ValueError(_too_long(status.st_size, max_bytes))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _too_long(length: int, max_bytes: int) -> str:
    return f"{length:,} bytes are more than the {max_bytes:,} allowed: save it smaller"


def _open(file: File, max_pixels: int, max_side: int) -> Image.Image:
    canvas = _webp_canvas(file.read(30))
    if canvas is not None:  # Pillow's WebP decoder allocates its canvas on opening
        _demand_size(*canvas, max_pixels, max_side)
    file.seek(0)
    image = Image.open(file, formats=FORMATS)
    _demand_size(*image.size, max_pixels, max_side)
    return image


def _demand_size(width: int, height: int, max_pixels: int, max_side: int) -> None:
    if max(width, height) > max_side:
        raise ValueError(f"{width} x {height} pixels exceed the longest side allowed, {max_side:,}: scale it down")
    if width * height > max_pixels:
        raise ValueError(f"{width} x {height} pixels are more than the {max_pixels:,} allowed: scale it down")


def _webp_canvas(head: bytes) -> tuple[int, int] | None:
    """(width, height) from the first 30 bytes of a WebP file (RFC 9649, section 2.5 to 2.7); None for others."""
    if len(head) < 30 or head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if head[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1 where the EXIF block is missing or broken, since the pixels need not be."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a hostile EXIF block, as above
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


def _transparent(image: Image.Image) -> bool:
    palette = image.palette.mode if image.mode == "P" and image.palette else ""
    return "transparency" in image.info or palette.endswith("A")


def _over_white(rgba_HW4: np.ndarray) -> UInt8[Tensor, "3 H W"]:
    color, alpha = rgba_HW4[..., :3].astype(np.uint32), rgba_HW4[..., 3:].astype(np.uint32)
    return _planes(((color * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8))


def _planes(pixels_HWC: np.ndarray) -> UInt8[Tensor, "C H W"]:
    return torch.from_numpy(np.array(pixels_HWC.transpose(2, 0, 1), order="C"))
