"""Feature maps of what is scored by masks: the level that is read, and images scaled to whole cells of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lookalike.api.models import Scored
from lookalike.evaluation import PixelMaps
from lookalike.modules import Descriptor, Encoder, cell, evaluating, finer
from lookalike.transforms.geometry import Region, resample

CELLS = 60  # of the shorter side of a map at most: videowalk's maps of DAVIS at 480 pixels have as many
FINE = 8  # pixels: the cells of videowalk's maps


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """A model whose maps are read at `level`, in cells `stride` pixels wide."""

    scored: Scored
    encoder: Encoder | PixelMaps
    level: int
    stride: int

    @property
    def name(self) -> str:
        return self.scored.name

    @property
    def features(self) -> str:
        """What is read, for a protocol."""
        return "pixels" if isinstance(self.encoder, PixelMaps) else f"backbone map {self.level}"

    @property
    def crop(self) -> str:
        return f"whole image in cells of {self.stride} px"

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Cells of the map of an image: at most CELLS along the shorter side, and two at least."""
        wide = max(self.stride, min(height, width) / CELLS)
        return max(2, round(height / wide)), max(2, round(width / wide))

    def maps(self, images: Sequence[UInt8[Tensor, "C H W"]], device: torch.device) -> Float[Tensor, "B D h w"]:
        """Of images of one size, scaled to whole cells."""
        height, width = images[0].shape[1:]
        rows, columns = self.grid(height, width)
        region = Region(0, 0, width, height, self.stride * columns, self.stride * rows)
        pixels = torch.stack([resample(image, region) for image in images]).to(device)
        with evaluating(self.encoder):
            return self.encoder.maps(pixels, self.level)


def mapped(scored: Scored, *, fine: bool) -> Mapped:
    """The last map; where `fine`, the last but one if it is finer, of a ResNet with cells of 8 pixels at most.

    Raises ValueError where the network gives no maps of images of any size.
    """
    network = scored.module.backbone if isinstance(scored.module, Descriptor) else scored.module
    if not isinstance(network, Encoder):
        return Mapped(scored=scored, encoder=PixelMaps(), level=-1, stride=PixelMaps.stride)
    widths = {level: cell(network, level) for level in (-1, -2)}
    if not fine or widths[-2] == widths[-1]:
        return Mapped(scored=scored, encoder=network, level=-1, stride=widths[-1])
    encoder = finer(network) if widths[-2] > FINE else network
    return Mapped(scored=scored, encoder=encoder, level=-2, stride=cell(encoder, -2))
