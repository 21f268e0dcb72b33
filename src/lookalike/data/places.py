"""Where bytes lie, to be read in parts; no handle outlives a call, so threads and processes can share a place."""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from lookalike.data.decode import Unreadable

MAX_BYTES = 50_000_000  # of one encoded image, as for image files
BUFFER = 2**14  # bytes read at once while headers are looked for
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a pipe must not wait for its writer


@runtime_checkable
class Place(Protocol):
    """A file that can be read in parts."""

    @property
    def name(self) -> str:
        """The path or URI, as the user wrote it."""
        ...

    def length(self) -> int:
        """In bytes. Raises OSError."""
        ...

    def read(self, start: int, length: int) -> bytes:
        """Those bytes, fewer where the file ends. Raises OSError."""
        ...

    def open(self, length: int) -> io.BufferedReader:
        """The file as one object, for reading many parts in their order. Raises OSError."""
        ...


@dataclass(frozen=True)
class Local:
    """A file of this machine; `path` is where it is found, if not by its name."""

    name: str
    path: str = ""

    def length(self) -> int:
        status = os.stat(self.path or self.name)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is no plain file")
        return status.st_size

    def read(self, start: int, length: int) -> bytes:
        descriptor = os.open(self.path or self.name, _FLAGS)
        try:
            os.lseek(descriptor, start, os.SEEK_SET)
            data = os.read(descriptor, length)
            while len(data) < length and (more := os.read(descriptor, length - len(data))):
                data += more
            return data
        finally:
            os.close(descriptor)

    def open(self, length: int) -> io.BufferedReader:
        return io.BufferedReader(io.FileIO(self.path or self.name), BUFFER)


class Reader(io.RawIOBase):
    """A place as a file object."""

    def __init__(self, place: Place, length: int) -> None:
        self.place, self.length, self.position = place, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.position = (0, self.position, self.length)[whence] + offset
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self.length - self.position))
        data = self.place.read(self.position, wanted) if wanted else b""
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)


def is_uri(text: str) -> bool:
    """Whether `text` names something by scheme://, rather than a path."""
    scheme, found, _ = text.partition("://")
    return bool(found) and scheme.replace("+", "").replace("-", "").replace(".", "").isalnum()


def local_path(uri: str) -> str | None:
    """The path of a file:// URI (RFC 8089: percent-encoded); None for other schemes."""
    return unquote(urlsplit(uri).path, errors="surrogateescape") if uri.startswith("file://") else None


def joined(root: str, name: str) -> str:
    """`name` found from the folder `root`, which may be a URI; an absolute path and a URI stand for themselves."""
    if is_uri(name):
        return name
    return f"{root.rstrip('/')}/{name}" if is_uri(root) else os.path.join(root, name)


@contextmanager
def told_as(name: str) -> Iterator[None]:
    """Whatever cannot be read inside is Unreadable under the sample's own name."""
    try:
        yield
    except Unreadable as error:
        raise Unreadable(name, error.reason) from error
    except OSError as error:
        raise Unreadable(name, reason(error)) from error


def reason(error: OSError) -> str:
    """What an OSError says, in one line."""
    return " ".join((error.strerror or str(error) or type(error).__name__).split())
