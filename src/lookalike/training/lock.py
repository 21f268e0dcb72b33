"""A folder that one process works in at a time: a file in it is locked, and the system lets go however that ends."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lookalike.training.files import CheckpointError, explained, remove

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
BUSY = (errno.EAGAIN, errno.EACCES)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # some network file systems
_held = set[Path]()  # a lock is the process's: the system would grant it twice


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Inside, nobody else is so in the folder, which is made, and removed at the end where it stayed empty.

    Processes forked inside do not hold it. Where the system or the file system has no locks, nothing is held.
    Raises CheckpointError where somebody is in, or the folder cannot be written.
    """
    with explained(f"make {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    place, handle = folder.resolve(), None
    try:
        if place in _held:
            raise _busy(folder)
        with explained(f"lock {folder}"):
            handle = None if fcntl is None else _locked(folder)
        _held.add(place)
        try:
            yield
        finally:
            _held.discard(place)
    finally:
        if handle is not None:
            _let_go(folder / LOCK, handle)
        with suppress(OSError):  # there is something in it
            folder.rmdir()


def _locked(folder: Path) -> int:
    """A handle of the folder's file, locked."""
    while True:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(folder / LOCK, handle):
                return handle
        except OSError as error:
            if error.errno in NO_LOCKS:
                return handle
            os.close(handle)
            if error.errno in BUSY:
                raise _busy(folder) from None
            raise
        os.close(handle)  # who held it has removed it in between


def _let_go(path: Path, handle: int) -> None:
    if _is(path, handle):
        remove(path)  # still locked: who waits for it looks whether it is the one that is there
    os.close(handle)


def _is(path: Path, handle: int) -> bool:
    """Whether this is the file at `path`."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _busy(folder: Path) -> CheckpointError:
    return CheckpointError(
        f"another process trains in {folder}: wait until it has ended, or remove {folder / LOCK} if none does"
    )
