"""Opens whatever holds images: folders, lists, image files, tar shards, data sets; here or by URI."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike.data.decode import EXTENSIONS, shown
from lookalike.data.hub import from_dataset, from_disk, from_hub, is_dataset, is_id, is_saved, may_be_id
from lookalike.data.images import Files, Folder, Images, Listing, lines_in, lines_of
from lookalike.data.patterns import expanded, is_pattern
from lookalike.data.places import is_uri, joined, local_path, reason
from lookalike.data.remote import Remote, demand_scheme
from lookalike.data.shard_index import Progress
from lookalike.data.shards import Shards
from lookalike.data.uris import Uris
from lookalike.data.wrapped import Indexed, Wrapped

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4", ".zip")
LISTS = (".txt", ".lst", ".list")
LONGEST = 1 << 30  # bytes of a list that lies elsewhere
_GIVE = (
    "give a folder of images, a text file with one path a line, tar files, a list of paths, a data set of the Hub "
    "(hf:OWNER/NAME) or a torch data set"
)


@dataclass(frozen=True, kw_only=True)
class _How:
    """The options of `open_source`."""

    channels: int
    column: str | None
    download: str | None
    on_progress: Progress | None


def open_source(
    thing: Any,
    *,
    channels: int = 3,
    column: str | None = None,
    download: str | None = None,
    on_progress: Progress | None = None,
) -> Images:
    """`thing` as a source of images: dispatch by what it is.

    A path to a folder (of images, of .tar files, or written by `save_to_disk`), to one image, to a .tar or to a text
    file that lists images or .tar files; a brace pattern (shards-{0000..0009}.tar); a URI (scheme://) in place of a
    path; hf:OWNER/NAME; a sequence of paths and URIs (relative to the working folder); a Dataset of the package
    `datasets`; a data set with a length and items by number (see `Wrapped`); or a source, returned as it is. One image
    is enough. Nothing is decoded here, but for the first item of a data set; of tar files all headers are read.

    column: which image of a sample or row, where there are several. download: a folder that keeps copies of what lies
    behind URIs. on_progress hears (tar files indexed, tar files).

    Raises ValueError, in one sentence, for what is missing, empty, not readable or none of these.
    """
    how = _How(channels=channels, column=column, download=download, on_progress=on_progress)
    if isinstance(thing, Images):
        return thing
    if isinstance(thing, str | os.PathLike):
        return _open_name(os.fspath(thing), how)
    if is_dataset(thing):
        return from_dataset(thing, channels=channels, column=column)
    if not isinstance(thing, Indexed):
        raise ValueError(f"images cannot come from {type(thing).__name__}, which has no length or no items: {_GIVE}")
    if _are_paths(thing):
        return _open_names([os.fspath(thing[i]) for i in range(len(thing))], "", how)
    return Wrapped(thing, channels=channels)


def address(thing: Any) -> str | None:
    """How another process finds `thing` again: the absolute path, the URI, the name; None for what lives in memory."""
    if not isinstance(thing, str | os.PathLike):
        return None
    text = os.fspath(thing)
    return text if is_id(text) or is_uri(text) else str(Path(text).absolute())


def _are_paths(thing: Indexed) -> bool:
    if not isinstance(thing, Sequence) or not thing:
        return False
    return all(isinstance(path, str | os.PathLike) for path in thing)


def _open_name(text: str, how: _How) -> Images:
    if is_id(text) and not os.path.exists(text):
        return from_hub(text, channels=how.channels, column=how.column)
    if is_pattern(text) and not os.path.lexists(text):
        return _open_pattern(text, how)
    path = local_path(text) if is_uri(text) else text
    return _open_uri(text, how) if path is None else _open_path(path, how)


def _open_pattern(pattern: str, how: _How) -> Images:
    names = expanded(pattern)
    if not any(is_uri(name) or os.path.exists(name) for name in names):
        raise ValueError(
            f"the pattern {shown(pattern)} matches nothing: of its {len(names):,} files, the first {shown(names[0])}, "
            "none exists; check the numbers and the folder"
        )
    return _open_names(names, "", how)


def _open_names(names: Sequence[str], root: str, how: _How) -> Images:
    """Tar files, or images by paths and URIs; relative ones start from `root`."""
    tars = [name for name in names if _is_tar(name)]
    if tars and len(tars) < len(names):
        other = next(name for name in names if not _is_tar(name))
        raise ValueError(
            f"{len(tars):,} of {len(names):,} names are tar files, as {shown(tars[0])}, and others are not, as "
            f"{shown(other)}: give tar files alone, or image files alone"
        )
    if tars:
        return Shards(
            [joined(root, name) for name in names],
            channels=how.channels,
            column=how.column,
            download=how.download,
            on_progress=how.on_progress,
        )
    if is_uri(root) or any(map(is_uri, names)):
        return Uris(names, root=root, channels=how.channels, download=how.download)
    return Files(root, names, channels=how.channels)


def _open_uri(uri: str, how: _How) -> Images:
    demand_scheme(uri)
    bare = uri.partition("?")[0].lower()
    if bare.endswith((*TARS, *EXTENSIONS)):
        return _open_names([uri], "", how)
    if not bare.endswith(LISTS):
        raise ValueError(
            f"{shown(uri)} is none of a .tar, an image and a list of URIs ({', '.join(LISTS)}) by its name: "
            "folders cannot be listed from here, so write a list, one URI a line"
        )
    try:
        data = Remote(uri).read(0, LONGEST)
    except OSError as error:
        raise ValueError(f"{shown(uri)} cannot be read: {reason(error)}; check the address") from error
    return _open_names(lines_in(data, uri), uri.rpartition("/")[0], how)


def _open_path(path: str, how: _How) -> Images:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        missing = "is a link to nothing" if os.path.islink(path) else "does not exist"
        hint = f"; a data set of the Hub is written hf:{path}" if may_be_id(path) else ""
        raise ValueError(f"{shown(path)} {missing}: {_GIVE}{hint}") from error
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{shown(path)} cannot be opened ({said}): {_GIVE}") from error
    if stat.S_ISDIR(mode):
        return _open_folder(path, how)
    if not stat.S_ISREG(mode):
        raise ValueError(f"{shown(path)} is neither a folder nor a file: {_GIVE}")
    if _is_tar(path):
        return _open_names([path], "", how)
    if os.path.splitext(path)[1].lower() in EXTENSIONS:
        folder, name = os.path.split(path)
        return Files(folder, [name], channels=how.channels)
    return _open_list(path, how)


def _open_folder(path: str, how: _How) -> Images:
    if is_saved(path):
        return from_disk(path, channels=how.channels, column=how.column)
    try:
        tars = sorted(entry.path for entry in os.scandir(path) if entry.name.lower().endswith(".tar"))
    except OSError:  # Folder says why
        tars = []
    if tars and not _holds_images(path):
        return _open_names(tars, "", how)
    return Folder(path, channels=how.channels)


def _holds_images(path: str) -> bool:
    """Whether there is an image in the folder or below: it is then a folder of images, whatever else is in it."""
    files = (name for _, _, names in os.walk(path) for name in names if not name.startswith("."))
    return any(os.path.splitext(name)[1].lower() in EXTENSIONS for name in files)


def _open_list(path: str, how: _How) -> Images:
    names = lines_of(path)
    if any(is_uri(name) or _is_tar(name) for name in names):
        return _open_names(names, os.path.dirname(path), how)
    return Listing(path, channels=how.channels)


def _is_tar(name: str) -> bool:
    return (name.partition("?")[0] if is_uri(name) else name).lower().endswith(TARS)
