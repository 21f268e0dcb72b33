"""Alignment and uniformity: whether positives are near one another on the sphere, and rows spread over all of it.

Both are of the global batch. The Gaussian potential between pairs exists for a chunk of rows at a time; with unit rows
it is exp(2 t (x . y - 1)), so that the sweep of `in_batch` gives value and gradients.

b own rows, B rows of the global batch, N other ends of pairs, D dimensions.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lookalike.functional.collectives import Group, gather_rows, global_mean, mean_of_sum
from lookalike.functional.in_batch import positions, summed
from lookalike.functional.similarity import unit


def alignment(
    x_bD: Float[Tensor, "b D"], y_bD: Float[Tensor, "b D"], *, alpha: float = 2.0, group: Group = None
) -> Float[Tensor, ""]:
    """Mean over positives of |unit(x) - unit(y)|^alpha (Wang & Isola 2020, section 4.1): 0 to 2^alpha.

    >>> alignment(torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 3.0], [1.0, 0.0]]))  # right angle, none
    tensor(1.)

    Raises ValueError for an alpha below 1, whose gradient is infinite where two views agree.
    """
    if not alpha >= 1:
        raise ValueError(f"alpha is {alpha}: give 1 or more")
    apart_b = torch.linalg.vector_norm(unit(x_bD) - unit(y_bD), dim=1)  # no gradient, and no NaN, where it is 0
    return global_mean(apart_b.pow(alpha), group)


def uniformity(x_bD: Float[Tensor, "b D"], *, t: float = 2.0, group: Group = None) -> Float[Tensor, ""]:
    """log of the mean over pairs of rows of exp(-t |unit(x_i) - unit(x_j)|^2) (Wang & Isola 2020, section 4.1).

    0 if all rows are equal, at least -4 t. Pairs are those of the global batch, and no row is its own pair. In float32
    the potential of opposite rows is 0 for a t of 26 or more; what lies nearer is not.

    >>> uniformity(torch.tensor([[1.0, 0.0], [-3.0, 0.0]]))                                          # opposite rows
    tensor(-8.)

    Raises ValueError for a t that is not above 0, and for fewer than 2 rows.
    """
    if not t > 0:
        raise ValueError(f"t is {t}: give a number above 0")
    x_bD = unit(x_bD)
    x_BD = gather_rows(x_bD, group)
    if len(x_BD) < 2:
        raise ValueError(f"uniformity is that of pairs of rows, and there is {len(x_BD)}: use a larger batch")
    total = potential(x_bD, x_BD, positions(x_bD, group), t=t)
    return (mean_of_sum(total, len(x_bD), group) / (len(x_BD) - 1)).log()


def potential(
    x_bD: Float[Tensor, "b D"], y_ND: Float[Tensor, "N D"], own_b: Int64[Tensor, "b"], *, t: float
) -> Float[Tensor, ""]:
    """Sum over rows x_i, and over all y_j but y_own_i, of exp(-t |x_i - y_j|^2). Rows have length one."""

    def pulls(u_cD: Tensor, y_ND: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        near_cN = (u_cD @ y_ND.T).sub_(2 * t).exp_()
        near_cN.scatter_(1, own_b[rows][:, None], 0.0)
        return near_cN.sum(1), near_cN

    return summed(x_bD, y_ND, pulls, 1 / (2 * t))
