"""Unit rows, cosines between rows, the temperature that divides them, and the distance that BYOL minimizes."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def unit(x_BD: Float[Tensor, "*B D"], eps: float = 1e-6) -> Float[Tensor, "*B D"]:
    """Rows of length one: x / max(|x|, eps); half precision is widened to float32, zero rows stay zero.

    eps is the floor that the official SimCLR and BYOL code put under the norm (1e-12 under its square).
    """
    x_BD = x_BD.float() if x_BD.dtype in (torch.float16, torch.bfloat16) else x_BD
    return functional.normalize(x_BD, dim=-1, eps=eps)


def cosine(a_BD: Float[Tensor, "B D"], b_ND: Float[Tensor, "N D"]) -> Float[Tensor, "B N"]:
    """Cosine of every row of a with every row of b."""
    return unit(a_BD) @ unit(b_ND).T


def paired_cosine(a_BD: Float[Tensor, "B D"], b_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
    """Cosine of row i of a with row i of b."""
    return (unit(a_BD) * unit(b_BD)).sum(-1)


def byol_distance(prediction_BD: Float[Tensor, "B D"], target_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
    """|unit(prediction) - unit(target)|^2 = 2 - 2 cosine, one value in [0, 4] per row (Grill et al. 2020, eq. 2).

    The target gets no gradient. BYOL adds the distances of both directions; its mean over rows is
    `collectives.global_mean` of them.
    """
    return (unit(prediction_BD) - unit(target_BD.detach())).square().sum(-1)


def demand_temperature(temperature: float) -> None:
    """Raises ValueError for a temperature that is not above 0, NaN included."""
    if not temperature > 0:
        raise ValueError(f"the temperature is {temperature}: give a number above 0")
