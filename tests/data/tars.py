"""Tar files for tests: written by the standard library, or header by header where they have to be wrong."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from lookalike.data.tar import BLOCK


def png(value: int, height: int = 4, width: int = 5) -> bytes:
    """An encoded image of one gray level."""
    file = io.BytesIO()
    Image.fromarray(np.full((height, width), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def tar_bytes(contents: Mapping[str, bytes], kind: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of these members, in this order."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def write_tar(path: Path, contents: Mapping[str, bytes], kind: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(contents, kind))
    return path


def header(name: bytes, size: bytes | int, kind: bytes = b"0", prefix: bytes = b"") -> bytes:
    """One header with a true check sum, whatever it says; `size` as a number or as the 12 bytes of the field."""
    field = b"%011o\0" % size if isinstance(size, int) else size
    fixed = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + field + b"00000000000\0"
    rest = kind + bytes(100) + b"ustar\0" + b"00" + bytes(80) + prefix.ljust(155, b"\0")
    total = sum(fixed + b" " * 8 + rest)
    return (fixed + b"%06o\0 " % total + rest).ljust(BLOCK, b"\0")


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)
