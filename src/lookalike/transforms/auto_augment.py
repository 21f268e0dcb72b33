"""AutoAugment's ImageNet policy, as torchvision has it, with parameters drawn by us: per sample, keyed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torchvision
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from lookalike.transforms.ops import rounded

POLICIES = 25  # of the ImageNet policy


@dataclass(frozen=True)
class AutoAugment:
    """One of the 25 pairs of operations found for ImageNet (Cubuk et al., 2019), with probability p.

    Each operation of the pair has a chance of its own; what turned or shifted in leaves black behind; nearest pixels.
    Values: "applies", "policy" (B,), "chances" and "signs" (B, 2).
    """

    p: float = 1.0
    columns: ClassVar[int] = 6

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"AutoAugment takes a probability p from 0 to 1, got {self.p}")

    def draw(self, u_BK: Float64[Tensor, "B 6"]) -> dict[str, Shaped[Tensor, "B ..."]]:
        applies, policy, chances, signs = u_BK.split([1, 1, 2, 2], dim=1)
        return {
            "applies": applies[:, 0] < self.p,
            "policy": (POLICIES * policy[:, 0]).long(),
            "chances": chances,
            "signs": (2 * signs).long(),
        }

    def change(
        self, x_BCHW: Float[Tensor, "B C H W"], values: Mapping[str, Shaped[Tensor, "B ..."]]
    ) -> Float[Tensor, "B C H W"]:
        """Levels are rounded before. Raises ValueError unless there are 1 or 3 channels."""
        if x_BCHW.shape[1] not in (1, 3):
            raise ValueError(
                f"AutoAugment needs gray or RGB images, got {x_BCHW.shape[1]} channels: leave it out of the views"
            )
        drawn = zip(*(values[name].cpu() for name in ("policy", "chances", "signs")), strict=True)
        rows = [_Given(int(policy), *rest)(row) for row, (policy, *rest) in zip(rounded(x_BCHW), drawn, strict=True)]
        return torch.stack(rows).to(x_BCHW.dtype)


class _Given(torchvision.transforms.AutoAugment):
    """torchvision's, with parameters that it is given; its own come from the global generator."""

    def __init__(self, policy: int, chances_2: Tensor, signs_2: Tensor) -> None:
        super().__init__()
        self.given = (policy, chances_2, signs_2)

    def get_params(self, transform_num: int) -> tuple[int, Tensor, Tensor]:
        assert transform_num == POLICIES
        return self.given
