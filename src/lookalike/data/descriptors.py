"""Descriptor files of the Image Similarity Challenge 2021, track 2: rows of queries and references by id, in HDF5.

Needs h5py (pip install 'lookalike[disc]').
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from lookalike.data.copies import CopyFolder, identifier
from lookalike.data.decode import shown
from lookalike.data.images import Files
from lookalike.functional.ranking import DIMENSIONS

SIDES = ("query", "reference")
NUMBERS = "fiu"  # kinds of the types of numpy that hold real numbers


@dataclass(frozen=True, kw_only=True)
class Descriptors:
    """Rows in the order of a folder's queries and references."""

    query: Float32[Tensor, "Q D"]
    reference: Float32[Tensor, "N D"]


def descriptors(file: str | os.PathLike[str], folder: CopyFolder) -> Descriptors:
    """The rows that an entry gives to the images of `folder`; rows of other images are left out.

    The file holds the data sets query, reference, query_ids and reference_ids (facebookresearch/isc2021,
    scripts/convert_track2_format.py). Raises ValueError where it cannot be read, lacks one of them or an image, has
    more than 256 dimensions, or numbers that are not finite.
    """
    path = os.fspath(file)
    tables = _tables(path)
    sides = zip(SIDES, (folder.queries, folder.references), strict=True)
    rows = {side: _chosen(path, side, tables[side], tables[f"{side}_ids"], images) for side, images in sides}
    return Descriptors(query=rows["query"], reference=rows["reference"])


def demand_entry(file: str | os.PathLike[str]) -> None:
    """Raises ValueError, as `descriptors`, for what is wrong with the file whatever the images are; reads no rows."""
    _tables(os.fspath(file), read=False)


def _tables(path: str, *, read: bool = True) -> dict[str, Any]:
    try:
        import h5py
    except ImportError:
        raise ValueError("descriptor files need h5py, which is not installed: pip install 'lookalike[disc]'") from None
    if not os.path.isfile(path):
        fault = "is a folder" if os.path.isdir(path) else "does not exist"
        raise ValueError(f"{shown(path)} {fault}: give a descriptor file")
    names = [name for side in SIDES for name in (side, f"{side}_ids")]
    try:
        with h5py.File(path, "r") as opened:
            lost = [name for name in names if not isinstance(opened.get(name), h5py.Dataset)]
            if lost:
                raise ValueError(f"{shown(path)} is no entry of the challenge, it lacks {', '.join(lost)}: write them")
            _demand_shapes(path, {name: opened[name] for name in names})
            return {name: opened[name][()] for name in names} if read else {}
    except OSError as error:
        raise ValueError(f"{shown(path)} cannot be read as HDF5 ({error}): give a descriptor file") from None


def _demand_shapes(path: str, tables: dict[str, Any]) -> None:
    for side in SIDES:
        table, ids = tables[side], tables[f"{side}_ids"]
        if table.ndim != 2 or ids.ndim != 1 or table.shape[0] != ids.shape[0]:
            told = f"{ids.shape[0]} ids" if ids.ndim == 1 else f"ids of shape {ids.shape}"
            raise ValueError(f"{shown(path)} holds {side} of shape {table.shape} and {told}: write a row for each id")
        if table.dtype.kind not in NUMBERS:
            raise ValueError(f"{shown(path)} holds {side} descriptors of type {table.dtype}: write real numbers")
        if table.shape[1] > DIMENSIONS:
            raise ValueError(
                f"{shown(path)} holds descriptors of {table.shape[1]} dimensions, and the challenge takes {DIMENSIONS} "
                "at the most: reduce them, for instance by PCA on the training images"
            )
    query, reference = (tables[side].shape[1] for side in SIDES)
    if query != reference:
        raise ValueError(
            f"{shown(path)} holds queries of {query} dimensions and references of {reference}: describe both in the "
            "same space"
        )


def _chosen(path: str, side: str, table: Any, ids: Any, images: Files) -> Float32[Tensor, "N D"]:
    """The rows of the images, in their order."""
    places = {_word(one): place for place, one in enumerate(ids.tolist())}
    wanted: Sequence[str] = [identifier(name) for name in images.names]
    lost = [name for name in wanted if name not in places]
    if lost:
        raise ValueError(
            f"{shown(path)} lacks {len(lost):,} of {len(wanted):,} {side} images, the first {lost[0]!r}: add them"
        )
    rows = torch.from_numpy(table.astype("float32"))[torch.tensor([places[name] for name in wanted])]
    if not rows.isfinite().all():
        raise ValueError(f"{shown(path)} holds {side} descriptors that are not finite: mend them")
    return rows


def _word(one: bytes | str) -> str:
    return one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)
