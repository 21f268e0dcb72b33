"""Where images come from: folders and lists of files, opened without decoding anything.

The id of an image is its name: the path relative to the root, with `/` between folders on every system.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import Int64, UInt8
from torch import Tensor

from lookalike.data.decode import EXTENSIONS, KINDS, decode, demand_channels, shown, size

START, LIST_BYTES = 1 << 16, 1 << 30  # of a list: where text is told from other files, and the longest


@runtime_checkable
class Source(Protocol):
    """What batches are read from: numbered samples with names."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> UInt8[Tensor, "C *size"]:
        """uint8 pixels, the same at every call. Raises Unreadable."""
        ...

    def name(self, index: int) -> str:
        """The sample's id."""
        ...


@runtime_checkable
class Images(Source, Protocol):
    """A source of images that also knows their sizes, its own identity and, if asked for, their labels."""

    channels: int

    @property
    def labels(self) -> Int64[Tensor, "N"] | None: ...

    @property
    def concurrent(self) -> bool:
        """Several threads may read at once."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """(height, width), without decoding where that is possible. Raises Unreadable."""
        ...

    def identity(self) -> str:
        """32 hex digits that change when the data do."""
        ...


@runtime_checkable
class Scalable(Protocol):
    """A source that decodes files, and may decode them small: see `decode`."""

    scaled_to: int | None


class Files:
    """Image files below a root, by name; nothing is opened before it is read.

    labels (N,): class numbers, if there are any.
    """

    concurrent = True
    scaled_to: int | None = None  # may be set: see `decode`

    def __init__(
        self,
        root: str | os.PathLike[str],
        names: Sequence[str],
        *,
        channels: int = 3,
        labels: Int64[Tensor, "N"] | None = None,
    ) -> None:
        demand_channels(channels)
        self.root, self.names, self.channels, self.labels = os.fspath(root), names, channels, labels

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> str:
        return os.path.join(self.root, self.names[index])  # an absolute name stands for itself

    def read(self, index: int) -> UInt8[Tensor, "C H W"]:
        return decode(self.path(index), channels=self.channels, scaled_to=self.scaled_to)

    def name(self, index: int) -> str:
        return self.names[index]

    def size(self, index: int) -> tuple[int, int]:
        return size(self.path(index), scaled_to=self.scaled_to)

    def length(self, index: int) -> int:
        """Bytes of the file. Raises OSError, or ValueError for an impossible path."""
        return os.stat(self.path(index)).st_size

    def identity(self) -> str:
        """A hash over names and byte sizes, in order: one `stat` a file.

        Not over times of change, which copying a data set renews; not over contents, which would read all of it; not
        over the root, so that a moved folder is the same data.
        """
        digest = hashlib.blake2b(digest_size=16)
        for index, name in enumerate(self.names):
            try:
                length = self.length(index)
            except (OSError, ValueError):
                length = -1
            digest.update(f"{name}\0{length}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


class Folder(Files):
    """All images of a folder and the folders in it, in the order of their names; `ignored` counts the other files.

    Hidden files and folders (a leading dot) and files without the extension of an image are ignored. Links to folders
    are followed; each folder is read once, so loops end. Whatever has the name of an image counts as one: a dangling
    link or a pipe is found unreadable when it is read. Raises ValueError for a folder that is missing, cannot be
    listed or holds no image.
    """

    def __init__(self, path: str | os.PathLike[str], *, channels: int = 3) -> None:
        root = os.fspath(path)
        names, self.ignored = _scan(root)
        if not names:
            raise ValueError(no_images(root, self.ignored))
        super().__init__(root, names, channels=channels)


class Listing(Files):
    """The images named in a text file, one path a line, absolute or relative to the file's own folder.

    Empty lines and lines that begin with # do not count; spaces belong to the name. The order is the file's. Raises
    ValueError for a file that is missing, is no text or names no image: of the first ten paths one has to exist.
    """

    def __init__(self, path: str | os.PathLike[str], *, channels: int = 3) -> None:
        file = os.fspath(path)
        names = lines_of(file)
        super().__init__(os.path.dirname(file), names, channels=channels)
        if not any(os.path.isfile(self.path(i)) for i in range(min(10, len(names)))):
            raise ValueError(
                f"{shown(file)} lists no image that exists, the first line is {names[0][:80]!r}: "
                "write one path a line, absolute or relative to the list's own folder"
            )


def evenly(size: int, count: int) -> list[int]:
    """At most `count` different indices below `size`, evenly spaced."""
    return [i * size // count for i in range(count)] if size > count else list(range(size))


def _scan(root: str) -> tuple[list[str], Counter[str]]:
    names: list[str] = []
    ignored: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    folders = [""]
    while folders:
        prefix = folders.pop()
        try:
            inside = _scan_one(os.path.join(root, prefix), prefix, seen, names, ignored)
        except OSError as error:
            raise ValueError(_not_listed(root, prefix, error)) from error
        folders.extend(sorted(inside, reverse=True))  # in the order of names: which of two links comes first is certain
    names.sort()
    return names, ignored


def _scan_one(path: str, prefix: str, seen: set[tuple[int, int]], names: list[str], ignored: Counter[str]) -> list[str]:
    """Adds the images of one folder; returns the folders in it, each once, however many links lead there."""
    folders: list[str] = []
    status = os.stat(path)
    if (status.st_dev, status.st_ino) in seen:
        return folders
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            extension = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                ignored["hidden"] += 1
            elif _is_folder(entry):
                folders.append(f"{prefix}{name}/")
            elif extension in EXTENSIONS:
                names.append(prefix + name)
            else:
                ignored[extension or "no extension"] += 1
    return folders


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _not_listed(root: str, prefix: str, error: OSError) -> str:
    path = shown(os.path.join(root, prefix))
    if isinstance(error, FileNotFoundError):
        return f"{path} does not exist: give a folder of images, or a text file with one path a line"
    if isinstance(error, NotADirectoryError):
        return f"{path} is a file, not a folder: give a folder of images"
    return f"{path} cannot be listed ({error.strerror}): give it permission to be read, or move it elsewhere"


def no_images(root: str, ignored: Mapping[str, int]) -> str:
    """The sentence for a place that holds no image, but `ignored` files by kind."""
    if not ignored:
        return f"{shown(root)} is empty: give a folder that holds images ({KINDS})"
    kinds = sorted(ignored.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{shown(kind)}: {count}" for kind, count in kinds[:5])
    return (
        f"{shown(root)} holds no image of a kind that can be read, but {sum(ignored.values())} other files ({listed}): "
        f"convert them to {KINDS}"
    )


def lines_in(data: bytes, file: str) -> list[str]:
    """The lines of a list that name something. Raises ValueError, naming `file`, where there is none."""
    text = data.decode("utf-8-sig", "surrogateescape")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    names = [line for line in lines if line.strip() and not line.startswith("#")]
    if not names or "\0" in text:
        found = "is not text" if "\0" in text else "is an empty list"
        raise ValueError(f"{shown(file)} {found}: give a folder of images, or a text file with one path a line")
    return names


def lines_of(file: str) -> list[str]:
    """The lines of a list file that name something. Raises ValueError for one that cannot be read or is no list."""
    try:
        with Path(file).open("rb") as opened:
            data = opened.read(START)
            if b"\0" not in data:  # what is not text may be huge
                data += opened.read(LIST_BYTES)
    except OSError as error:
        raise ValueError(f"{shown(file)} cannot be opened ({error.strerror}): give a list of images") from error
    if len(data) > LIST_BYTES:
        raise ValueError(f"{shown(file)} is longer than {LIST_BYTES:,} bytes: give a shorter list of images")
    return lines_in(data, file)
