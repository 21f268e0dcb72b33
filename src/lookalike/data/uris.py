"""Images by their URIs, or by paths and URIs mixed, as a list file names them."""

import hashlib
from collections.abc import Sequence

from jaxtyping import UInt8
from torch import Tensor

from lookalike.data.decode import Unreadable, decode, demand_channels, size
from lookalike.data.images import evenly
from lookalike.data.places import MAX_BYTES, Local, is_uri, joined, local_path, told_as
from lookalike.data.remote import Remote, demand_scheme

ASKED = 64  # files whose length is part of the identity: each is a question to the server


class Uris:
    """Image files named by URIs or paths; nothing is opened before it is read. An id is the line as it is written.

    root: the folder, or the URI of it, that relative paths start from. download: a folder that keeps copies of remote
    files; one that is there is not asked for again. Raises ValueError for a scheme that cannot be opened.
    """

    concurrent = True
    scaled_to: int | None = None  # may be set: see `decode`
    labels = None

    def __init__(self, names: Sequence[str], *, root: str = "", channels: int = 3, download: str | None = None) -> None:
        demand_channels(channels)
        self.names, self.root, self.channels, self.download = names, root, channels, download
        for scheme, uri in {uri.partition("://")[0]: uri for uri in map(self.uri, range(len(names)))}.items():
            if is_uri(uri) and scheme != "file":
                demand_scheme(uri)

    def __len__(self) -> int:
        return len(self.names)

    def uri(self, index: int) -> str:
        """Where the image lies: a URI, or a path."""
        return joined(self.root, self.names[index])

    def read(self, index: int) -> UInt8[Tensor, "C H W"]:
        with told_as(self.name(index)):
            return decode(self._image(index), channels=self.channels, scaled_to=self.scaled_to)

    def name(self, index: int) -> str:
        return self.names[index]

    def size(self, index: int) -> tuple[int, int]:
        with told_as(self.name(index)):
            return size(self._image(index), scaled_to=self.scaled_to)

    def identity(self) -> str:
        """A hash over all names, in order, and the lengths of at most 64 files, evenly spaced."""
        digest = hashlib.blake2b(digest_size=16)
        for name in self.names:
            digest.update(f"{name}\0".encode("utf-8", "surrogateescape"))
        for index in evenly(len(self), ASKED):
            uri = self.uri(index)
            path = uri if not is_uri(uri) else local_path(uri)
            place = Remote(uri) if path is None else Local(path)
            try:
                length = place.length()
            except (OSError, ValueError):
                length = -1
            digest.update(f"{index}\0{length}\0".encode())
        return digest.hexdigest()

    def _image(self, index: int) -> str | bytes:
        """A path, or the bytes of what lies elsewhere."""
        uri = self.uri(index)
        path = local_path(uri) if is_uri(uri) else uri
        if path is not None:
            return path
        place = Remote(uri)
        if self.download is not None:
            return place.copy(self.download).path
        data = place.read(0, MAX_BYTES + 1)
        if not data:
            raise Unreadable(uri, "the file is empty")
        return data
