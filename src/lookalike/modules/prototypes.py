"""Prototypes: K directions that embeddings are compared with, learned like weights."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class Prototypes(nn.Module):
    """Scores of an embedding with K prototypes, z . c: a linear layer without bias whose rows have length one.

    Rows start at length one; training moves them off it, and `normalize_` brings them back: SwAV calls it before each
    step (Caron et al. 2020; facebookresearch/swav). Computed in float32 under autocast too: codes are exponentials.

    >>> prototypes = Prototypes(3000, 128)
    >>> prototypes(torch.zeros(2, 128)).shape
    torch.Size([2, 3000])

    Raises ValueError for fewer than two prototypes.
    """

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        if count < 2:
            raise ValueError(f"{count} prototypes tell nothing apart: give at least 2")
        self.count, self.dim = count, dim
        self.weight = nn.Parameter(nn.Linear(dim, count, bias=False).weight.detach())
        self.normalize_()

    def forward(self, z_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        with torch.autocast(z_BD.device.type, enabled=False):
            return z_BD.to(self.weight.dtype) @ self.weight.T

    @torch.no_grad()
    def normalize_(self) -> None:
        """Brings every row to length one."""
        self.weight.copy_(functional.normalize(self.weight, dim=1))

    def extra_repr(self) -> str:
        return f"count={self.count}, dim={self.dim}"


class NormedPrototypes(nn.Module):
    """Scores of an embedding with K directions, z . c / |c|, times lengths that are 1 or learned: DINO's last layer.

    A linear layer under weight normalization (Caron et al. 2021; facebookresearch/dino, DINOHead): gradient passes
    through the division, and the lengths of `weight` are free. learned_length=True is norm_last_layer=False there.
    Computed in float32 under autocast too. Raises ValueError for fewer than two prototypes.
    """

    def __init__(self, count: int, dim: int, *, learned_length: bool = False) -> None:
        super().__init__()
        if count < 2:
            raise ValueError(f"{count} prototypes tell nothing apart: give at least 2")
        self.count, self.dim = count, dim
        self.weight = nn.Parameter(nn.Linear(dim, count, bias=False).weight.detach())
        self.length = nn.Parameter(torch.ones(count, 1), requires_grad=learned_length)

    def forward(self, z_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        with torch.autocast(z_BD.device.type, enabled=False):
            return z_BD.to(self.weight.dtype) @ (self.length * functional.normalize(self.weight, dim=1)).T

    def extra_repr(self) -> str:
        return f"count={self.count}, dim={self.dim}, learned_length={self.length.requires_grad}"
