"""The members of a tar file, found by their headers alone; nothing is unpacked, and no link is followed.

Read are the formats of POSIX.1-2001 (ustar and pax), of GNU tar (long names, sizes in base 256) and of Unix version 7.
"""

import zlib
from collections.abc import Iterator
from io import BufferedIOBase

from lookalike.data.decode import shown

BLOCK = 512
EMPTY = bytes(BLOCK)  # two of these end a tar
LONGEST = 1 << 20  # bytes of an extended header: no name needs more
PLAIN = (b"0", b"\0", b"7")
WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes
PAX, LONG_NAME, SPARSE = b"x", b"L", b"S"
PRIME = 65521  # the modulus of Adler-32
PACKED = {
    b"\x1f\x8b": ("gzip", "gzip -d, and give the .tar"),
    b"BZh": ("bzip2", "bzip2 -d, and give the .tar"),
    b"\xfd7zXZ\0": ("xz", "xz -d, and give the .tar"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -d, and give the .tar"),
    b"\x04\x22\x4d\x18": ("lz4", "lz4 -d, and give the .tar"),
    b"PK\x03\x04": ("zip", "unzip, and give the folder"),
}

Member = tuple[bytes, int, int, int]


def members(file: BufferedIOBase, length: int) -> Iterator[Member]:
    """(name, first byte, bytes, check) of each plain file in a tar of `length` bytes, in its order.

    check: CRC-32 of the header, which lies in the 512 bytes before the first byte: it tells later whether the tar is
    still the one that was read. A name is the bytes as they are written, without what leads to the root (/ and ./).

    Raises ValueError, with a reason that goes after the file's name, for what is no tar, compressed, damaged or cut
    off: of such a file nobody knows which members are missing.
    """
    place = 0
    name: bytes | None = None  # what an extended header says of the next member
    size: int | None = None
    while place < length:
        file.seek(place)
        header = file.read(BLOCK)
        if header == EMPTY:
            return
        _demand_whole(header, place)
        kind, start = header[156:157], place + BLOCK
        name = _name(header) if name is None else name
        size = _number(header[124:136]) if size is None else size
        inside = 0 if kind in WITHOUT_DATA else size
        if inside < 0 or kind == SPARSE:
            raise ValueError(_damaged(place) if inside < 0 else "holds sparse files: pack it again, without --sparse")
        if start + inside > length:
            raise ValueError(_cut_off(f"{shown_name(name)}, {length - start:,} of its {inside:,} bytes are there"))
        if kind in PLAIN and not name.endswith(b"/"):
            yield name.lstrip(b"/").removeprefix(b"./"), start, size, zlib.crc32(header)
        name, size = _extension(file, inside, kind, place) if kind in (PAX, LONG_NAME) else (None, None)
        place = start + -(-inside // BLOCK) * BLOCK


def shown_name(name: bytes) -> str:
    """A member's name for a sentence."""
    return shown(name.decode("utf-8", "surrogateescape"))


def _demand_whole(header: bytes, place: int) -> None:
    if len(header) == BLOCK and _sum(header) == _number(header[148:156].replace(b"\0", b" ")) % PRIME:
        return
    if place:
        raise ValueError(_damaged(place) if len(header) == BLOCK else _cut_off("a header"))
    for magic, (kind, remedy) in PACKED.items():
        if header.startswith(magic):
            raise ValueError(
                f"is compressed ({kind}), and in a compressed file nothing can be found by its place: decompress it "
                f"once, with {remedy}"
            )
    raise ValueError("is no tar, it does not begin with the header of one: give what tar or webdataset wrote")


def _sum(header: bytes) -> int:
    """The sum that a header states, modulo PRIME: the low half of Adler-32 is one more than the sum of the bytes."""
    return ((zlib.adler32(header) & 0xFFFF) - 1 - sum(header[148:156]) + 8 * ord(" ")) % PRIME


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    folder = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return folder + b"/" + name if folder else name


def _number(field: bytes) -> int:
    """Octal digits, or GNU's base 256 behind the byte 0x80; -1 for anything else."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip()
    try:
        return int(digits, 8) if digits.isdigit() else 0 if not digits else -1
    except ValueError:  # the digits 8 and 9
        return -1


def _extension(file: BufferedIOBase, size: int, kind: bytes, place: int) -> tuple[bytes | None, int | None]:
    """Name and size of the next member, as far as an extended header gives them."""
    data = file.read(size) if size <= LONGEST else b""
    if len(data) < size:
        raise ValueError(_damaged(place))
    if kind == LONG_NAME:
        return data.partition(b"\0")[0], None
    try:
        found = dict(_records(data))
        return found.get(b"path"), int(found[b"size"]) if b"size" in found else None
    except ValueError as error:
        raise ValueError(_damaged(place)) from error


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of a pax header: b"11 size=42\\n" is (size, 42), and 11 is the length of the whole."""
    while data.rstrip(b"\0"):
        length = int(data.partition(b" ")[0])
        record, data = data[:length], data[length:]
        key, equals, value = record.partition(b" ")[2].partition(b"=")
        if length < 5 or not equals or not value.endswith(b"\n"):
            raise ValueError(record)
        yield key, value[:-1]


def _damaged(place: int) -> str:
    return f"is damaged at byte {place:,}, where a header should be: copy it again, or leave it out"


def _cut_off(where: str) -> str:
    return f"is cut off inside {where}: copy it again, or leave it out"
