"""Exact duplicates: images of the same pixels in memory, or files of the same bytes."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable

from lookalike.data.cache import Cached
from lookalike.data.images import Files, Images

HEAD = 4096  # bytes that tell most images apart


def duplicates(source: Images) -> list[list[int]]:
    """Groups of two images or more that are alike byte for byte, each in order; unreadable ones are left out.

    In a few reads where there are none: lengths first, then beginnings, then all bytes. Sources that are neither in
    memory nor files have none that this finds.
    """
    if not isinstance(source, Cached | Files):
        return []
    groups: list[list[int]] = [list(range(len(source)))]
    steps: list[Callable[[int], Hashable]] = [
        lambda index: _length(source, index),
        lambda index: _digest(_read(source, index, HEAD)),
        lambda index: _digest(_read(source, index, None)),
    ]
    for step in steps:
        groups = [part for group in groups for part in _split(group, step)]
    return groups


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
