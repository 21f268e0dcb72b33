"""Opens whatever holds images: a folder, a list file, one image file, paths, a data set."""

import os
import stat
from collections.abc import Sequence
from typing import Any

from lookalike.data.decode import EXTENSIONS, shown
from lookalike.data.images import Files, Folder, Images, Listing
from lookalike.data.wrapped import Indexed, Wrapped

_GIVE = "give a folder of images, a text file with one path a line, a list of paths or a torch data set"


def open_source(thing: Any, *, channels: int = 3) -> Images:
    """`thing` as a source of images: dispatch by what it is.

    A path to a folder, to one image or to a text file that lists images; a sequence of paths (relative to the working
    folder); a data set with a length and items by number (see `Wrapped`); or a source, returned as it is. One image is
    enough. Nothing is decoded here, but for the first item of a data set.

    Raises ValueError, in one sentence, for what is missing, empty, not readable or none of these.
    """
    if isinstance(thing, Images):
        return thing
    if isinstance(thing, str | os.PathLike):
        return _open_path(os.fspath(thing), channels)
    if not isinstance(thing, Indexed):
        raise ValueError(f"images cannot come from {type(thing).__name__}, which has no length or no items: {_GIVE}")
    if _are_paths(thing):
        return Files("", [os.fspath(thing[i]) for i in range(len(thing))], channels=channels)
    return Wrapped(thing, channels=channels)


def _are_paths(thing: Indexed) -> bool:
    if not isinstance(thing, Sequence) or not thing:
        return False
    return all(isinstance(path, str | os.PathLike) for path in thing)


def _open_path(path: str, channels: int) -> Images:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        missing = "is a link to nothing" if os.path.islink(path) else "does not exist"
        raise ValueError(f"{shown(path)} {missing}: {_GIVE}") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{shown(path)} cannot be opened ({reason}): {_GIVE}") from error
    if stat.S_ISDIR(mode):
        return Folder(path, channels=channels)
    if not stat.S_ISREG(mode):
        raise ValueError(f"{shown(path)} is neither a folder nor a file: {_GIVE}")
    if os.path.splitext(path)[1].lower() in EXTENSIONS:
        folder, name = os.path.split(path)
        return Files(folder, [name], channels=channels)
    return Listing(path, channels=channels)
