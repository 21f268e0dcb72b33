"""One image becomes a uint8 tensor (C, H, W), or an `Unreadable` that says in one sentence why not.

What the pixels are:

- the first frame, upright by its EXIF orientation; color profiles (ICC) are ignored;
- gray, repeated over three channels; with `channels=1` luma, (19595 R + 38470 G + 7471 B + 32768) >> 16 (ITU-R 601-2);
- 16-bit gray divided by 257 and rounded; of 16-bit color Pillow delivers the high byte, at most one level away
  (color in PPM files: divided and rounded, too);
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
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)
from torch import Tensor

from lookalike.data.conversion import from_pillow, orientation, with_channels
from lookalike.data.netpbm import CODECS, from_netpbm

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # JPEG opens MPO too
KINDS = "JPEG, PNG, WebP, GIF, BMP, TIFF or PPM"
EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm".split()  # noqa: SIM905
)

READS = 1_000_000  # of header pieces: about a second. Files of millions of empty chunks or markers take minutes
MEMORY = 650_000_000  # bytes that decoding may take by our estimate, beside the file and the pixels that come out
SCANS = 1_000_000_000  # pixels of a JPEG times its scans: about two seconds
RUNS = 16_000_000  # pixels of a run-length encoded BMP, which Pillow decodes in Python

# Both flags are absent on some systems. O_NONBLOCK: opening a named pipe must not wait for its writer.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class _Patience:
    """A file that is read in at most READS pieces: Pillow reads headers one by one, in Python."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > READS:
            raise ValueError("it consists of far too many small pieces: save it again")
        return super().read(size)  # type: ignore[misc]


class _Bytes(_Patience, io.BytesIO):
    """The bytes of a file."""


class _Stream(_Patience, io.BufferedReader):
    """An open file."""


File = _Bytes | _Stream


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
    scaled_to: int | None = None,
) -> UInt8[Tensor, "{channels} H W"]:
    """The pixels of a file or of its bytes, as the head of this file defines them.

    scaled_to: a JPEG is decoded at a half, a quarter or an eighth of its size while its shorter side keeps at least so
    many pixels: faster, and other pixels than an exact decoder's. None: exact.

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
        opened = _open(_Bytes(data), max_pixels, max_side)
        _demand_affordable(opened, data)
        _scale(opened, scaled_to)
        if opened.format == "PPM" and opened.tile and opened.tile[0][0] in CODECS:
            return with_channels(from_netpbm(opened, data), channels)
        opened.load()
        return with_channels(from_pillow(opened), channels)


def numbers(
    path: str | os.PathLike[str] | bytes,
    *,
    max_pixels: int = 64_000_000,
    max_side: int = 20_000,
    max_bytes: int = 50_000_000,
) -> UInt8[Tensor, "H W"]:
    """A mask: the number that the file holds for each pixel, an entry of its palette or a gray value. No color is seen.

    The limits are those of `decode`. Raises Unreadable, also for pixels that are colors.
    """
    with _reasons(path):
        data = path if isinstance(path, bytes) else _contents(path, max_bytes)
        opened = _open(_Bytes(data), max_pixels, max_side)
        if opened.mode not in ("P", "L", "1"):
            raise ValueError(
                f"its pixels are {opened.mode}, not numbers: save the mask as a palette or an 8-bit gray PNG"
            )
        if opened.mode == "L" and opened.tile and opened.tile[0][3] in ("L;2", "L;4"):  # Pillow would stretch them
            raise ValueError("its gray pixels have fewer than 8 bits: save the mask as a palette or an 8-bit gray PNG")
        opened.load()
        return torch.from_numpy(np.array(opened, dtype=np.uint8))


def size(
    path: str | os.PathLike[str] | bytes,
    *,
    max_pixels: int = 64_000_000,
    max_side: int = 20_000,
    max_bytes: int = 50_000_000,
    scaled_to: int | None = None,
) -> tuple[int, int]:
    """(height, width) that `decode` would give of a file or of its bytes, from the header alone. Raises Unreadable."""
    with _reasons(path), _regular_file(path, max_bytes) as file:
        opened = _open(file, max_pixels, max_side)
        _scale(opened, scaled_to)
        width, height = opened.size
        # Pillow gives the size of a TIFF after its turn, of all others before it.
        turned = opened.format != "TIFF" and orientation(opened) >= 5
        return (width, height) if turned else (height, width)


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


def _regular_file(path: str | os.PathLike[str] | bytes, max_bytes: int) -> File:
    if isinstance(path, bytes):
        return _Bytes(path)
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
        return _Stream(io.FileIO(descriptor, "rb"))
    except BaseException:
        os.close(descriptor)
        raise


def _too_long(length: int, max_bytes: int) -> str:
    return f"{length:,} bytes are more than the {max_bytes:,} allowed: save it smaller"


def _open(file: File, max_pixels: int, max_side: int) -> ImageFile.ImageFile:
    canvas = _webp_canvas(file.read(30))
    if canvas is not None:  # Pillow's WebP decoder allocates its canvas on opening
        _demand_size(*canvas, max_pixels, max_side)
    file.seek(0)
    image = Image.open(file, formats=FORMATS)
    _demand_size(*image.size, max_pixels, max_side)
    return image


def _scale(image: ImageFile.ImageFile, scaled_to: int | None) -> None:
    """Has a JPEG decoded small: Pillow takes the largest reduction that leaves as many pixels as are asked for."""
    if scaled_to is not None and image.format == "JPEG":
        short = min(image.size)
        image.draft(None, (image.width * scaled_to // short, image.height * scaled_to // short))


def _demand_affordable(image: ImageFile.ImageFile, data: bytes) -> None:
    """ValueError where decoding would take far more memory or time than the number of pixels tells."""
    pixels = image.width * image.height
    bytes_a_pixel = 4.0  # of Pillow
    if isinstance(image, JpegImagePlugin.JpegImageFile) and (scans := _scans(data)) > 1:
        bytes_a_pixel += 2 * image.layers  # the coefficients
        if scans * pixels > SCANS:
            raise ValueError(f"{scans} scans of {pixels:,} pixels take too long: save it as a baseline JPEG")
    if image.format == "WEBP":
        bytes_a_pixel = 18  # two canvases, the frame, a copy, and Pillow's
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits, samples = image.tag_v2.get(258, (8,)), image.tag_v2.get(277, 1)
        bytes_a_pixel += max(bits) * samples / 8  # a strip may be the whole image
        _demand_tiles(image)
    if image.format == "BMP" and image.tile and image.tile[0][0] == "bmp_rle" and pixels > RUNS:
        raise ValueError(f"{pixels:,} run-length encoded pixels are more than the {RUNS:,} allowed: save it as PNG")
    if bytes_a_pixel * pixels > MEMORY:
        need = f"{image.width} x {image.height} pixels of this kind take {bytes_a_pixel * pixels / 1e6:,.0f} MB"
        raise ValueError(f"{need} to decode, more than the {MEMORY / 1e6:,.0f} allowed: scale it down")


def _scans(data: bytes) -> int:
    """Headers of scans in a JPEG, FF DA. Three times as fast as bytes.count, where FF is frequent."""
    values = np.frombuffer(data, np.uint8)
    return int((values[:-1][values[1:] == 0xDA] == 0xFF).sum())


def _demand_tiles(image: TiffImagePlugin.TiffImageFile) -> None:
    """ValueError where the tiles are larger than an image of this size needs: each is decoded as a whole."""
    sides = (image.tag_v2.get(322, 0), image.width), (image.tag_v2.get(323, 0), image.height)
    if any(tile > max(2048, side + 256) for tile, side in sides):
        raise ValueError(f"its tiles are far larger than its {image.width} x {image.height} pixels: save it again")


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
