"""A benchmark of copies in a folder: queries, references, background, and which query comes from which reference.

The layout is that of the Image Similarity Challenge 2021 (DISC21), under the names its releases have used. The id of an
image is its file name without folder and extension.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from lookalike.data.decode import shown
from lookalike.data.images import Files, Folder

QUERIES = ("query", "queries", "query_images", "dev_queries", "val_query")
REFERENCES = ("reference", "references", "reference_images", "val_ref")
BACKGROUND = ("background", "background_images", "training", "train", "training_images")
TRUTH = (
    "ground_truth.csv",
    "public_ground_truth.csv",
    "dev_queries_groundtruth.csv",
    "val_groundtruth_matches.csv",
)
LAYOUT = {"queries": QUERIES, "references": REFERENCES, "ground truth": TRUTH}
EDITS = "edits.jsonl"
HEADER = ["query_id", "reference_id"]

Edits = Sequence[Sequence[tuple[str, int]]]


@dataclass(frozen=True, kw_only=True)
class CopyFolder:
    """Three sources of images, and what is true of them.

    truth: (number of the query, number of its reference); background: None where the folder has none; edits: for each
    query (family, strength) of what was done to it, None where that is not known.
    """

    queries: Files
    references: Files
    background: Files | None
    truth: Int64[Tensor, "G 2"]
    edits: Edits | None

    @property
    def without(self) -> int:
        """Queries that come from no reference."""
        return len(self.queries) - len(self.truth[:, 0].unique())


def holds_copies(path: str | os.PathLike[str]) -> bool:
    """Whether the folder has the layout, or two of queries, references and ground truth: it then has lost the third."""
    return len(_lost(Path(path))) <= 1


def copy_folder(path: str | os.PathLike[str], *, channels: int = 3) -> CopyFolder:
    """Opens a folder with the layout; nothing is decoded.

    A row of the ground truth without a reference names a query that has none; where there are such rows, queries that
    no row names are left out. Raises ValueError where a part is missing, two images have one id, or the ground truth
    is damaged, is empty, repeats a pair or names an image that is not there.
    """
    root = Path(path)
    query_place, reference_place, file = _parts(root)
    queries, references = Folder(query_place, channels=channels), Folder(reference_place, channels=channels)
    rows = _rows(file)
    named = {query for query, _ in rows}
    asked = _kept(queries, named) if any(not reference for _, reference in rows) else queries
    background = _first(root, BACKGROUND)
    return CopyFolder(
        queries=asked,
        references=references,
        background=None if background is None else Folder(background, channels=channels),
        truth=_truth(rows, _numbers(asked), _numbers(references), file),
        edits=_edits(root / EDITS, _numbers(asked)),
    )


def identifier(name: str) -> str:
    """The id of an image by its name."""
    return os.path.splitext(name.rpartition("/")[2])[0]


def _first(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).exists()), None)


def _lost(root: Path) -> list[str]:
    """Which of queries, references and ground truth are not there."""
    return [what for what, names in LAYOUT.items() if _first(root, names) is None]


def _parts(root: Path) -> list[Path]:
    """Queries, references and ground truth."""
    place, lost = shown(str(root)), _lost(root)
    if not root.is_dir():
        fault = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"{place} {fault}: give a folder with query/, reference/ and ground_truth.csv")
    if lost:
        which = " and ".join(f"the {what} ({' or '.join(LAYOUT[what][:2])})" for what in lost)
        if len(lost) == 1:
            raise ValueError(f"{place} holds a benchmark of copies that lacks {which}: restore it, or build it again")
        raise ValueError(
            f"{place} holds no benchmark of copies, it lacks {which}: give a folder with query/, reference/ and "
            "ground_truth.csv, or any folder of photos with --protocol copy"
        )
    return [path for names in LAYOUT.values() if (path := _first(root, names)) is not None]


def _rows(file: Path) -> list[tuple[str, str]]:
    """(query, reference or "") of each line."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"{shown(str(file))} cannot be read as text ({error}): give query_id,reference_id") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        cells = [cell.strip() for cell in line.split(",")]
        if cells in ([""], HEADER):
            continue
        if len(cells) != 2 or not cells[0]:
            raise ValueError(
                f"line {number} of {shown(str(file))} is {line[:80]!r}: write query_id,reference_id, or query_id, for "
                "a query that comes from no reference"
            )
        rows.append((cells[0], cells[1]))
    return rows


def _numbers(images: Files) -> Mapping[str, int]:
    """The number of each id."""
    numbers: dict[str, int] = {}
    for number, name in enumerate(images.names):
        earlier = numbers.setdefault(identifier(name), number)
        if earlier != number:
            raise ValueError(
                f"{shown(images.root)} holds {images.names[earlier]!r} and {name!r}, which have the same id: rename one"
            )
    return numbers


def _kept(images: Folder, named: set[str]) -> Files:
    names = [name for name in images.names if identifier(name) in named]
    return Files(images.root, names, channels=images.channels)


def _truth(
    rows: Sequence[tuple[str, str]], queries: Mapping[str, int], references: Mapping[str, int], file: Path
) -> Int64[Tensor, "G 2"]:
    for column, (what, known) in enumerate((("query", queries), ("reference", references))):
        lost = list(dict.fromkeys(row[column] for row in rows if row[column] and row[column] not in known))
        if lost:
            raise ValueError(
                f"{shown(str(file))} names the {what} {lost[0]!r}, and there is no such image (missing: "
                f"{len(lost):,}): add it, or take its lines out"
            )
    pairs = [(queries[query], references[reference]) for query, reference in rows if reference]
    if not pairs:
        raise ValueError(f"{shown(str(file))} names no query with its reference, so there is nothing to find: add some")
    twice = len(pairs) - len(set(pairs))
    if twice:
        raise ValueError(f"{shown(str(file))} repeats {twice:,} of its {len(pairs):,} pairs: name each once")
    return torch.tensor(pairs, dtype=torch.int64)


def _edits(file: Path, queries: Mapping[str, int]) -> Edits | None:
    """From lines like {"query": "Q00001", "families": ["crop", "blur"], "strengths": [3, 1]}."""
    if not file.exists():
        return None
    edits: list[list[tuple[str, int]]] = [[] for _ in queries]
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{shown(str(file))} cannot be read as text ({error}): build the benchmark again, or remove the file"
        ) from None
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            made = list(zip(map(str, row["families"]), map(int, row["strengths"]), strict=True))
            query = str(row["query"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"line {number} of {shown(str(file))} does not say which edits a query has ({error!r}): build the "
                "benchmark again"
            ) from None
        if query in queries:
            edits[queries[query]] = made
    return edits
