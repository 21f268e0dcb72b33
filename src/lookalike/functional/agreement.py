"""How well a batch agrees with the contrastive objective: partners near, others far (Welle et al., 2021).

Only the abstract of the paper could be read: the criteria are a reconstruction. "worst", "mean" and "nearest" compare
distances of features; "frechet" is the distance of the two views' distributions (Goksu, Pugeault, 2024).

    S_i = distance of the two views of image i;  U_ij = distance of a view of i and a view of another image j
    worst    max S - min U                          at most `threshold` (a slack)
    mean     mean S - mean U                        (minus a margin)
    nearest  share of views whose partner is not among the `neighbors` nearest; as near as another is not nearer
    frechet  |mean a - mean b|^2 + trace(A + B - 2 (A B)^1/2), A and B the covariances of the two views

B images (of all processes), D features.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lookalike.functional.collectives import all_max
from lookalike.functional.similarity import unit

Kind = Literal["worst", "mean", "nearest", "frechet"]
Distance = Literal["cosine", "l2", "l1"]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """A score of a batch, or of each pair in it: the lower the better; accepted up to `threshold`.

    pairs: each pair is scored by the S of its own and the U of its two views. neighbors: of "nearest".
    Raises ValueError for pairs with "frechet", which has none.
    """

    kind: Kind = "nearest"
    threshold: float = 0.5
    distance: Distance = "cosine"
    neighbors: int = 1
    pairs: bool = False

    def __post_init__(self) -> None:
        if self.pairs and self.kind == "frechet":
            raise ValueError("frechet compares all views with all: it has no score of a pair; use worst, mean, nearest")

    def score(self, one_BD: Float[Tensor, "B D"], two_BD: Float[Tensor, "B D"]) -> Float[Tensor, "S"]:
        """One score, or one of each pair; given the rows of all processes, equal on all of them.

        What is no number is the worst score. With one image there are no others, and the score is -inf: accepted.
        """
        one_BD, two_BD = one_BD.detach().double(), two_BD.detach().double()
        if len(one_BD) < 2:
            return one_BD.new_full((1,), -torch.inf)
        found = frechet(one_BD, two_BD)[None] if self.kind == "frechet" else self._of_distances(one_BD, two_BD)
        # other machines round differently: all decide alike
        return all_max(found.masked_fill(found.isnan(), torch.inf))

    def _of_distances(self, one_BD: Tensor, two_BD: Tensor) -> Tensor:
        count = len(one_BD)
        apart_NN = distances(torch.cat([one_BD, two_BD]), self.distance)
        image_N = torch.arange(2 * count, device=apart_NN.device) % count
        others_NN = image_N[:, None] != image_N[None, :]
        own_B = apart_NN.diagonal(count)
        own_N = own_B.repeat(2)
        if self.kind == "nearest":
            # ties and NaN are misses
            nearer_N = (others_NN & ~(apart_NN > own_N[:, None])).sum(1)
            missed_2B = (nearer_N >= self.neighbors).double().view(2, count)
            return missed_2B.amax(0) if self.pairs else missed_2B.mean()[None]
        if self.kind == "worst":
            least_2B = apart_NN.masked_fill(~others_NN, torch.inf).amin(1).view(2, count)
            return own_B - least_2B.amin(0) if self.pairs else (own_B.max() - least_2B.min())[None]
        mean_2B = (apart_NN * others_NN).sum(1).view(2, count) / (2 * count - 2)
        return own_B - mean_2B.mean(0) if self.pairs else (own_B.mean() - mean_2B.mean())[None]


def distances(x_ND: Float[Tensor, "N D"], kind: Distance) -> Float[Tensor, "N N"]:
    """Of all rows to all."""
    if kind == "cosine":
        return 1 - unit(x_ND) @ unit(x_ND).T
    return torch.cdist(x_ND, x_ND, p=1.0 if kind == "l1" else 2.0, compute_mode="donot_use_mm_for_euclid_dist")


def frechet(one_BD: Float[Tensor, "B D"], two_BD: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Squared distance of the normal distributions with the rows' means and covariances (Dowson, Landau, 1982).

    With centered rows X and Y over sqrt(B - 1) the trace of (A B)^1/2 is the sum of singular values of X Y'.
    """
    scale = (len(one_BD) - 1) ** 0.5
    x_BD, y_BD = (one_BD - one_BD.mean(0)) / scale, (two_BD - two_BD.mean(0)) / scale
    means = (one_BD.mean(0) - two_BD.mean(0)).square().sum()
    return means + x_BD.square().sum() + y_BD.square().sum() - 2 * torch.linalg.svdvals(x_BD @ y_BD.T).sum()
