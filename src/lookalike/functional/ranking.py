"""Copy detection as one ranking: all (query, reference, score) together, and what its measures say of it.

With the predictions of all queries in order of falling score, TP_i the true ones among the first i, and G all true
pairs, found or not:

    precision_i = TP_i / i        recall_i = TP_i / G
    uAP = sum over i of (recall_i - recall_i-1) precision_i          recall_0 = 0; nothing is interpolated

Of equal scores the false ones come first, so that equal scores never pay. All as the Image Similarity Challenge 2021
measures it (facebookresearch/isc2021; Douze et al., arXiv 2106.09672).

P predictions, of which T are true, G true pairs, Q queries, R resampled collections.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

MOST = 500_000  # predictions that the challenge takes
DIMENSIONS = 256  # of a descriptor that it takes
CELLS = 2**22  # numbers of a tile of counts
NOT_FOUND = 2**35  # the rank of a true pair that was not predicted


class Predictions(NamedTuple):
    """Pairs by the numbers of query and reference; a higher score says that a copy is likelier."""

    query: Int64[Tensor, "P"]
    reference: Int64[Tensor, "P"]
    score: Float[Tensor, "P"]


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """All predictions, the best first, of equal scores the false ones; true_query: the query of each true pair."""

    true: Bool[Tensor, "P"]
    query: Int64[Tensor, "P"]
    score: Float[Tensor, "P"]
    true_query: Int64[Tensor, "G"]


class OperatingPoint(NamedTuple):
    """The share of the true pairs that predictions of `threshold` or more find."""

    recall: float
    threshold: float


def ranking(found: Predictions, truth_G2: Int64[Tensor, "G 2"], *, most: int = MOST) -> Ranking:
    """The predictions in order, judged by the pairs (query, reference) of the ground truth.

    Raises ValueError for an empty ground truth, pairs that occur twice in either, scores that are not numbers, and
    more than `most` predictions.
    """
    _demand_fair(found, truth_G2, most)
    true_P = torch.isin(_keys(found.query, found.reference), _keys(*truth_G2.unbind(1)))
    order_P = true_P.int().argsort(stable=True)  # the worst case: false ones before true ones of the same score
    order_P = order_P[found.score[order_P].argsort(descending=True, stable=True)]
    return Ranking(
        true=true_P[order_P], query=found.query[order_P], score=found.score[order_P], true_query=truth_G2[:, 0]
    )


def micro_average_precision(ranked: Ranking) -> float:
    """uAP.

    >>> outcomes = Predictions(torch.tensor([0, 1, 2]), torch.tensor([0, 9, 2]), torch.tensor([0.9, 0.8, 0.7]))
    >>> micro_average_precision(ranking(outcomes, torch.tensor([[0, 0], [1, 1], [2, 2]])))
    0.5555555555555556
    """
    places_T = ranked.true.nonzero()[:, 0]
    found_T = torch.arange(1, len(places_T) + 1, device=places_T.device)
    return float((found_T.double() / (places_T + 1)).sum()) / len(ranked.true_query)


def resampled_average_precision(ranked: Ranking, times_RQ: Int64[Tensor, "R Q"]) -> Float64[Tensor, "R"]:
    """uAP of R collections, in the r-th of which query q occurs times_RQ[r, q] times; NaN without a true pair."""
    times_RT = times_RQ[:, ranked.query[ranked.true]]
    # what stands before a true pair; its own copies follow one another
    before_RT = _reached(ranked, times_RQ.double()) - times_RT
    true_before_RT = times_RT.cumsum(1) - times_RT
    total_R = torch.zeros(len(times_RQ), dtype=torch.float64)
    for copy in range(1, 1 + int(times_RQ.max())):
        precision_RT = (true_before_RT + copy) / (before_RT + copy)
        total_R += (precision_RT * (times_RT >= copy)).sum(1)
    return total_R / times_RQ[:, ranked.true_query].sum(1)


def _reached(ranked: Ranking, times_RQ: Float64[Tensor, "R Q"]) -> Float64[Tensor, "R T"]:
    """How many predictions there are from the first to each true one, with it.

    A product with the number of predictions of each query up to each true one, which is the same for all R; in tiles.
    """
    ends, queries = (ranked.true.nonzero()[:, 0] + 1).tolist(), times_RQ.shape[1]
    parts, counted_Q = [torch.empty(len(times_RQ), 0, dtype=torch.float64)], torch.zeros(queries, dtype=torch.float64)
    rows = max(1, CELLS // queries)
    for first in range(0, len(ends), rows):
        tile = slice(ends[first - 1] if first else 0, ends[min(first + rows, len(ends)) - 1])
        true_p, query_p = ranked.true[tile], ranked.query[tile]
        before_p = true_p.cumsum(0) - true_p.long()  # the true ones of this tile before each prediction
        counts_tQ = torch.bincount(before_p * queries + query_p, minlength=int(true_p.sum()) * queries)
        counts_tQ = counts_tQ.view(-1, queries).cumsum(0) + counted_Q
        counted_Q = counts_tQ[-1]
        parts.append(times_RQ @ counts_tQ.T)
    return torch.cat(parts, dim=1)


def recall_at_precision(ranked: Ranking, precision: float = 0.9) -> OperatingPoint | None:
    """The largest recall at which the precision is that or more; None where it never is. The first of equal ones."""
    found_P = ranked.true.cumsum(0)
    enough_P = found_P.double() / torch.arange(1, len(found_P) + 1, device=found_P.device) >= precision
    if not enough_P.any():
        return None
    place = int(torch.where(enough_P, found_P, -1).argmax())
    return OperatingPoint(int(found_P[place]) / len(ranked.true_query), float(ranked.score[place]))


def true_ranks(found: Predictions, truth_G2: Int64[Tensor, "G 2"]) -> Int64[Tensor, "G"]:
    """For each true pair, how many other references its query predicts with its score or more; else NOT_FOUND."""
    ranks_G = torch.full((len(truth_G2),), NOT_FOUND)
    if not len(found.score):
        return ranks_G
    order_P = found.score.argsort(descending=True, stable=True)
    order_P = order_P[found.query[order_P].argsort(stable=True)]
    query_P, score_P = found.query[order_P], found.score[order_P]
    starts_P = torch.searchsorted(query_P, query_P)
    different_P = (query_P[1:] != query_P[:-1]) | (score_P[1:] != score_P[:-1])
    group_P = torch.cat([torch.zeros(1, dtype=torch.int64), different_P.cumsum(0)])
    ends_P = group_P.bincount().cumsum(0)[group_P] - 1  # the last of those with the same query and score
    keys_P, places_P = _keys(query_P, found.reference[order_P]).sort()
    truth_G = _keys(*truth_G2.unbind(1))
    place_G = torch.searchsorted(keys_P, truth_G).clamp_(max=len(keys_P) - 1)
    there_G = keys_P[place_G] == truth_G
    ranks_G[there_G] = (ends_P - starts_P)[places_P[place_G[there_G]]]
    return ranks_G


def _keys(query_P: Tensor, reference_P: Tensor) -> Tensor:
    """One number for each pair of numbers below 2^31."""
    return query_P * 2**31 + reference_P


def _demand_fair(found: Predictions, truth_G2: Tensor, most: int) -> None:
    if not len(truth_G2):
        raise ValueError("the ground truth names no pair of a query and its reference: there is nothing to find")
    for what, keys in (("predictions", _keys(*found[:2])), ("the ground truth", _keys(*truth_G2.unbind(1)))):
        twice = len(keys) - len(keys.unique())
        if twice:
            raise ValueError(f"{twice:,} of {len(keys):,} pairs in {what} occur twice: give each pair once")
    if len(found.score) > most:
        raise ValueError(f"{len(found.score):,} predictions are more than the {most:,} that count: give the best ones")
    if found.score.isnan().any():
        raise ValueError(f"{int(found.score.isnan().sum()):,} predictions have a score that is no number: mend them")
