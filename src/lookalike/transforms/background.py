"""The background of an image removed, as a preparation before any crop; with a classical stand-in for a mask."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Shaped, UInt8
from torch import Tensor

Mask = Bool[Tensor, "H W"]
# (sample, image (C, H, W)) -> its foreground (H, W), bool
Masks: TypeAlias = Callable[[int, Tensor], Tensor | None]
WINDOW = 5  # pixels over which colors are averaged


@dataclass(frozen=True)
class RemoveBackground:
    """What the mask of the image leaves out becomes black, with probability p, before the crop (ReLICv2).

    Which mask: Views(plan, masks=...). Values: "applies" (B,). Raises ValueError for a probability outside 0 to 1.
    """

    p: float = 0.1
    columns: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"RemoveBackground takes a probability p from 0 to 1, got {self.p}")

    def draw(self, u_BK: Tensor) -> dict[str, Tensor]:
        return {"applies": u_BK[:, 0] < self.p}

    def prepare(self, image_CHW: UInt8[Tensor, "C H W"], mask_HW: Shaped[Tensor, "H2 W2"]) -> UInt8[Tensor, "C H W"]:
        """Raises ValueError for a mask of another size, or of other numbers than true and false."""
        if mask_HW.dtype != torch.bool:  # 255 times a pixel would wrap around
            raise ValueError(f"a mask says true where it keeps a pixel, and this one is {mask_HW.dtype}: give mask > 0")
        if mask_HW.shape != image_CHW.shape[1:]:
            raise ValueError(
                f"the mask of an image of {tuple(image_CHW.shape[1:])} pixels has the shape {tuple(mask_HW.shape)}: "
                "give a mask of the image's own size"
            )
        return image_CHW * mask_HW


def salient(sample: int, image_CHW: UInt8[Tensor, "C H W"]) -> Mask:
    """A stand-in for a mask from the data set: pixels whose color, averaged over a window, is far from the image's.

    Frequency-tuned saliency (Achanta et al. 2009) in RGB, at least twice its mean; not the learned saliency (DeepUSPS)
    of the ReLICv2 paper. In whole numbers: the same for any device and number of threads. An image of one color is
    foreground as a whole.
    """
    reach = WINDOW // 2
    padded = F.pad(image_CHW[None].float(), (reach, reach, reach, reach), mode="replicate")
    sums_CHW = F.avg_pool2d(padded, WINDOW, stride=1, divisor_override=1)[0].long()
    pixels = image_CHW[0].numel()
    mean_C11 = image_CHW.sum((1, 2), keepdim=True, dtype=torch.int64) * WINDOW**2 // pixels
    far_HW = (sums_CHW - mean_C11).square().sum(0)
    return far_HW * pixels >= 2 * far_HW.sum()
