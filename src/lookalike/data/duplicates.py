"""Exact duplicates: images of the same pixels in memory, or files of the same bytes."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from copy import copy

from lookalike.data.cache import Cached
from lookalike.data.images import Files, Images

HEAD = 4096  # bytes that tell most images apart


def duplicates(source: Images, *, on_progress: Callable[[int, int], None] | None = None) -> list[list[int]]:
    """Groups of two images or more that are alike byte for byte, each in order; unreadable ones are left out.

    In a few reads where there are none: lengths first, then beginnings, then all bytes. Sources that are neither in
    memory nor files have none that this finds. on_progress hears (images whose beginning is read or need not be, all).
    """
    if not isinstance(source, Cached | Files):
        return []
    groups = _split(range(len(source)), lambda index: _length(source, index))
    done = len(source) - sum(map(len, groups))

    def beginning(index: int) -> Hashable:
        nonlocal done
        done += 1
        if on_progress:
            on_progress(done, len(source))
        return _digest(_read(source, index, HEAD))

    groups = [part for group in groups for part in _split(group, beginning)]
    return [part for group in groups for part in _split(group, lambda index: _digest(_read(source, index, None)))]


def merged(source: Files, copies: Iterable[Iterable[int]]) -> Files:
    """The source without all but the first of each group of `copies`, as `duplicates` gives them; labels follow."""
    gone = {index for group in copies for index in sorted(group)[1:]}
    kept = [index for index in range(len(source)) if index not in gone]
    found = copy(source)  # what a folder has ignored, and how files are decoded
    found.names = [source.names[index] for index in kept]
    found.labels = None if source.labels is None else source.labels[kept]
    return found


def _split(group: Iterable[int], by: Callable[[int], Hashable]) -> list[list[int]]:
    """The members that share their key with another one."""
    found = defaultdict[Hashable, list[int]](list)
    for index in group:
        try:
            found[by(index)].append(index)
        except (OSError, ValueError):  # it is counted where it is read for training
            continue
    return [part for part in found.values() if len(part) > 1]


def _length(source: Cached | Files, index: int) -> Hashable:
    if isinstance(source, Files):
        return source.length(index)
    if index in source.failures:
        raise ValueError("there are no pixels of an unreadable image")
    return tuple(source.sizes_N2[index].tolist())


def _read(source: Cached | Files, index: int, most: int | None) -> bytes | memoryview:
    """The image's bytes, or the first of them."""
    if isinstance(source, Files):
        with open(source.path(index), "rb") as file:
            return file.read(-1 if most is None else most)
    start, stop = source.starts[index : index + 2].tolist()
    return source.buffer_T[start : stop if most is None else min(stop, start + most)].numpy().data


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()
