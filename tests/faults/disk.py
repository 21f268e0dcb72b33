"""A disk below a folder whose calls are counted, and one of which goes wrong: calls of `os` and `open`, not ours."""

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

CALLS = ("mkdir", "replace", "rename", "unlink", "rmdir", "chmod", "open", "scandir", "listdir")
REMOVING = ("unlink", "rmdir")
Fault = Callable[[int, str, Callable[[], Any]], None]


@contextmanager
def disk(folder: Path, fault: Fault) -> Iterator[list[str]]:
    """Gives the list of calls that reach the disk below the folder, as "write state.safetensors".

    Before each, `fault` hears its number, the call, and a function that does half of it (where it is a write).
    """
    calls: list[str] = []

    def reach(name: str, place: Any, half: Callable[[], Any] = lambda: None) -> None:
        path = _named(place)
        if Path(path).is_relative_to(folder):
            calls.append(f"{name} {Path(path).name}")
            fault(len(calls), calls[-1], half)

    with ExitStack() as stack:
        for name in CALLS:
            stack.enter_context(patch.object(os, name, _watched(name, getattr(os, name), reach)))
        stack.enter_context(patch.object(os, "fsync", _synced(os.fsync, reach)))
        opening = _opening(builtins.open, reach)
        stack.enter_context(patch.object(builtins, "open", opening))
        stack.enter_context(patch.object(io, "open", opening))  # pathlib's
        yield calls


def refuse(at: int, number: int) -> Fault:
    """The call number `at` is refused with that errno; a write has done half of its work."""

    def fault(count: int, call: str, half: Callable[[], Any]) -> None:
        if count == at:
            half()
            raise OSError(number, os.strerror(number))

    return fault


def refuse_from(at: int, number: int) -> Fault:
    """All calls from number `at` on are refused: the disk has gone."""

    def fault(count: int, call: str, half: Callable[[], Any]) -> None:
        if count >= at:
            raise OSError(number, os.strerror(number))

    return fault


def die(at: int) -> Fault:
    """SIGKILL just before the call number `at`; in the middle of it, where it is a write."""

    def fault(count: int, call: str, half: Callable[[], Any]) -> None:
        if count == at:
            half()
            os.kill(os.getpid(), signal.SIGKILL)

    return fault


def watch(count: int, call: str, half: Callable[[], Any]) -> None:
    """Nothing goes wrong."""


def calls_of(folder: Path, deed: Callable[[], Any]) -> list[str]:
    """The calls that the deed makes below the folder."""
    with disk(folder, watch) as calls:
        deed()
    return list(calls)


class Raw(io.FileIO):
    """A file whose writes are counted where they reach the system."""

    reach: Callable[..., None]

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.reach("write", self.name, lambda: super(Raw, self).write(view[: len(view) // 2]))
        return super().write(view) or 0


def _watched(name: str, original: Callable, reach: Callable) -> Callable:
    def call(path: Any, *arguments: Any, **options: Any) -> Any:
        inside = options.get("dir_fd")
        reach(name, path if inside is None else os.path.join(_named(inside), path))
        return original(path, *arguments, **options)

    return call


def _synced(original: Callable, reach: Callable) -> Callable:
    def call(handle: int) -> None:
        reach("fsync", handle)
        original(handle)

    return call


def _opening(original: Callable, reach: Callable) -> Callable:
    def call(path: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **options: Any) -> Any:
        if not isinstance(path, str | os.PathLike) or not set(mode) & set("xwa"):
            return original(path, mode, buffering, *arguments, **options)
        reach("create", path)
        raw = Raw(os.fspath(path), mode.replace("b", ""))
        raw.reach = reach
        if buffering == 0:
            return raw
        binary = io.BufferedWriter(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, encoding=options.get("encoding"))

    return call


def _named(place: Any) -> str:
    """The path behind a path or a file descriptor."""
    if isinstance(place, int):
        return os.readlink(f"/proc/self/fd/{place}")
    return os.path.abspath(os.fspath(place))


ERRORS = {
    "no space": errno.ENOSPC,
    "no quota": errno.EDQUOT,
    "broken": errno.EIO,
    "forbidden": errno.EACCES,
    "read only": errno.EROFS,
    "stale": errno.ESTALE,  # what network file systems say, also to a rename
}
