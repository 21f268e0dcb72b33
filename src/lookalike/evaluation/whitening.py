"""PCA whitening, fitted on background rows alone: fewer dimensions, each of unit variance, then rows of unit norm.

Shapes: M background rows, B rows, D dimensions before, E after.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn.functional import normalize

FLAT = 1e-10  # of the largest variance; directions that vary less are left out: our choice


@dataclass(frozen=True, kw_only=True)
class Whitening:
    """Takes rows to unit rows of E dimensions: those of the largest variance, centered."""

    mean: Float64[Tensor, "D"]
    directions: Float64[Tensor, "D E"]

    @property
    def dim(self) -> int:
        return self.directions.shape[1]

    def __call__(self, rows_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B {self.dim}"]:
        """In the type of the rows. A row that is the background's mean becomes zero."""
        rows_BD, mean_D = normalize(rows_BD, dim=1), self.mean.to(rows_BD)
        return normalize((rows_BD - mean_D) @ self.directions.to(rows_BD), dim=1)


def whitening(background_MD: Float[Tensor, "M D"], dim: int, *, whiten: bool = True) -> Whitening:
    """Of unit rows, to at most `dim` dimensions: fewer where the background varies in fewer.

    As `PCAW{dim},L2norm` of FAISS; with whiten=False as `PCA{dim},L2norm`: centered and turned, not scaled. Raises
    ValueError for a background that does not vary.
    """
    rows_MD = normalize(background_MD.double(), dim=1)
    mean_D = rows_MD.mean(0)
    centered_MD = rows_MD - mean_D
    variance_D, axes_DD = torch.linalg.eigh(centered_MD.T @ centered_MD / len(rows_MD))
    variance_D, axes_DD = variance_D.flip(0), axes_DD.flip(1)
    kept = min(dim, int((variance_D > max(FLAT * float(variance_D[0]), FLAT**2)).sum()))
    if not kept:
        raise ValueError(f"the {len(rows_MD):,} background rows are all equal: whitening wants images that differ")
    axes_DE = axes_DD[:, :kept]
    return Whitening(mean=mean_D, directions=axes_DE / variance_D[:kept].sqrt() if whiten else axes_DE)
