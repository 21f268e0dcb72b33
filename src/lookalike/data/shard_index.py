"""Where the images of tar shards lie: found once by the headers, kept as columns, since there may be millions."""

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int32, Int64, UInt32

from lookalike.data.decode import EXTENSIONS, shown
from lookalike.data.images import no_images
from lookalike.data.places import Local, Place, reason
from lookalike.data.tar import members, shown_name

EACH = "each"  # the column that makes every image a sample of its own
KINDS = 100  # of ignored members that are counted apart
CONNECTIONS = 8  # shards indexed at once over a network
_IMAGES = frozenset(extension[1:].encode() for extension in EXTENSIONS)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Index:
    """N images: the number of each one's shard, its first byte there, its bytes, the CRC-32 of its header, its name.

    names: all names in one row; end: where each ends. About 40 bytes an image, beside its name.
    """

    shard: Int32[np.ndarray, "N"]
    start: Int64[np.ndarray, "N"]
    size: Int64[np.ndarray, "N"]
    check: UInt32[np.ndarray, "N"]
    end: Int64[np.ndarray, "N"]
    names: bytes

    def __len__(self) -> int:
        return len(self.end)

    def name(self, row: int) -> bytes:
        return _name(self.names, self.end, range(len(self))[row])


def indexed(places: Sequence[Place], *, column: str | None = None, on_progress: Progress | None = None) -> Index:
    """The images of all shards, in the order of shards and members.

    column: the extension of the image to take from each sample, "each" for all images, None where samples have one.
    on_progress hears (shards done, shards), at first (0, shards).

    Raises ValueError, naming the shard, for one that cannot be read or is empty, for samples of several images without
    a choice, and where there is no image at all.
    """
    found: list[_Found] = []
    if on_progress is not None:
        on_progress(0, len(places))
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        far = any(not isinstance(place, Local) for place in places)
        for part in (pool.map if far else map)(lambda place: _read(place, column), places):
            found.append(part)
            if on_progress is not None:
                on_progress(len(found), len(places))
    index = _joined(found)
    if not len(index):
        ignored = sum((part.ignored for part in found), Counter())
        where = places[0].name if len(places) == 1 else f"{places[0].name} to {places[-1].name}"
        raise ValueError(_without_column(where, column, ignored) if column else no_images(where, ignored))
    return index


def key(name: bytes) -> bytes:
    """What the members of one sample share: their name up to the first dot behind the last slash."""
    folder, slash, last = name.rpartition(b"/")
    return folder + slash + last.partition(b".")[0]


def hidden(name: bytes) -> bool:
    """Whether a component of the name begins with a dot, as `..` does."""
    return name.startswith(b".") or b"/." in name


@dataclass
class _Found:
    """The columns of one shard while they grow."""

    starts: array = field(default_factory=lambda: array("q"))
    sizes: array = field(default_factory=lambda: array("q"))
    checks: array = field(default_factory=lambda: array("I"))
    ends: array = field(default_factory=lambda: array("q"))
    keys: array = field(default_factory=lambda: array("q"))
    names: bytearray = field(default_factory=bytearray)
    ignored: Counter[str] = field(default_factory=Counter)


def _read(place: Place, column: str | None) -> _Found:
    found = _Found()
    try:
        length = place.length()
        with place.open(length) as file:
            for member in members(file, length):
                _take(found, member, column)
    except OSError as error:
        raise ValueError(
            f"{shown(place.name)} cannot be read: {reason(error)}; check the path and its server"
        ) from error
    except ValueError as error:
        raise ValueError(f"{shown(place.name)} {error}") from error
    if not found.ends and not found.ignored:
        raise ValueError(f"{shown(place.name)} is an empty tar: pack it again, or leave it out")
    if column is None:
        _demand_one_each(found, place)
    return found


def _take(found: _Found, member: tuple[bytes, int, int, int], column: str | None) -> None:
    name, start, size, check = member
    extension = name.rpartition(b"/")[2].partition(b".")[2].lower()
    if hidden(name):
        found.ignored["hidden"] += 1
    elif _wanted(extension, column):
        found.starts.append(start)
        found.sizes.append(size)
        found.checks.append(check)
        found.names += name
        found.ends.append(len(found.names))
        found.keys.append(hash(key(name)))
    else:
        kind = "." + extension.decode("utf-8", "surrogateescape") if extension else "no extension"
        found.ignored[kind if kind in found.ignored or len(found.ignored) < KINDS else "others"] += 1


def _wanted(extension: bytes, column: str | None) -> bool:
    if column is None or column == EACH:
        return extension.rpartition(b".")[2] in _IMAGES
    return extension == column.lower().lstrip(".").encode()


def _demand_one_each(found: _Found, place: Place) -> None:
    """ValueError where a sample has several images: no one but the user knows which is meant."""
    keys = np.array(found.keys, dtype=np.int64)
    order = np.argsort(keys, kind="stable")
    (again,) = np.nonzero(np.diff(keys[order]) == 0)
    for first, second in sorted(zip(order[again].tolist(), order[again + 1].tolist(), strict=True)):
        names = [_name(found.names, found.ends, row) for row in (first, second)]
        if key(names[0]) != key(names[1]):  # two keys with one hash
            continue
        one, other = (shown_name(name.removeprefix(key(name) + b".")) for name in names)
        raise ValueError(
            f"{shown(place.name)} has several images in a sample, as {shown_name(key(names[0]))} has .{one} and "
            f".{other}: choose one with --column {one}, or take each image by itself with --column each"
        )


def _name(names: bytes | bytearray, ends: array | np.ndarray, row: int) -> bytes:
    return bytes(names[ends[row - 1] if row else 0 : ends[row]])


def _joined(found: Sequence[_Found]) -> Index:
    counts = [len(part.ends) for part in found]
    before = np.cumsum([0, *(len(part.names) for part in found)])
    ends = [np.array(part.ends, dtype=np.int64) + skip for part, skip in zip(found, before, strict=False)]
    return Index(
        shard=np.repeat(np.arange(len(found), dtype=np.int32), counts),
        start=np.concatenate([np.array(part.starts, dtype=np.int64) for part in found]),
        size=np.concatenate([np.array(part.sizes, dtype=np.int64) for part in found]),
        check=np.concatenate([np.array(part.checks, dtype=np.uint32) for part in found]),
        end=np.concatenate(ends),
        names=b"".join(part.names for part in found),
    )


def _without_column(where: str, column: str, ignored: Counter[str]) -> str:
    kinds = ", ".join(shown(kind) for kind, _ in ignored.most_common(5))
    return f"{shown(where)} has no member with the extension {column!r}, but {kinds}: choose another with --column"
