"""Which images of a source show the same picture: equal pixels, or nearly equal ones by a hash of differences.

N images, D = 256 bits of a hash.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from lookalike.data.decode import Unreadable
from lookalike.data.images import Images

ROWS = 16  # a hash compares each of 16 x 16 averages with its right neighbor
BITS = ROWS * ROWS
# differing bits of nearly equal pictures, at most; our choice. Photos of other things differ in 44 and more (the least
# among 991 photos), small or flat images in fewer (22 among 5,000 of CIFAR-10): different ones may be taken for equal
NEAR = 32
CHUNK = 256  # rows of hashes compared at once


@dataclass(frozen=True)
class Pictures:
    """What a source shows: first (P,), the first image of each different picture; counts of all that was left out."""

    first: Int64[Tensor, "P"]
    images: int
    unreadable: int
    equal: int
    near: int


def pictures(source: Images, *, near: int = NEAR, on_progress: Callable[[int, int], None] | None = None) -> Pictures:
    """The different pictures of a source, in its order; every image is decoded once.

    Equal are images of the same decoded pixels; near are images whose hashes differ in `near` bits at most, or that are
    joined by a chain of such, small or flat images that differ among them; near=-1 leaves these in. on_progress hears
    (images seen, images). Raises ValueError for more bits than there are.
    """
    if not -1 <= near < BITS // 2:
        raise ValueError(
            f"near is a number of {BITS} bits, from -1 (equal pixels alone) to {BITS // 2 - 1}, got {near}"
        )
    seen: dict[bytes, int] = {}
    hashes, unreadable = list[Tensor](), 0
    for index in range(len(source)):
        try:
            pixels = source.read(index)
        except Unreadable:
            unreadable += 1
        else:
            digest = hashlib.blake2b(str(tuple(pixels.shape)).encode() + pixels.contiguous().numpy().tobytes()).digest()
            if seen.setdefault(digest, index) == index:
                hashes.append(difference_hash(pixels))
        if on_progress:
            on_progress(index + 1, len(source))
    different = torch.tensor(list(seen.values()), dtype=torch.int64)
    first = different[_alone(torch.stack(hashes), near)] if near >= 0 and hashes else different
    equal = len(source) - unreadable - len(different)
    return Pictures(first, len(source), unreadable, equal, len(different) - len(first))


def difference_hash(pixels_CHW: Tensor) -> Float[Tensor, "256"]:
    """1 where one of 16 x 16 averages is darker than its right neighbor, else -1 (dHash of 256 bits)."""
    # in Pillow's whole numbers, so that a benchmark has the same bytes on any machine; evaluation has another dHash, of
    # 64 bits of bicubic pixels, as others score it, on any device
    array = pixels_CHW.permute(1, 2, 0).contiguous().numpy()
    gray = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).convert("L")
    levels = np.asarray(gray.resize((ROWS + 1, ROWS), Image.Resampling.BOX), dtype=np.int16)
    return torch.from_numpy(np.where(levels[:, 1:] > levels[:, :-1], np.float32(1), np.float32(-1)).ravel())


def _alone(hashes_ND: Float[Tensor, "N 256"], near: int) -> Int64[Tensor, "P"]:
    """The first row of each group of rows that are joined by pairs of at most `near` differing bits."""
    group = list(range(len(hashes_ND)))

    def root(row: int) -> int:
        while group[row] != row:
            group[row] = group[group[row]]
            row = group[row]
        return row

    for start in range(0, len(hashes_ND), CHUNK):
        differing = (BITS - hashes_ND[start : start + CHUNK] @ hashes_ND.T) / 2
        for row, other in (differing <= near).nonzero().tolist():
            one, two = sorted((root(start + row), root(other)))
            group[two] = one
    return torch.tensor([row for row in range(len(group)) if root(row) == row], dtype=torch.int64)
