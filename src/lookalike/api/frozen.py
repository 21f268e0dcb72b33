"""The manifest of a benchmark of copies: the photos it was made of, and whether its files are still those of then."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike.data.decode import EXTENSIONS
from lookalike.training.progress import Line

MANIFEST = "manifest.json"
UNSEEN = "training/"  # nothing is measured on it


@dataclass(frozen=True)
class Manifest:
    """What was asked for, by the names of the arguments, and the SHA-256 of each file by its name in the folder."""

    asked: dict[str, Any]
    files: dict[str, str]


def manifest_of(place: Path) -> Manifest:
    """Raises ValueError where there is none, or none that `build_copy_benchmark` has written."""
    try:
        facts = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        files = {name: str(file["sha256"]) for name, file in facts["files"].items()}
        return Manifest(dict(facts["asked"]), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{place} is there and is no benchmark of copies: give the name of a new folder") from None


def demand_as_built(place: Path, files: Mapping[str, str], line: Line) -> None:
    """Raises ValueError where one of the files is gone or has changed, or an image was added beside them."""
    folders = {(place / name).parent for name in files} - {place}
    there = {path for folder in folders if folder.is_dir() for path in folder.iterdir()}
    for path in sorted(there - {place / name for name in files}):
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith("."):
            raise _other(path, "was added", place)
    with line.track("Checking the benchmark", len(files)) as advance:
        for name, digest in files.items():
            if not (place / name).is_file():
                raise _other(place / name, "is gone", place)
            if hashlib.sha256((place / name).read_bytes()).hexdigest() != digest:
                raise _other(place / name, "has changed", place)
            advance(1)


def demand_frozen(place: Path, line: Line) -> None:
    """Raises ValueError where what is measured is not what was built; folders of other origin have no manifest."""
    if not (place / MANIFEST).exists():
        return
    try:
        files = manifest_of(place).files
    except ValueError:
        line.say(
            f"warning: {place / MANIFEST} is damaged or of other software: whether the images are those that were "
            "built, and of which photos, is not known"
        )
        return
    demand_as_built(place, {name: digest for name, digest in files.items() if not name.startswith(UNSEEN)}, line)


def _other(path: Path, fault: str, place: Path) -> ValueError:
    return ValueError(f"{path} {fault} since it was built: undo that, or remove {place} and build it again")
