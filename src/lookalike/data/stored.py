"""Decoded pixels that are too many for memory: one memory-mapped file, decoded once and used again by later runs.

A store is two files in a folder, named after the identity of the source: PIXELS, the bytes of all images one after
another, and INDEX, their sizes with the list of unreadable ones, written last and at once: what has it is whole.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from lookalike.data.cache import Cached, Map, Progress, decoded, sizes_of, threads
from lookalike.data.decode import Unreadable, shown
from lookalike.data.images import Images, Scalable
from lookalike.modules import tensor_file

SUFFIXES = PIXELS, INDEX = ".pixels", ".safetensors"


def stored(
    source: Images,
    folder: str | os.PathLike[str],
    *,
    workers: int | None = None,
    on_progress: Progress | None = None,
    say: Callable[[str], None] = lambda note: None,
) -> Cached:
    """The source with its pixels in a file of `folder`, which is filled if it is not there yet.

    Several processes may fill it at the same time; one of them wins. Raises ValueError where the folder cannot be
    written or has no room for the pixels, which is looked at before anything is decoded.
    """
    variant = f"-{source.scaled_to}" if isinstance(source, Scalable) and source.scaled_to else ""
    place = Path(folder) / f"{source.identity()}-{source.channels}{variant}"
    pixels, index = (place.with_name(place.name + suffix) for suffix in SUFFIXES)
    try:
        if (found := _whole(source, pixels, index)) is not None:
            say(f"decoded pixels taken from {pixels}")
            return found
        place.parent.mkdir(parents=True, exist_ok=True)
        with threads(source, workers) as parallel:
            _fill(source, pixels, index, parallel, on_progress)
    except OSError as error:
        raise ValueError(
            f"decoded pixels cannot be kept in {shown(os.fspath(folder))} ({error.strerror or error}): "
            "choose another folder (data.store), or leave it out"
        ) from error
    found = _whole(source, pixels, index)
    assert found is not None
    return found


def _fill(source: Images, pixels: Path, index: Path, parallel: Map, on_progress: Progress | None) -> None:
    sizes_N2 = sizes_of(source, parallel)
    total = source.channels * int(sizes_N2.prod(1).sum())
    free = shutil.disk_usage(pixels.parent).free
    if total > free:
        raise OSError(f"it has {free / 1e9:,.1f} GB free, and {total / 1e9:,.1f} GB are needed")
    mine = pixels.with_name(f"{pixels.name}.{os.getpid()}")
    try:
        with mine.open("wb") as file:
            if total and hasattr(os, "posix_fallocate"):  # a full disk is found here, and not by a fault while writing
                os.posix_fallocate(file.fileno(), 0, total)
            file.truncate(total)
        cache = decoded(
            source, sizes_N2, parallel, on_progress, buffer_T=_mapped(mine, total, shared=True), settled=True
        )
        with mine.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(mine, pixels)
    finally:
        mine.unlink(missing_ok=True)
    failures = {str(number): [error.path, error.reason] for number, error in cache.failures.items()}
    content = save({"sizes": sizes_N2}, metadata={"failures": json.dumps(failures)})
    part = index.with_name(f"{index.name}.{os.getpid()}")
    part.write_bytes(content)
    os.replace(part, index)


def _whole(source: Images, pixels: Path, index: Path) -> Cached | None:
    """The store, if it is whole and fits the source."""
    if not index.is_file() or not pixels.is_file():
        return None
    try:
        data = tensor_file.read(index)
        sizes_N2 = tensor_file.decode(data, index)["sizes"]
        told = json.loads(tensor_file.metadata(data)["failures"])
        failures = {int(number): Unreadable(path, reason) for number, (path, reason) in told.items()}
    except (tensor_file.TensorFileError, ValueError, KeyError):
        return None  # damaged: it is filled anew
    total = source.channels * int(sizes_N2.prod(1).sum())
    if sizes_N2.shape != (len(source), 2) or pixels.stat().st_size != total:
        return None
    return Cached(source, _mapped(pixels, total, shared=False), sizes_N2, failures)


def _mapped(path: Path, size: int, *, shared: bool) -> Tensor:
    """The bytes of a file; what is written to a shared mapping goes to the file."""
    if size == 0:
        return torch.empty(0, dtype=torch.uint8)
    return torch.from_file(str(path), shared=shared, size=size, dtype=torch.uint8)
