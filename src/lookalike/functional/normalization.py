"""Score normalization: from a query's scores, what it gets from images that are certainly no originals of it.

    b(q) = mean similarity of q to its neighbors `first` to `last` (counted from 0) in a background set
    score(q, r) = q . r - weight b(q)  =  [q, -weight b(q)] . [r, 1]

The second form is one more dimension under the inner product, so any search can hold it. Both published forms are
values of one `Normalization`. The background set holds no reference and no source of a query.

Q queries, N references, D dimensions, k neighbors.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """Which neighbors in the background set count, from 0 and with the last one, and how much."""

    first: int
    last: int
    weight: float

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise ValueError(f"neighbors {self.first} to {self.last} are none: count from 0, the last one included")

    def __str__(self) -> str:
        return f"{self.weight:g}[{self.first},{self.last}]"


SSCD = Normalization(first=0, last=2, weight=1.0)  # Pizzi et al. 2022 (arXiv 2202.10261), equation 8
ISC2021 = Normalization(first=9, last=9, weight=2.0)  # facebookresearch/isc2021, docs: n = 10, factor 2


def background_level(similarity_Qk: Float[Tensor, "Q k"], form: Normalization) -> Float[Tensor, "Q"]:
    """b(q), from each query's similarities to its nearest background images, best first.

    >>> background_level(torch.tensor([[0.9, 0.6, 0.3, 0.2]]), SSCD)
    tensor([0.6000])

    Raises ValueError where fewer neighbors are given than the form reads.
    """
    if similarity_Qk.shape[1] <= form.last:
        raise ValueError(
            f"score normalization reads {form.last + 1} neighbors in the background set, which holds "
            f"{similarity_Qk.shape[1]}: give more background images"
        )
    return similarity_Qk[:, form.first : form.last + 1].mean(1)


def with_level(
    query_QD: Float[Tensor, "Q D"], level_Q: Float[Tensor, "Q"], weight: float
) -> Float[Tensor, "Q {query_QD.shape[1]+1}"]:
    """[q, -weight b(q)]."""
    return torch.cat([query_QD, -weight * level_Q[:, None].to(query_QD)], dim=1)


def with_one(reference_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N {reference_ND.shape[1]+1}"]:
    """[r, 1]."""
    return torch.cat([reference_ND, torch.ones_like(reference_ND[:, :1])], dim=1)
