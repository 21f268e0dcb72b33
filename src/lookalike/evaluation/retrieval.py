"""Retrieval by cosine: each query ranks the whole gallery; items of its class are relevant.

    P(r)   share of relevant items among the first r of the ranking
    AP     mean over the relevant items of P(rank of the item): every relevant item counts, found early or last
    mAP    mean of AP over the queries that have a relevant item
    CMC(r) share of these queries with a relevant item among the first r; recall@k is CMC(k), as metric learning has it

The ranking goes by cosine in steps of 2^-20, about the rounding error of a float32 product; of equally similar items
the lowest row comes first. It does not depend on how many queries are ranked at a time.

Shapes: Q queries, N gallery rows, D features, K ranks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import normalize

from lookalike.evaluation.neighbors import STEPS

RANKS = (1, 5, 10, 20)
CELLS = 2**22  # similarities that exist at a time


@dataclass(frozen=True, kw_only=True)
class RetrievalResult:
    """precision: AP of each query, NaN without a relevant item; cmc: entry r - 1 is CMC(r).

    without: the queries that have no relevant item, by row. They are in no mean.
    """

    precision: Float64[Tensor, "Q"] = field(compare=False, repr=False)
    cmc: Float64[Tensor, "K"] = field(compare=False, repr=False)
    without: Int64[Tensor, "W"] = field(compare=False, repr=False)
    n_query: int
    n_gallery: int

    @property
    def mean_precision(self) -> float:
        """mAP."""
        return float(self.precision.nanmean())

    @property
    def recall(self) -> dict[int, float]:
        """recall@k for the k of RANKS."""
        return {k: float(self.cmc[k - 1]) for k in RANKS}

    @property
    def note(self) -> str:
        """Names the queries that are in no mean."""
        if not len(self.without):
            return ""
        first = ", ".join(map(str, self.without[:5].tolist()))
        return (
            f"{len(self.without):,} of {self.n_query:,} queries have no relevant item and count nowhere: rows {first}"
        )


def retrieval(
    query_rows: Float[Tensor, "Q D"],
    query_labels: Int64[Tensor, "Q"],
    gallery_rows: Float[Tensor, "N D"] | None = None,
    gallery_labels: Int64[Tensor, "N"] | None = None,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> RetrievalResult:
    """mAP, recall and CMC of queries in a gallery; without a gallery of the queries among themselves, each left out.

    `on_progress` hears the number of queries done. Never more than CELLS similarities exist, or one query's. Raises
    ValueError for no queries or items, a gallery without labels, and where no query has a relevant item.
    """
    alone = gallery_rows is None
    if alone != (gallery_labels is None):
        raise ValueError("a gallery is rows and labels: give both, or neither to leave each query out of the queries")
    items_ND = normalize((query_rows if gallery_rows is None else gallery_rows).float(), dim=1)
    labels_N = (query_labels if gallery_labels is None else gallery_labels).to(items_ND.device)
    if not len(query_rows) or len(items_ND) <= alone:
        raise ValueError(
            f"{len(query_rows)} queries cannot be ranked in a gallery of {len(items_ND)}: give more images"
        )
    query_QD, own_Q = normalize(query_rows.float(), dim=1), torch.arange(len(query_rows), device=items_ND.device)
    parts = []
    for rows in own_Q.split(max(1, CELLS // len(items_ND))):
        truth = query_labels.to(items_ND.device)[rows]
        parts.append(_ranked(query_QD[rows], truth, items_ND, labels_N, rows if alone else None))
        if on_progress is not None:
            on_progress(int(rows[-1]) + 1)
    precision_Q, first_Q = (torch.cat(column) for column in zip(*parts, strict=True))
    without_Q = precision_Q.isnan()
    if without_Q.all():
        raise ValueError("no query has a relevant item: give at least two images of a class")
    return RetrievalResult(
        precision=precision_Q,
        cmc=(first_Q[~without_Q, None] <= torch.arange(1, max(RANKS) + 1)).double().mean(0),
        without=without_Q.nonzero()[:, 0],
        n_query=len(query_rows),
        n_gallery=len(items_ND) - alone,
    )


def _ranked(
    query_qD: Tensor, truth_q: Tensor, items_ND: Tensor, labels_N: Tensor, own_q: Tensor | None
) -> tuple[Float64[Tensor, "q"], Int64[Tensor, "q"]]:
    """AP and the rank of the first relevant item; NaN and no rank that counts where there is none."""
    keys = (query_qD @ items_ND.T).mul_(STEPS).round_()
    if own_q is not None:
        keys.scatter_(1, own_q[:, None], -torch.inf)  # last of its ranking, and not relevant
    order = keys.argsort(dim=1, descending=True, stable=True)
    relevant = labels_N[order] == truth_q[:, None]
    if own_q is not None:
        relevant &= order != own_q[:, None]
    rank_N = torch.arange(1, len(items_ND) + 1, device=items_ND.device, dtype=torch.float64)
    count_q = relevant.sum(1)
    precision_q = (relevant.cumsum(1) / rank_N * relevant).sum(1) / count_q  # 0 / 0 is NaN
    return precision_q.cpu(), torch.where(count_q > 0, relevant.int().argmax(1) + 1, 0).cpu()
