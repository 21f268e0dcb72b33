"""Edits as a step of a view: the same edits as a benchmark's, on the pixels of one view."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float64, Shaped, UInt8
from PIL import Image
from torch import Tensor

from lookalike.transforms.edits.compose import COLUMNS, FAMILIES, MOST, TRAINED, composed, edited
from lookalike.transforms.edits.family import STRENGTHS, Edit

Others: TypeAlias = Callable[[float], Tensor | None]  # another image (C, H, W) for a number in [0, 1), if there is one


@dataclass(frozen=True)
class CopyEdits:
    """One to `most` edits of different families, each of a strength from 1 to `strongest`, one after another.

    others: the images that some edits put beside, below or on this one; Views gives its own. Without it, or where it
    has none, slopes of color stand in. What comes out is scaled to the view's size.
    Values: "applies" (B,), always; "numbers" (B, K), of which the edits are a pure function (see `edits`).
    Raises ValueError for families that do not exist, too few of them, and numbers that are impossible.
    """

    families: tuple[str, ...] = TRAINED
    most: int = MOST
    strongest: int = max(STRENGTHS)
    others: Others | None = field(default=None, repr=False, compare=False)
    columns: ClassVar[int] = COLUMNS

    def __post_init__(self) -> None:
        unknown = [name for name in self.families if name not in FAMILIES]
        if unknown:
            raise ValueError(f"there is no edit {unknown[0]!r}: there are {', '.join(FAMILIES)}")
        if not 1 <= self.most <= min(MOST, len(set(self.families))):
            raise ValueError(
                f"CopyEdits makes 1 to {MOST} edits of different families, got most={self.most} of "
                f"{len(set(self.families))} families"
            )
        if self.strongest not in STRENGTHS:
            raise ValueError(f"CopyEdits takes a strength from 1 to {max(STRENGTHS)}, got strongest={self.strongest}")

    def draw(self, u_BK: Float64[Tensor, "B K"]) -> dict[str, Bool[Tensor, "B"] | Float64[Tensor, "B K"]]:
        return {"applies": torch.ones(len(u_BK), dtype=torch.bool), "numbers": u_BK}

    def edits(self, numbers_K: Sequence[float]) -> list[Edit]:
        """What is done to a sample, from its row of "numbers"."""
        return composed(numbers_K, self.families, most=self.most, strongest=self.strongest)

    def change(self, x_BCHW: Shaped[Tensor, "B C H W"], values: Mapping[str, Tensor]) -> Shaped[Tensor, "B C H W"]:
        """Raises ValueError unless there are 1 or 3 channels."""
        if x_BCHW.shape[1] not in (1, 3):
            raise ValueError(
                f"edits need gray or RGB images, got {x_BCHW.shape[1]} channels: leave CopyEdits out of the views"
            )
        x_u8 = x_BCHW if x_BCHW.dtype == torch.uint8 else x_BCHW.round().clamp(0, 255).to(torch.uint8)
        size, gray = (x_BCHW.shape[3], x_BCHW.shape[2]), x_BCHW.shape[1] == 1
        rows = [
            _pixels(edited(_picture(row), self.edits(numbers), self._other), size, gray)
            for row, numbers in zip(x_u8.cpu(), values["numbers"].tolist(), strict=True)
        ]
        return torch.stack(rows).to(x_BCHW)

    def _other(self, share: float) -> Image.Image | None:
        found = None if self.others is None else self.others(share)
        return None if found is None else _picture(found.cpu())


def _picture(pixels_CHW: UInt8[Tensor, "C H W"]) -> Image.Image:
    """RGB, gray repeated."""
    bands = [Image.fromarray(band) for band in pixels_CHW.numpy()]
    return Image.merge("RGB", bands if len(bands) == 3 else bands * 3)


def _pixels(image: Image.Image, size: tuple[int, int], gray: bool) -> UInt8[Tensor, "C H W"]:
    """At a size, as one channel where the view has one."""
    image = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
    array = np.array(image.convert("L"))[..., None] if gray else np.array(image)
    return torch.from_numpy(array).permute(2, 0, 1)
