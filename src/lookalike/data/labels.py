"""Labels, where the user has them: folders named after classes, or a CSV file; and the two halves a probe needs."""

import csv
import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from lookalike.data.decode import shown
from lookalike.data.images import Files, Folder, Source

TEST_SHARE = 0.2  # of one folder of classes, by the hash of the file name; our choice


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Two sources with labels, and what the numbers mean: `classes[label]`; whether names chose the test images."""

    train: Files
    test: Files
    classes: tuple[str, ...]
    by_name: bool


@runtime_checkable
class Worded(Protocol):
    """A source that holds labels beside its images, and reads them when it is asked."""

    def words(self, spec: str) -> list[str | None] | None:
        """The label of each image, None where it has none; None where `spec` is none of its ways to label."""
        ...


def labels(source: Source, spec: str | os.PathLike[str]) -> tuple[Int64[Tensor, "N"], tuple[str, ...]]:
    """A class number for each image, and the names of the classes in the order of their numbers.

    `spec` is "folders" (the first folder of an image's name is its class), "cls" or "json:FIELD" (members of tar
    shards), "column:NAME" (of a Hub data set) or a CSV file with the columns name and label, in this order, further
    columns ignored; a first row that names no image is a header, and so may be rows about other images. Classes are in
    the order of their names, or of their numbers if all are whole numbers.

    Raises ValueError if an image has no label or two, and if there are fewer than two classes.
    """
    how, names = os.fspath(spec), [source.name(index) for index in range(len(source))]
    words = source.words(how) if isinstance(source, Worded) else None
    if words is not None:
        found = _complete(words, names, how)
    elif how == "cls" or how.startswith(("json:", "column:")):
        raise ValueError(
            f"--labels {how} is not possible here: cls and json:FIELD are for tar shards, column:NAME is for Hub data "
            "sets; give folders, or a CSV file of name,label"
        )
    else:
        found = _from_folders(names, otherwise=", or give a CSV file") if how == "folders" else _from_csv(how, names)
    classes = _classes(found)
    return _numbers(found, classes), classes


def labelled(path: str | os.PathLike[str], *, channels: int = 3, test_share: float = TEST_SHARE) -> Labelled:
    """Training and test images with their labels, from `path`.

    Either path/train/CLASS/... and path/test/CLASS/..., or path/CLASS/..., where an image is a test image if
    the 8-byte BLAKE2b digest of its name (relative, with /), as a big-endian fraction of 2**64, is below `test_share`:
    the choice depends on the name alone, so that new images move no other.

    Raises ValueError for what is no folder, images outside class folders, a class to test but not to train, fewer than
    two classes, or too few images to split.
    """
    root = os.fspath(path)
    if not os.path.isdir(root):
        fault = "is a file" if os.path.exists(root) else "does not exist"
        raise ValueError(
            f"{shown(root)} {fault}: give a folder with train/CLASS/ and test/CLASS/, or a folder for each class"
        )
    halves = [os.path.join(root, half) for half in ("train", "test")]
    there = [os.path.isdir(half) for half in halves]
    if any(there) and not all(there):
        present, missing = ("train", "test") if there[0] else ("test", "train")
        raise ValueError(
            f"{shown(root)} has {present}/ but no {missing}/: add it, or give one folder with a folder for each class"
        )
    if all(there):
        train, test = (Folder(half, channels=channels) for half in halves)
        return _joined(train, train.names, test, test.names, channels, by_name=False)
    folder = Folder(root, channels=channels)
    _classes(_from_folders(folder.names))  # counts all images and classes, not those of one half
    chosen = [in_test(name, test_share) for name in folder.names]
    train_names = [name for name, test in zip(folder.names, chosen, strict=True) if not test]
    test_names = [name for name, test in zip(folder.names, chosen, strict=True) if test]
    if not test_names or len({name.partition("/")[0] for name in train_names}) < 2:
        raise ValueError(
            f"the {len(folder)} images of {shown(root)} are too few to split by name: add images, "
            "or make the folders train/ and test/"
        )
    return _joined(folder, train_names, folder, test_names, channels, by_name=True)


def in_test(name: str, share: float = TEST_SHARE) -> bool:
    """Whether an image of one folder of classes is a test image: a function of its name alone."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def _joined(
    train: Files, train_names: Sequence[str], test: Files, test_names: Sequence[str], channels: int, by_name: bool
) -> Labelled:
    to_train, to_test = _from_folders(train_names), _from_folders(test_names)
    classes = _classes(to_train)
    unknown = sorted(set(to_test) - set(classes))
    if unknown:
        raise ValueError(f"{_some(unknown)} to test but none to train: add training images, or leave them out")
    return Labelled(
        train=Files(train.root, train_names, channels=channels, labels=_numbers(to_train, classes)),
        test=Files(test.root, test_names, channels=channels, labels=_numbers(to_test, classes)),
        classes=classes,
        by_name=by_name,
    )


def _complete(words: Sequence[str | None], names: Sequence[str], spec: str) -> list[str]:
    bare = [name for name, word in zip(names, words, strict=True) if word is None]
    if bare:
        raise ValueError(
            f"labels missing: {len(bare):,} of {len(names):,} images have none by --labels {spec}, the first is "
            f"{shown(bare[0])}: add them, or label in another way (folders, cls, json:FIELD, column:NAME, a CSV file)"
        )
    return [word for word in words if word is not None]


def _from_folders(names: Sequence[str], otherwise: str = "") -> list[str]:
    found = [name.partition("/")[0] if "/" in name else None for name in names]
    bare = [name for name, label in zip(names, found, strict=True) if not label]
    if bare:
        raise ValueError(
            f"labels missing: {len(bare):,} of {len(names):,} images lie in no class folder, the first is "
            f"{shown(bare[0])}: sort the images into one folder for each class{otherwise}"
        )
    return [label for label in found if label]


def _from_csv(file: str, names: Sequence[str]) -> list[str]:
    table: dict[str, str] = {}
    for number, row in enumerate(_rows(file), start=1):
        if len(row) < 2 or not row[1].strip():
            raise ValueError(f"{shown(file)} has no label in row {number}: write name,label")
        name, label = row[0], row[1].strip()
        if table.setdefault(name, label) != label:
            raise ValueError(f"{shown(file)} has two labels for {shown(name)}: {table[name]} and {label}: keep one")
    missing = [name for name in names if name not in table]
    if missing:
        raise ValueError(
            f"labels missing: {len(missing):,} of {len(names):,} images are not in {shown(file)}, the first is "
            f"{shown(missing[0])}: write one row name,label for each image, with names as the folder has them"
        )
    return [table[name] for name in names]


def _rows(file: str) -> list[list[str]]:
    try:
        text = Path(file).read_bytes().decode("utf-8-sig", "surrogateescape")
        return [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except OSError as error:
        raise ValueError(
            f"{shown(file)} cannot be opened ({error.strerror}): give --labels folders, or a CSV file of name,label"
        ) from error
    except csv.Error as error:
        raise ValueError(
            f"{shown(file)} is not a CSV file ({error}): write one row name,label for each image"
        ) from error


def _classes(found: Sequence[str]) -> tuple[str, ...]:
    classes = sorted(set(found))
    if len(classes) < 2:
        raise ValueError(
            f"{'the only image has' if len(found) == 1 else f'all {len(found):,} images have'} the label "
            f"{shown(classes[0])}: at least two classes are needed"
        )
    return tuple(sorted(classes, key=int) if all(name.isdecimal() for name in classes) else classes)


def _numbers(found: Sequence[str], classes: Sequence[str]) -> Int64[Tensor, "N"]:
    number = {name: i for i, name in enumerate(classes)}
    return torch.tensor([number[label] for label in found], dtype=torch.int64)


def _some(classes: Sequence[str]) -> str:
    listed = ", ".join(shown(name) for name in classes[:3]) + (" ..." if len(classes) > 3 else "")
    return f"the class {listed} has images" if len(classes) == 1 else f"{len(classes)} classes ({listed}) have images"
