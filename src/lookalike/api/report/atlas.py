"""Small pictures side by side in few large ones, as data URIs, within a bound on their bytes.

N pictures, C channels, S their side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from lookalike.api.tiles import data_uri, fitted, picture, webp

WIDEST = 2_048  # pixels of a page: what every browser draws
BYTES = 9_000_000  # of all pages; a third more in base64, so that a report stays below 15 MB
QUALITIES = (82, 68, 52, 36, 20)


@dataclass(frozen=True)
class Atlas:
    """Pages of `across` x `across` pictures of side `side`, row by row."""

    side: int
    across: int
    pages: list[str]


def atlas(thumbs: UInt8[Tensor, "N C S S"], most_bytes: int = BYTES) -> Atlas:
    """All pictures, at the best quality that fits into `most_bytes`; where none does, at half their side."""
    side = thumbs.shape[-1]
    sheets = [_sheet(part) for part in thumbs.split((WIDEST // side) ** 2)]
    for quality in QUALITIES:
        files = _files(sheets, quality, most_bytes)
        if files is not None:
            return Atlas(side, WIDEST // side, [data_uri(file) for file in files])
    if side < 2:
        raise ValueError(f"{len(thumbs):,} pictures do not fit into {most_bytes:,} bytes: show fewer images")
    return atlas(torch.stack([fitted(thumb, side // 2) for thumb in thumbs]), most_bytes)


def _sheet(thumbs_nCSS: Tensor) -> Tensor:
    """The pictures of one page, (C, height, width)."""
    count, channels, side, _ = thumbs_nCSS.shape
    across = WIDEST // side
    down = -(-count // across)
    columns = min(count, across)
    blank = torch.zeros((down * columns - count, channels, side, side), dtype=torch.uint8)
    grid = torch.cat([thumbs_nCSS, blank]).view(down, columns, channels, side, side)
    return grid.permute(2, 0, 3, 1, 4).reshape(channels, down * side, columns * side)


def _files(sheets: Sequence[Tensor], quality: int, most_bytes: int) -> list[bytes] | None:
    """The pages as files, or None as soon as they are too large."""
    files, total = [], 0
    for sheet in sheets:
        files.append(webp(picture(sheet), quality))
        total += len(files[-1])
        if total > most_bytes:
            return None
    return files
