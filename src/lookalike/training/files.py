"""Files that are whole or not there: a temporary sibling, flush, fsync, rename, fsync of the folder."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

LEFT_OVER = ".tmp-*"
REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or raise the quota",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "write to another folder",
}


class CheckpointError(ValueError):
    """A file of a run cannot be written, or what is there cannot be trusted. The message is one sentence."""


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that a reader, or a restart after a power cut, finds the old bytes or the new ones.

    The mode of a file that is replaced is kept. Raises CheckpointError.
    """
    with replacing(path) as temporary:
        write_synced(temporary, [data])


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the name of a temporary sibling, to be made by the block (file or folder); then renames it to `path`.

    Whatever goes wrong, `path` is as before and the sibling is gone. An OSError becomes a CheckpointError.
    """
    temporary = path.parent / f".tmp-{uuid4().hex}"
    try:
        with explained(f"write {path}"):
            yield temporary
            if path.exists():
                shutil.copymode(path, temporary)
            os.replace(temporary, path)
            sync_folder(path.parent)
    except BaseException:
        remove(temporary)
        raise


@contextmanager
def explained(deed: str) -> Iterator[None]:
    """An OSError in the block becomes a CheckpointError: what could not be done, why, the remedy."""
    try:
        yield
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "check the disk")
        raise CheckpointError(f"could not {deed}: {error.strerror or error}; {remedy}") from error


def write_synced(path: Path, chunks: Iterable[bytes | memoryview]) -> tuple[str, int]:
    """Writes a new file down to the disk; returns its SHA-256 and size in bytes."""
    with open(path, "xb") as file:
        digest = measure(_written(chunks, file.write))
        file.flush()
        os.fsync(file.fileno())
    return digest


def measure(chunks: Iterable[bytes | memoryview]) -> tuple[str, int]:
    """SHA-256 and size in bytes of the joined chunks."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def sync_folder(folder: Path) -> None:
    """Brings a folder's entries to the disk: without it a rename may be lost with the power."""
    if os.name == "nt":  # a folder cannot be opened there; NTFS journals renames
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(handle)


def need(folder: Path, size: int) -> None:
    """Raises CheckpointError where `folder` has no room for `size` more bytes."""
    free = free_bytes(folder)
    if free < size:
        raise CheckpointError(
            f"{size:,} bytes are needed in {folder}, and {free:,} bytes are free: free some space there"
        )


def free_bytes(folder: Path) -> int:
    """Free space where `folder` is, or is to be made. Raises CheckpointError."""
    with explained(f"ask for the free space of {folder}"):
        there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
        return shutil.disk_usage(there).free


def remove(path: Path) -> None:
    """Removes a file or folder as far as it lets itself be removed."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Removes what a process that died while writing has left in `folder`. Raises CheckpointError."""
    with explained(f"list {folder}"):
        left = list(folder.glob(LEFT_OVER))
    for path in left:
        remove(path)


def _written(
    chunks: Iterable[bytes | memoryview], write: Callable[[bytes | memoryview], int]
) -> Iterator[bytes | memoryview]:
    for chunk in chunks:
        write(chunk)
        yield chunk
