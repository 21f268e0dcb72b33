"""A descriptor: backbone and head as one network, whose unit rows are compared with those of another one."""

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from lookalike.functional import unit
from lookalike.modules.backbones import Encoder
from lookalike.modules.heads import gives


class Descriptor(nn.Module):
    """encoder: pixels -> (B, dim of the backbone); head: those features -> (B, dim). Rows have length one.

    >>> network = Descriptor(nn.Linear(6, 5), nn.Linear(5, 4))
    >>> network.dim
    4
    """

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    @property
    def dim(self) -> int:
        """How many numbers a row has."""
        return gives(self.head)

    @property
    def backbone(self) -> Encoder:
        """The encoder. Raises ValueError where it is none of ours, with normalization and channels."""
        if not isinstance(self.encoder, Encoder):
            raise ValueError(f"the encoder of this descriptor is a {type(self.encoder).__name__}: build it by backbone")
        return self.encoder

    @property
    def channels(self) -> int:
        return self.backbone.channels

    def forward(self, x: Shaped[Tensor, "B *pixels"]) -> Float[Tensor, "B dim"]:
        return unit(self.head(self.encoder(x)))
