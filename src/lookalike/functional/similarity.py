"""Unit rows, cosines between rows, the nearest row, and the distance that BYOL minimizes."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

SCRATCH = 2**24  # bytes of one chunk of products


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


@torch.no_grad()
def nearest(a_BD: Float[Tensor, "B D"], b_KD: Float[Tensor, "K D"]) -> Int64[Tensor, "B"]:
    """For every row of a the index of the row of b with the largest product, the first of equal ones.

    Rows of length one: the largest cosine. In float32 or wider; the products exist for a chunk of rows at a time.
    """
    wide = torch.float64 if a_BD.dtype == torch.float64 else torch.float32
    size = max(SCRATCH // (len(b_KD) * wide.itemsize), 1)
    with torch.autocast(a_BD.device.type, enabled=False):
        keys_DK = b_KD.to(wide).T
        return torch.cat([(rows.to(wide) @ keys_DK).argmax(1) for rows in a_BD.split(size)])


def byol_distance(prediction_BD: Float[Tensor, "B D"], target_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
    """|unit(prediction) - unit(target)|^2 = 2 - 2 cosine, one value in [0, 4] per row (Grill et al. 2020, eq. 2).

    The target gets no gradient. BYOL adds the distances of both directions; its mean over rows is
    `collectives.global_mean` of them.
    """
    return (unit(prediction_BD) - unit(target_BD.detach())).square().sum(-1)
