"""Broken, odd and hostile image files, each with what must come of it: KINDS, name -> Kind.

The picture in all that can be read is 64 wide and 48 high: red, green / blue, white.
"""

import io
import os
import random
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 64
COLORS = {"R": (255, 0, 0), "G": (0, 255, 0), "B": (0, 0, 255), "W": (255, 255, 255), "K": (0, 0, 0)}
UPSIDE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,  # what a viewer turns back by 270 degrees
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True)
class Reads:
    """The file can be read: the colors of the four quarters, in order of reading, and the size."""

    quarters: str = "RGBW"
    height: int = HEIGHT
    width: int = WIDTH


@dataclass(frozen=True)
class Kind:
    """write: makes the file; result: what can be read, or a pattern of the reason why nothing can; name: the file's.

    heavy: decoding takes a noticeable time.
    """

    write: Callable[[Path], object]
    result: Reads | str
    name: str = ""
    heavy: bool = False


def picture(quarters: str = "RGBW", height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    pixels = np.zeros((height, width, 3), np.uint8)
    for number, color in enumerate(quarters):
        rows = slice(0, height // 2) if number < 2 else slice(height // 2, height)
        pixels[rows, slice(0, width // 2) if number % 2 == 0 else slice(width // 2, width)] = COLORS[color]
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def jpeg(image: Image.Image | None = None, **options: object) -> bytes:
    return encoded(image or picture(), "JPEG", **{"quality": 95, "subsampling": 0, **options})


def data(content: bytes | Callable[[], bytes]) -> Callable[[Path], object]:
    """A file with these bytes."""
    return lambda path: path.write_bytes(content() if callable(content) else content)


# PNG ------------------------------------------------------------------------------------------------------------


def chunk(name: bytes, body: bytes = b"", check: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(body))
        + name
        + body
        + struct.pack(">I", zlib.crc32(name + body) if check is None else check)
    )


def header(width: int = WIDTH, height: int = HEIGHT, depth: int = 8, color: int = 2, *rest: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, *(rest or (0, 0, 0))))


def rows(depth: int = 8) -> bytes:
    """The picture's rows without filter."""
    pixels = np.asarray(picture())
    pixels = pixels if depth == 8 else (pixels.astype(np.uint16) * 257).astype(">u2")
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def png(*before: bytes, head: bytes | None = None, body: bytes | None = None, end: bytes | None = None) -> bytes:
    """A PNG file by its parts; `before` the pixels stand other chunks."""
    head = header() if head is None else head
    body = chunk(b"IDAT", zlib.compress(rows())) if body is None else body
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + body + (chunk(b"IEND") if end is None else end)


def large_png(side: int = 8000) -> bytes:
    """As many pixels as are allowed, half transparent, in a file of a megabyte."""
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(1 + 4 * side)) for _ in range(side)) + packer.flush()
    return png(head=header(side, side, 8, 6), body=chunk(b"IDAT", packed))


# GIF, BMP, TIFF, PPM, WebP ----------------------------------------------------------------------------------------


def long_gif(frames: int) -> bytes:
    """An animation whose later frames are one black pixel each."""
    still = encoded(picture().convert("P", palette=Image.Palette.ADAPTIVE), "GIF")
    black = b"\x21\xf9\x04\x04\x01\0\0\0" + b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    return still[:-1] + black * frames + b";"


def commented_gif(blocks: int) -> bytes:
    """A comment in as many blocks of one byte."""
    still = encoded(picture().convert("P", palette=Image.Palette.ADAPTIVE), "GIF")
    start = 13 + 3 * 2 ** ((still[10] & 7) + 1)
    return still[:start] + b"\x21\xfe" + b"\x01x" * blocks + b"\0" + still[start:]


def plain_webp(side: int) -> bytes:
    """A lossless WebP of one color: its bytes are the same for any size but for the header's."""
    small = bytearray(encoded(Image.new("RGB", (16, 16), (9, 8, 7)), "WEBP", lossless=True))
    start = small.index(b"VP8L") + 9
    bits = int.from_bytes(small[start : start + 4], "little") & 0xF0000000
    small[start : start + 4] = (bits | (side - 1) | (side - 1) << 14).to_bytes(4, "little")
    return bytes(small)


def run_length_bmp(side: int) -> bytes:
    head = b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024)
    return head + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, 0, 0, 0, 256, 0) + bytes(1024) + b"\0\1"


def tiled_tiff(tile: int, values: bytes, compression: int) -> bytes:
    """64 x 64 gray pixels in tiles of tile x tile."""
    tags = [(256, 64), (257, 64), (258, 8), (259, compression), (262, 1), (277, 1), (322, tile), (323, tile)]
    tags += [(324, 8 + 2 + 12 * (len(tags) + 2) + 4), (325, len(values))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + values


def endless_tiff() -> bytes:
    """The second page is the first one."""
    data = bytearray(encoded(picture(), "TIFF"))
    start = int.from_bytes(data[4:8], "little")
    place = start + 2 + 12 * int.from_bytes(data[start : start + 2], "little")
    data[place : place + 4] = data[4:8]
    return bytes(data)


def text_ppm() -> bytes:
    numbers = "\n".join(" ".join(map(str, pixel)) for row in np.asarray(picture()).tolist() for pixel in row)
    return f"P3\n# a comment\n{WIDTH} {HEIGHT}\n255\n# another\n{numbers}\n".encode()


def deep_ppm() -> bytes:
    values = (np.asarray(picture()).astype(np.uint16) * 257).astype(">u2")
    return b"P6 %d %d 65535\n" % (WIDTH, HEIGHT) + values.tobytes()


# JPEG -----------------------------------------------------------------------------------------------------------


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = picture().transpose(UPSIDE[orientation]) if orientation in UPSIDE else picture()
    return jpeg(stored, exif=exif)


def with_exif(block: bytes) -> bytes:
    return jpeg(exif=b"Exif\0\0" + block)


def scanned(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan is there many times."""
    whole = jpeg(Image.new("RGB", (side, side)), progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * scans + whole[-2:]


def patched(content: bytes, marker: bytes, offset: int, value: int) -> bytes:
    place = content.index(marker) + offset
    return content[:place] + bytes([value]) + content[place + 1 :]


def scrambled(content: bytes, start: int, stop: int) -> bytes:
    return content[:start] + random.Random(3).randbytes(stop - start) + content[stop:]


# Names and places -----------------------------------------------------------------------------------------------


def sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.write(jpeg())
        file.truncate(60_000_000)


def secret(path: Path) -> None:
    path.write_bytes(jpeg())
    path.chmod(0)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


NOT_A_KIND = "its content is not JPEG, PNG, WebP, GIF, BMP, TIFF or PPM"
KINDS: dict[str, Kind] = {
    "sound": Kind(data(jpeg), Reads()),
    "zero bytes": Kind(data(b""), "the file is empty"),
    **{
        f"cut at {share} %": Kind(
            data(lambda share=share: jpeg()[: len(jpeg()) * share // 100]), "(?i)truncated|not JPEG"
        )
        for share in (1, 2, 10, 50, 90, 99)
    },
    "without its end": Kind(data(lambda: jpeg()[:-2]), "truncated"),
    "PNG cut in the middle": Kind(data(lambda: png()[:100]), "truncated|broken"),
    "PNG without its end": Kind(data(lambda: png(end=b"")), Reads()),
    "text named .jpg": Kind(data(b"this is no picture\n" * 50), NOT_A_KIND),
    "PNG named .jpg": Kind(data(png), Reads()),
    "CMYK JPEG": Kind(data(lambda: jpeg(picture().convert("CMYK"))), Reads()),
    "YCCK JPEG": Kind(data(lambda: patched(jpeg(Image.new("CMYK", (WIDTH, HEIGHT))), b"Adobe", 11, 2)), Reads("????")),
    "gray JPEG": Kind(data(lambda: jpeg(picture("KWWK").convert("L"))), Reads("KWWK")),
    "progressive JPEG": Kind(data(lambda: jpeg(progressive=True)), Reads()),
    "JPEG that claims arithmetic coding": Kind(data(lambda: patched(jpeg(), b"\xff\xc0", 1, 0xC9)), Reads("????")),
    "12-bit JPEG": Kind(data(lambda: patched(jpeg(), b"\xff\xc0", 4, 12)), NOT_A_KIND),
    "broken Huffman table": Kind(
        data(lambda: scrambled(jpeg(), jpeg().index(b"\xff\xc4") + 5, jpeg().index(b"\xff\xc4") + 21)),
        "broken data stream",
    ),
    "JPEG without tables": Kind(
        data(lambda: jpeg()[: jpeg().index(b"\xff\xdb")] + jpeg()[jpeg().index(b"\xff\xc0") :]), "broken data stream"
    ),
    "JPEG of 300 scans": Kind(data(lambda: scanned(2000, 300)), "scans of 4,000,000 pixels take too long"),
    "JPEG behind two million fill bytes": Kind(
        data(lambda: jpeg()[:2] + b"\xff" * 2_000_000 + jpeg()[2:]), "small pieces", heavy=True
    ),
    "JPEG of half a million comments": Kind(
        data(lambda: jpeg()[:2] + b"\xff\xfe\0\2" * 500_000 + jpeg()[2:]), "small pieces", heavy=True
    ),
    **{
        f"EXIF orientation {number}": Kind(data(lambda number=number: turned(number)), Reads())
        for number in range(1, 9)
    },
    "EXIF orientation 99": Kind(data(lambda: turned(99)), Reads()),
    "EXIF that leads to itself": Kind(
        data(
            lambda: with_exif(b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<I", 8))
        ),
        Reads(),
    ),
    "EXIF of noise": Kind(data(lambda: with_exif(random.Random(1).randbytes(500))), Reads()),
    "MPO": Kind(
        data(lambda: encoded(picture(), "MPO", save_all=True, append_images=[picture("KKKK")], quality=95)), Reads()
    ),
    "16-bit gray PNG": Kind(
        data(lambda: encoded(Image.fromarray(np.asarray(picture("KWWK").convert("L")).astype(np.uint16) * 257), "PNG")),
        Reads("KWWK"),
    ),
    "16-bit PNG": Kind(data(lambda: png(head=header(depth=16), body=chunk(b"IDAT", zlib.compress(rows(16))))), Reads()),
    "1-bit PNG": Kind(data(lambda: encoded(picture("KWWK").convert("1"), "PNG")), Reads("KWWK")),
    "palette with alpha": Kind(
        data(lambda: encoded(picture().convert("P", palette=Image.Palette.ADAPTIVE), "PNG", transparency=bytes(4))),
        Reads("WWWW"),
    ),
    "gray with alpha": Kind(data(lambda: encoded(Image.new("LA", (WIDTH, HEIGHT), (0, 0)), "PNG")), Reads("WWWW")),
    "1 x 1": Kind(data(lambda: encoded(Image.new("RGB", (1, 1), "red"), "PNG")), Reads("RRRR", 1, 1)),
    "1 x 20000": Kind(data(lambda: encoded(Image.new("RGB", (1, 20_000), "red"), "PNG")), Reads("RRRR", 20_000, 1)),
    "1 x 20001": Kind(
        data(lambda: encoded(Image.new("RGB", (1, 20_001), "red"), "PNG")), "longest side allowed, 20,000"
    ),
    "PNG header of 30000 x 30000": Kind(data(lambda: png(head=header(30_000, 30_000))), "scale it down"),
    "PNG header of 10000 x 10000": Kind(
        data(lambda: png(head=header(10_000, 10_000))), "more than the 64,000,000 allowed"
    ),
    "PNG of 0 x 0": Kind(data(lambda: png(head=header(0, 0))), NOT_A_KIND),
    "PNG of 8000 x 8000 with alpha": Kind(data(large_png), Reads("WWWW", 8000, 8000), heavy=True),
    "PNG with a bomb of text": Kind(
        data(lambda: png(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(20_000_000), 1)))), "Decompressed data too large"
    ),
    "PNG with a bomb of color": Kind(
        data(lambda: png(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(20_000_000), 1)))), "Decompressed data too large"
    ),
    "PNG of half a million chunks": Kind(data(lambda: png(chunk(b"abCd") * 500_000)), "small pieces", heavy=True),
    "PNG with a wrong checksum": Kind(data(lambda: png(body=chunk(b"IDAT", zlib.compress(rows()), 1))), Reads()),
    "PNG with broken pixels": Kind(data(lambda: png(body=chunk(b"IDAT", b"x\x9c" + bytes(300)))), "broken data stream"),
    "PNG with an unknown filter": Kind(
        data(lambda: png(body=chunk(b"IDAT", zlib.compress(b"\x09" * len(rows()))))), "unrecognized data stream"
    ),
    "PNG with two headers": Kind(data(lambda: png(header(32, 32))), "unrecognized data stream"),
    "interlaced PNG of rows alone": Kind(
        data(lambda: png(head=header(WIDTH, HEIGHT, 8, 2, 0, 0, 1))), "unrecognized data stream"
    ),
    "animated PNG": Kind(
        data(lambda: encoded(picture(), "PNG", save_all=True, append_images=[picture("KKKK")] * 3)), Reads()
    ),
    "GIF of 10,000 frames": Kind(data(lambda: long_gif(10_000)), Reads()),
    "GIF with a comment of 600,000 blocks": Kind(data(lambda: commented_gif(600_000)), "small pieces", heavy=True),
    "GIF cut in the middle": Kind(data(lambda: long_gif(0)[:-40]), "truncated"),
    "animated WebP": Kind(
        data(lambda: encoded(picture(), "WEBP", save_all=True, append_images=[picture("KKKK")], lossless=True)), Reads()
    ),
    "WebP header of 16383 x 16383": Kind(
        data(b"RIFF\xff\0\0\0WEBPVP8L\xf0\0\0\0\x2f" + struct.pack("<I", 16382 | 16382 << 14) + bytes(300)),
        "scale it down",
    ),
    "WebP of 38 million pixels": Kind(data(lambda: plain_webp(6200)), "to decode, more than the 650 allowed"),
    "TIFF of two pages": Kind(
        data(lambda: encoded(picture(), "TIFF", save_all=True, append_images=[picture("KKKK")])), Reads()
    ),
    "TIFF whose pages go round": Kind(data(endless_tiff), Reads()),
    "TIFF in tiles": Kind(data(lambda: tiled_tiff(64, bytes(64 * 64), 1)), Reads("KKKK", 64, 64)),
    "TIFF with a bomb as tile": Kind(
        data(lambda: tiled_tiff(20_000, zlib.compress(bytes(1_000_000)), 8)), "its tiles are far larger"
    ),
    "TIFF of 32 bits": Kind(data(lambda: encoded(Image.new("I", (4, 4)), "TIFF")), "no agreed range"),
    "TIFF of floating-point numbers": Kind(data(lambda: encoded(Image.new("F", (4, 4)), "TIFF")), "no agreed range"),
    "PPM as text": Kind(data(text_ppm), Reads()),
    "PPM of 16 bits": Kind(data(deep_ppm), Reads()),
    "PPM of a million comments": Kind(data(lambda: b"P3 900 900 255\n" + b"#\n" * 1_000_000), "truncated"),
    "PPM of 27 million words": Kind(data(lambda: b"P3 3000 3000 255\n" + b"1 " * 100), "numbers as plain text"),
    "BMP of runs": Kind(data(lambda: run_length_bmp(8000)), "run-length encoded pixels"),
    "HEIC": Kind(data(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500)), NOT_A_KIND),
    "FITS": Kind(data(b"SIMPLE  =                    T" + b" " * 2850), NOT_A_KIND),
    "EPS": Kind(data(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"), NOT_A_KIND),
    "SVG": Kind(data(b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>'), NOT_A_KIND),
    "PDF": Kind(data(b"%PDF-1.7\n" + bytes(400)), NOT_A_KIND),
    "60 MB": Kind(sparse, "60,000,000 bytes are more than the 50,000,000 allowed"),
    "folder": Kind(lambda path: path.mkdir(), "it is a folder, not a file"),
    "pipe": Kind(os.mkfifo, "it is a pipe, socket or device"),
    "socket": Kind(bound_socket, "No such device or address"),
    "device": Kind(lambda path: path.symlink_to("/dev/zero"), "it is a pipe, socket or device"),
    "link to nothing": Kind(lambda path: path.symlink_to("nowhere.jpg"), "No such file"),
    "link to itself": Kind(lambda path: path.symlink_to(path.name), "symbolic links"),
    "forbidden": Kind(secret, "Permission denied"),
    "deleted": Kind(lambda path: None, "No such file"),
    "name in Chinese and Arabic": Kind(data(jpeg), Reads(), "图片-صورة-😀.jpg"),
    "name of two lines": Kind(data(jpeg), Reads(), "two\nlines\r\t.jpg"),
    "name that is no text": Kind(data(jpeg), Reads(), os.fsdecode(b"latin-\xe9.jpg")),
    "name of 255 bytes": Kind(data(jpeg), Reads(), "n" * 251 + ".jpg"),
    "name like an option": Kind(data(jpeg), Reads(), "--help.jpg"),
}


def make(folder: Path) -> dict[str, str]:
    """Writes all files; kind -> file name, in the order of KINDS."""
    names = {}
    for number, (kind, made) in enumerate(KINDS.items()):
        names[kind] = made.name or f"{number:03}.jpg"
        made.write(folder / names[kind])
    return names
