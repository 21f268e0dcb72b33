"""Decoded pixels that are too many for memory: one memory-mapped file, decoded once and used again by later runs.

A store is two files in a folder, named after what was decoded and how: PIXELS, the bytes of all images one after
another, and INDEX, their sizes with the list of unreadable ones, written last and at once: what has it is whole.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import PIL
import torch
from torch import Tensor

from lookalike.data.cache import Cached, Map, Progress, decoded, sizes_of, threads
from lookalike.data.decode import Unreadable, shown
from lookalike.data.images import Files, Images, Scalable, evenly

try:
    import fcntl
except ImportError:  # not on Windows: what a killed process left there stays
    fcntl = None  # type: ignore[assignment]

PIXELS, INDEX, PART = ".pixels", ".json", ".part"
LOOKED_AT = 64  # images whose pixels are part of a store's name


def stored(
    source: Images,
    folder: str | os.PathLike[str],
    *,
    workers: int | None = None,
    on_progress: Progress | None = None,
    say: Callable[[str], None] = lambda note: None,
) -> Cached:
    """The source with its pixels in a file of `folder`, which is filled if it is not there yet.

    It is filled anew where an image could not be read then and can be read now. Several processes may fill it at the
    same time; one of them wins. Raises ValueError where the folder cannot be written or has no room for the pixels,
    which is looked at before they are decoded.
    """
    place = Path(folder) / _name(source)
    pixels, index = (place.with_name(place.name + suffix) for suffix in (PIXELS, INDEX))
    try:
        if (found := _whole(source, pixels, index)) is not None:
            say(f"decoded pixels taken from {pixels}")
            return found
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place)
        with threads(source, workers) as parallel:
            _fill(source, pixels, index, parallel, on_progress)
    except OSError as error:
        raise ValueError(
            f"decoded pixels cannot be kept in {shown(os.fspath(folder))} ({error.strerror or error}): "
            "choose another folder (data.store), or leave it out"
        ) from error
    found = _whole(source, pixels, index)
    if found is None:
        raise ValueError(f"{pixels} changed while it was written: start again")
    return found


def _name(source: Images) -> str:
    """Of what the pixels depend on: the source and its files' times, some pixels, how they are decoded."""
    digest = hashlib.blake2b(f"{source.identity()}\0{source.channels}\0{PIL.__version__}".encode(), digest_size=16)
    if isinstance(source, Scalable) and source.scaled_to:
        digest.update(f"\0{source.scaled_to}".encode())
    if isinstance(source, Files):
        digest.update(os.path.abspath(source.root).encode("utf-8", "surrogateescape"))
        for number in range(len(source)):
            digest.update(f"\0{_changed(source.path(number))}".encode())
    for number in evenly(len(source), LOOKED_AT):
        try:
            digest.update(source.read(number).contiguous().numpy().data)
        except Unreadable:
            digest.update(b"unreadable")
    return digest.hexdigest()


def _changed(path: str) -> int:
    """When a file was last written, in nanoseconds; -1 where it is not there."""
    try:
        return os.stat(path).st_mtime_ns
    except (OSError, ValueError):
        return -1


def _fill(source: Images, pixels: Path, index: Path, parallel: Map, on_progress: Progress | None) -> None:
    sizes_N2 = sizes_of(source, parallel)
    total = source.channels * int(sizes_N2.prod(1).sum())
    free = shutil.disk_usage(pixels.parent).free
    if total > free:
        raise OSError(f"it has {free / 1e9:,.1f} GB free, and {total / 1e9:,.1f} GB are needed")
    with _part(pixels) as (mine, file):
        if total and hasattr(os, "posix_fallocate"):  # a full disk is found here, and not by a fault while writing
            os.posix_fallocate(file.fileno(), 0, total)
        file.truncate(total)
        buffer_T = _mapped(mine, total, shared=True)
        cache = decoded(source, sizes_N2, parallel, on_progress, buffer_T=buffer_T, settled=True)
        os.fsync(file.fileno())
        index.unlink(missing_ok=True)  # of pixels that are replaced now
        os.replace(mine, pixels)
    failures = {str(number): [error.path, error.reason] for number, error in cache.failures.items()}
    with _part(index) as (mine, file):
        file.write(json.dumps({"sizes": sizes_N2.tolist(), "failures": failures}).encode())
        file.flush()
        os.fsync(file.fileno())
        os.replace(mine, index)


@contextmanager
def _part(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A file to be renamed to `path`, locked while it is written, gone afterwards whatever happens."""
    mine = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PART}")
    try:
        with mine.open("w+b") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            yield mine, file
    finally:
        mine.unlink(missing_ok=True)


def _sweep(place: Path) -> None:
    """Removes what a killed process left half-written; what another one is writing is locked."""
    for left in place.parent.glob(f"{place.name}*{PART}") if fcntl is not None else ():
        try:
            with left.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink(missing_ok=True)
        except OSError:
            continue


def _whole(source: Images, pixels: Path, index: Path) -> Cached | None:
    """The store, if it is whole, fits the source, and nothing can be read that could not be read for it."""
    if not index.is_file() or not pixels.is_file():
        return None
    try:
        told = json.loads(index.read_bytes())
        sizes_N2 = torch.tensor(told["sizes"], dtype=torch.int64)
        failures = {int(number): Unreadable(path, reason) for number, (path, reason) in told["failures"].items()}
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError):
        return None  # damaged: it is filled anew
    total = source.channels * int(sizes_N2.prod(1).sum())
    if sizes_N2.shape != (len(source), 2) or pixels.stat().st_size != total:
        return None
    if any(_readable(source, number) for number in failures):
        return None
    return Cached(source, _mapped(pixels, total, shared=False), sizes_N2, failures)


def _readable(source: Images, number: int) -> bool:
    try:
        source.read(number)
    except Unreadable:
        return False
    return True


def _mapped(path: Path, size: int, *, shared: bool) -> Tensor:
    """The bytes of a file; what is written to a shared mapping goes to the file."""
    if size == 0:
        return torch.empty(0, dtype=torch.uint8)
    return torch.from_file(str(path), shared=shared, size=size, dtype=torch.uint8)
