"""Images in tar files, by webdataset's convention: members with one key (the name up to its first dot) are a sample.

Each shard is indexed once by its headers; then any image is read by its place, without unpacking anything. Members that
are links, hidden (a part of the name begins with a dot, as `..` does) or no images are left out.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Sequence

from jaxtyping import UInt8
from torch import Tensor

from lookalike.data.decode import Unreadable, decode, demand_channels, shown, size
from lookalike.data.places import MAX_BYTES, Local, Place, is_uri, local_path, reason, told_as
from lookalike.data.remote import Remote, demand_scheme
from lookalike.data.shard_index import Progress, hidden, indexed, key
from lookalike.data.tar import BLOCK, members

MAX_TEXT = 1 << 20  # bytes of a label file


class Shards:
    """The images of tar files, in the order of the shards and of their members; an id is shard/member.

    names: paths or URIs. column: which image of a sample, where it has several, by its extension; "each" takes all.
    download: a folder that keeps copies of remote shards; without it parts are read over the network each time.
    on_progress hears (shards indexed, shards). An image of a shard that has changed meanwhile is Unreadable.

    Raises ValueError for a shard that is missing, cannot be read, is no tar, compressed, empty, damaged or cut off;
    for samples of several images without a choice; and where there is no image.
    """

    concurrent = True
    scaled_to: int | None = None  # may be set: see `decode`
    labels = None

    def __init__(
        self,
        names: Sequence[str],
        *,
        channels: int = 3,
        column: str | None = None,
        download: str | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        demand_channels(channels)
        _demand_there(names)
        self.channels, self.titles = channels, _titles(names)
        self.places = [_place(name, download) for name in names]
        self.index = indexed(self.places, column=column, on_progress=on_progress)

    def __len__(self) -> int:
        return len(self.index)

    def read(self, index: int) -> UInt8[Tensor, "C H W"]:
        with told_as(self.name(index)):
            return decode(self._image(index), channels=self.channels, scaled_to=self.scaled_to)

    def name(self, index: int) -> str:
        title = self.titles[self.index.shard[index]]
        return f"{title}/{self.index.name(index).decode('utf-8', 'surrogateescape')}"

    def size(self, index: int) -> tuple[int, int]:
        with told_as(self.name(index)):
            return size(self._image(index), scaled_to=self.scaled_to)

    def identity(self) -> str:
        """A hash over the names of shards and images and the images' byte sizes, in order; not over where they lie."""
        digest = hashlib.blake2b("\0".join(self.titles).encode("utf-8", "surrogateescape"), digest_size=16)
        for column in (self.index.shard, self.index.size, self.index.end):
            digest.update(column.astype("<i8").data)
        digest.update(self.index.names)
        return digest.hexdigest()

    def words(self, spec: str) -> list[str | None] | None:
        """The label of each image, where it has one: "folders", the first folder of the member's name; "cls", the text
        of key.cls; "json:FIELD", a field of key.json. None for another `spec`.
        """
        names = [self.index.name(row) for row in range(len(self))]
        if spec == "folders":
            return [
                name.partition(b"/")[0].decode("utf-8", "surrogateescape") if b"/" in name else None for name in names
            ]
        extension, _, field = spec.partition(":")
        if extension not in ("cls", "json") or (extension == "json") != bool(field):
            return None
        texts = [_texts(place, extension.encode()) for place in self.places]
        found = (texts[shard].get(key(name)) for shard, name in zip(self.index.shard, names, strict=True))
        return [_word(text, field) for text in found]

    def _image(self, index: int) -> bytes:
        place, size = self.places[self.index.shard[index]], int(self.index.size[index])
        if not 0 < size <= MAX_BYTES:
            limit = f"{size:,} bytes are more than the {MAX_BYTES:,} allowed: save it smaller"
            raise Unreadable(place.name, limit if size else "the member is empty")
        data = place.read(int(self.index.start[index]) - BLOCK, BLOCK + size)
        if len(data) < BLOCK + size or zlib.crc32(data[:BLOCK]) != self.index.check[index]:
            raise Unreadable(place.name, "its shard was changed after the start: restore it, or start again")
        return data[BLOCK:]


def _place(name: str, download: str | None) -> Place:
    if not is_uri(name):
        return Local(name)
    path = local_path(name)
    if path is not None:
        return Local(name, path)
    demand_scheme(name)
    remote = Remote(name)
    try:
        return remote if download is None else remote.copy(download, remote.length())
    except OSError as error:
        raise ValueError(f"{shown(name)} cannot be copied: {reason(error)}; check the address") from error


def _demand_there(names: Sequence[str]) -> None:
    paths = [local_path(name) if is_uri(name) else name for name in names]
    missing = [path for path in paths if path is not None and not os.path.exists(path)]
    if missing:
        count = f"{len(missing):,} of {len(names):,} shards do not exist, the first is {shown(missing[0])}"
        one = f"the shard {shown(missing[0])} does not exist"
        raise ValueError(f"{one if len(names) == 1 else count}: check the names, or leave them out")


def _titles(names: Sequence[str]) -> list[str]:
    """The names without the folders that all shards share and without a URI's query: what a moved shard keeps."""
    parts = [(name.partition("?")[0] if is_uri(name) else name).replace(os.sep, "/").split("/") for name in names]
    shared = 0
    while all(len(part) > shared + 1 and part[shared] == parts[0][shared] for part in parts):
        shared += 1
    return ["/".join(part[shared:]) for part in parts]


def _texts(place: Place, extension: bytes) -> dict[bytes, bytes]:
    """The contents of the members with this extension, by their key."""
    length, found = place.length(), {}
    with place.open(length) as file:
        for name, start, size, _ in members(file, length):
            if name.rpartition(b"/")[2].partition(b".")[2] == extension and size <= MAX_TEXT and not hidden(name):
                file.seek(start)
                found[key(name)] = file.read(size)
    return found


def _word(text: bytes | None, field: str) -> str | None:
    """The label that a text holds: all of it, or a field (a.b inside another) of the JSON object in it."""
    if text is None:
        return None
    if not field:
        return text.decode("utf-8", "replace").strip() or None
    try:
        value = json.loads(text)
        for name in field.split("."):
            value = value[name]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None
    return str(value) if isinstance(value, str | int) and str(value).strip() else None
