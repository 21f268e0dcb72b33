"""Statistics of the global batch that shall hold no redundancy: Barlow Twins' correlations, VICReg's covariances.

Each rank holds rows of the batch. Sums over rows go through a differentiable all-reduce, so that value and gradient are
those of the joined batch; half precision is computed in float32, under autocast too.

b own rows, B rows of the global batch, D dimensions.
"""

from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from lookalike.functional.collectives import Group, all_sum, world

Variant: TypeAlias = Literal["barlow_twins", "hsic"]


class Spread(NamedTuple):
    """VICReg's two penalties on one branch."""

    variance: Float[Tensor, ""]
    covariance: Float[Tensor, ""]


def barlow_twins(
    z1_bD: Float[Tensor, "b D"],
    z2_bD: Float[Tensor, "b D"],
    *,
    redundancy: float = 0.0051,
    variant: Variant = "barlow_twins",
    eps: float = 1e-5,
    group: Group = None,
) -> Float[Tensor, ""]:
    """sum_i (1 - C_ii)^2 + redundancy sum_i!=j C_ij^2 (Zbontar et al. 2021, eq. 1), C as in `cross_correlation`.

    variant "hsic" pulls what is off the diagonal to -1: (C_ij + 1)^2 (Tsai et al. 2021).

    >>> corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> barlow_twins(corners, corners.flip(1))                       # columns swapped: 2 + 2 redundancy
    tensor(2.0102)

    Raises ValueError for another variant, or fewer than 2 rows.
    """
    if variant not in get_args(Variant):
        raise ValueError(f"variant is {variant!r}: give one of {get_args(Variant)}")
    c_DD = cross_correlation(z1_bD, z2_bD, eps=eps, group=group)
    apart_DD = c_DD + 1 if variant == "hsic" else c_DD
    return (1 - c_DD.diagonal()).square().sum() + redundancy * _off_diagonal(apart_DD)


def cross_correlation(
    z1_bD: Float[Tensor, "b D"], z2_bD: Float[Tensor, "b D"], *, eps: float = 1e-5, group: Group = None
) -> Float[Tensor, "D D"]:
    """C_ij: mean over the global batch of column i of z1 times column j of z2, both with mean 0 and variance 1.

    The variance is the biased one, with eps added, as BatchNorm has it. Raises ValueError for fewer than 2 rows.
    """
    count = _count(z1_bD, group)
    with torch.autocast(z1_bD.device.type, enabled=False):
        one_bD, two_bD = (_standard(z_bD, count, eps, group) for z_bD in (z1_bD, z2_bD))
        return all_sum(one_bD.T @ two_bD, group) / count


def spread(z_bD: Float[Tensor, "b D"], *, eps: float = 1e-4, group: Group = None) -> Spread:
    """VICReg's variance and covariance of one branch (Bardes et al. 2021, eq. 1 to 4), both unbiased.

    variance: mean over dimensions of max(0, 1 - sqrt(Var + eps)); covariance: sum_i!=j Cov_ij^2 / D.
    Raises ValueError for fewer than 2 rows.
    """
    count = _count(z_bD, group)
    with torch.autocast(z_bD.device.type, enabled=False):
        z_bD = _centered(z_bD, count, group)
        covariance_DD = all_sum(z_bD.T @ z_bD, group) / (count - 1)
        deviation_D = (covariance_DD.diagonal() + eps).sqrt()
        return Spread(torch.relu(1 - deviation_D).mean(), _off_diagonal(covariance_DD) / len(covariance_DD))


def _centered(z_bD: Tensor, count: int, group: Group) -> Tensor:
    """Less the mean over the global batch; float32 or wider."""
    wide_bD = z_bD if z_bD.dtype == torch.float64 else z_bD.float()
    return wide_bD - all_sum(wide_bD.sum(0), group) / count


def _standard(z_bD: Tensor, count: int, eps: float, group: Group) -> Tensor:
    """Mean 0 and variance 1 over the global batch."""
    z_bD = _centered(z_bD, count, group)
    return z_bD * (all_sum(z_bD.square().sum(0), group) / count + eps).rsqrt()


def _off_diagonal(x_DD: Tensor) -> Tensor:
    """Sum of squares off the diagonal."""
    return (x_DD - x_DD.diagonal().diag()).square().sum()


def _count(z_bD: Tensor, group: Group) -> int:
    """Rows of the global batch."""
    count = len(z_bD) if world(group) == 1 else int(all_sum(z_bD.new_tensor(len(z_bD), dtype=torch.float32), group))
    if count < 2:
        raise ValueError(f"statistics over the batch need at least 2 rows, and there is {count}: use a larger batch")
    return count
