"""Files of object stores and web servers, through fsspec: parts of them, with time limits and tries; copies of them.

Each scheme needs the package that fsspec names for it; those for http, s3 and gs come with the extra [remote].
"""

import errno
import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from typing import Any, TypeVar
from uuid import uuid4

from lookalike.data.decode import shown
from lookalike.data.places import Local, Reader, reason

TIMEOUT, ATTEMPTS, WAIT = 30.0, 4, 0.5  # seconds, tries, seconds before the second try: our choice
SLOWEST = 100_000  # bytes per second that a slow line may have: large parts get more time
LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError, TypeError)
PASSING = (408, 425, 429)  # among a web server's refusals (4xx): too slow, too early, too many
BUFFER = 2**22  # bytes asked for at once while headers are looked for
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Remote:
    """A file by its URI. What fails for the moment is tried again; OSError says what fails for good.

    timeout: seconds for one answer. attempts: tries, `wait` seconds apart and then twice as long each time.
    """

    name: str
    timeout: float = TIMEOUT
    attempts: int = ATTEMPTS
    wait: float = WAIT

    def length(self) -> int:
        found = self._tried(lambda store, path: _info(store, path, self.timeout))
        if found.get("type") == "directory" or not isinstance(found.get("size"), int):
            raise OSError("it is a folder, or the server does not say how long it is")
        return int(found["size"])

    def read(self, start: int, length: int) -> bytes:
        patience = self.timeout + length / SLOWEST
        data = self._tried(lambda store, path: _part(store, path, start, length, patience))
        if len(data) > length and start:
            raise OSError("the server sends whole files only, no parts: keep copies, with --download FOLDER")
        return bytes(data[:length])

    def open(self, length: int) -> BufferedReader:
        self.read(max(0, length - 1), 1)  # a server that sends no parts is found now
        return BufferedReader(Reader(self, length), BUFFER)

    def copy(self, folder: str, length: int | None = None) -> Local:
        """A copy in `folder`, made now unless one (of that length) is there; whole or not at all.

        Raises OSError as the other methods do, and ValueError where the folder cannot take it.
        """
        key = hashlib.blake2b(self.name.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()
        path = os.path.join(folder, key + os.path.splitext(self.name)[1][:8])
        if not os.path.isfile(path) or length not in (None, os.path.getsize(path)):
            self._copy_to(path)
        return Local(self.name, path)

    def _copy_to(self, path: str) -> None:
        part = f"{path}.{uuid4().hex}.part"
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(part, "wb"):  # a folder that cannot be written to is found before the server is asked
                pass
        except OSError as error:
            raise ValueError(_no_room(path, error)) from error
        try:
            self._tried(lambda store, source: _get(store, source, part))
            os.replace(part, path)
        except OSError as error:
            raise (ValueError(_no_room(path, error)) if error.errno in DISK else error) from error
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part)

    def _tried(self, ask: Callable[[Any, str], Result]) -> Result:
        for attempt in range(self.attempts - 1):
            try:
                return ask(*_store(self.name, self.timeout))
            except Exception as error:  # the packages behind fsspec raise errors of their own
                if _lasting(error):
                    raise _said(error, attempt + 1) from error
            time.sleep(self.wait * 2**attempt)
        try:
            return ask(*_store(self.name, self.timeout))
        except Exception as error:
            raise _said(error, self.attempts) from error


def demand_scheme(uri: str) -> None:
    """ValueError unless fsspec knows the scheme of `uri` and has the package for it."""
    scheme = uri.partition("://")[0]
    try:
        import fsspec

        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise ValueError(
            f"{shown(uri)} cannot be opened, {scheme}:// needs a package that is not installed "
            f"({' '.join(str(error).split())}): pip install 'lookalike[remote]', or that package"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{shown(uri)} cannot be opened, {scheme}:// is no scheme that fsspec knows: "
            "write http://, https://, s3://, gs:// or file://, or a path"
        ) from error


def _store(uri: str, timeout: float) -> tuple[Any, str]:
    """fsspec's file system for a URI (in a forked process a new one), and the path in it."""
    from fsspec.core import url_to_fs

    if not uri.startswith(("http://", "https://")):
        return url_to_fs(uri)
    from aiohttp import ClientTimeout

    limits = ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)
    return url_to_fs(uri, client_kwargs={"timeout": limits, "headers": {"Accept-Encoding": "identity"}})


def _info(store: Any, path: str, timeout: float) -> dict[str, Any]:
    if store.async_impl:
        from fsspec.asyn import sync

        return sync(store.loop, store._info, path, timeout=timeout)
    return store.info(path)


def _part(store: Any, path: str, start: int, length: int, timeout: float) -> bytes:
    if not store.async_impl:
        return store.cat_file(path, start=start, end=start + length)
    from fsspec.asyn import sync

    try:
        return sync(store.loop, store._cat_file, path, start=start, end=start + length, timeout=timeout)
    except Exception as error:
        if _status(error) == 416:  # the file ends before `start`
            return b""
        raise


def _get(store: Any, path: str, target: str) -> None:
    """No limit on the whole, which may be long: only on each wait for the server."""
    store.get_file(path, target)


def _status(error: Exception) -> int | None:
    """The answer of a web server, which aiohttp's errors carry."""
    return getattr(error, "status", None)


def _lasting(error: Exception) -> bool:
    status = _status(error)
    if isinstance(status, int):
        return 400 <= status < 500 and status not in PASSING
    return isinstance(error, LASTING) or (isinstance(error, OSError) and error.errno in DISK)


def _said(error: Exception, attempts: int) -> OSError:
    """The error as an OSError with one plain line."""
    status, tries = _status(error), f" ({attempts} tries)" if attempts > 1 else ""
    if isinstance(error, FileNotFoundError):
        text = "it does not exist"
    elif isinstance(error, PermissionError) or status in (401, 403):
        text = "access is denied"
    elif isinstance(status, int):
        text = f"the server answers {status}"
    elif isinstance(error, TimeoutError):
        text = "there is no answer in time"
    else:
        text = (
            reason(error) if isinstance(error, OSError) else f"{type(error).__name__}: {' '.join(str(error).split())}"
        )
    return OSError(error.errno if isinstance(error, OSError) else None, text + tries)


def _no_room(path: str, error: OSError) -> str:
    return (
        f"{shown(os.path.dirname(path))} cannot keep copies ({reason(error)}): free space there, "
        "or choose another folder with --download"
    )
