"""Copy detection: queries look for their originals among references, most queries have none, and scores decide.

Unlike retrieval, where each query ranks for itself, all pairs of all queries stand in one ranking, and a score must
mean the same for every query. As the Image Similarity Challenge 2021 does it (facebookresearch/isc2021): the best
500,000 pairs by inner product of unit rows count; `lookalike.functional.ranking` holds the measures.

Shapes: Q queries, N references, M background rows, D dimensions, G true pairs, R draws of the bootstrap.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import normalize

from lookalike.evaluation.neighbors import demand_finite, nearest, nearest_pairs
from lookalike.evaluation.worth import RESAMPLES
from lookalike.functional import random
from lookalike.functional.normalization import Normalization, background_level, with_level, with_one
from lookalike.functional.ranking import (
    MOST,
    OperatingPoint,
    Predictions,
    Ranking,
    micro_average_precision,
    ranking,
    recall_at_precision,
    resampled_average_precision,
    true_ranks,
)

PRECISION = 0.9
CELLS = 2**20  # numbers of the samples of a bootstrap that exist at a time


@dataclass(frozen=True, kw_only=True)
class CopyResult:
    """What a ranking of all predicted pairs is worth.

    ranks: for each true pair, how many other references its query ranks as high; without: true for the queries that
    have no original; normalization: the form of the scores, "" for none.
    """

    ranked: Ranking = field(compare=False, repr=False)
    ranks: Int64[Tensor, "G"] = field(compare=False, repr=False)
    without: Bool[Tensor, "Q"] = field(compare=False, repr=False)
    n_reference: int
    dim: int
    normalization: str = ""

    @property
    def n_query(self) -> int:
        return len(self.without)

    @cached_property
    def uap(self) -> float:
        return micro_average_precision(self.ranked)

    @cached_property
    def point(self) -> OperatingPoint | None:
        """The largest recall at a precision of 90 % and its threshold; None where no threshold reaches it."""
        return recall_at_precision(self.ranked, PRECISION)

    def recall(self, k: int) -> float:
        """The share of true pairs that come among the first k of their query."""
        return float((self.ranks < k).double().mean())

    def false_positives(self, threshold: float) -> float:
        """The share of queries without an original that have a prediction of `threshold` or more; NaN without any."""
        return _false_positives(self.ranked, self.without, threshold)

    def resampled(
        self, *, seed: int = 0, draws: int = RESAMPLES, on_progress: Callable[[int], None] | None = None
    ) -> Float64[Tensor, "R"]:
        """uAP on `draws` bootstrap samples of the queries, NaN where one holds no original.

        A function of the result and the seed: the samples of two encoders on the same queries are the same, and their
        differences are paired. `on_progress` hears the number of draws done.
        """
        generator, values = random.generator("bootstrap of queries", seed), list[Tensor]()
        for part in torch.arange(draws).split(max(1, CELLS // self.n_query)):
            # one by one: the samples are the same however many are judged at a time
            chosen = [torch.randint(self.n_query, (self.n_query,), generator=generator) for _ in part]
            times_RQ = torch.stack([sample.bincount(minlength=self.n_query) for sample in chosen])
            values.append(resampled_average_precision(self.ranked, times_RQ))
            if on_progress is not None:
                on_progress(int(part[-1]) + 1)
        return torch.cat(values)


@dataclass(frozen=True, kw_only=True)
class EditRow:
    """One edit, at one strength or at all (None): its queries against the same haystack as all others.

    pairs: true pairs of queries with this edit; uap, recall_90, recall_1: of these pairs, in a ranking of these queries
    and of all queries without an original; false_positives: share of the queries with this edit and without an original
    that have a prediction above the threshold of the whole benchmark. NaN where there is none to count.
    """

    family: str
    strength: int | None
    pairs: int
    uap: float
    recall_90: float
    recall_1: float
    false_positives: float


def copy_detection(
    query_rows: Float[Tensor, "Q D"],
    reference_rows: Float[Tensor, "N D"],
    truth: Int64[Tensor, "G 2"],
    *,
    background_rows: Float[Tensor, "M D"] | None = None,
    normalization: Normalization | None = None,
    neighbors: int | None = None,
    most: int = MOST,
    on_progress: Callable[[int], None] | None = None,
) -> CopyResult:
    """Rows are scaled to unit norm; truth holds the true pairs as (number of the query, number of the reference).

    Queries and references may come from two encoders. normalization: lowers a query's scores by what it gets in the
    background set. neighbors: only so many references of each query count (10 in SSCD's evaluation); None: any pair
    may. The best `most` pairs are judged. `on_progress` hears the number of queries done. Raises ValueError for no
    queries or references, rows that are not finite, pairs that are none of them, normalization without a background,
    and as `ranking` does.
    """
    _demand_rows(query_rows, reference_rows, truth)
    query_QD, reference_ND = normalize(query_rows.float(), dim=1), normalize(reference_rows.float(), dim=1)
    if normalization is not None:
        level_Q = _levels(query_QD, background_rows, normalization)
        query_QD, reference_ND = with_level(query_QD, level_Q, normalization.weight), with_one(reference_ND)
    if neighbors is None:
        found = Predictions(*nearest_pairs(query_QD, reference_ND, most, on_progress=on_progress))
    else:
        found = _nearest_of_each(query_QD, reference_ND, neighbors, most)
    without_Q = torch.ones(len(query_rows), dtype=torch.bool)
    without_Q[truth[:, 0]] = False
    return CopyResult(
        ranked=ranking(found, truth, most=most),
        ranks=true_ranks(found, truth),
        without=without_Q,
        n_reference=len(reference_rows),
        dim=query_rows.shape[1],
        normalization="" if normalization is None else str(normalization),
    )


def by_edit(result: CopyResult, edits: Sequence[Iterable[tuple[str, int]]]) -> list[EditRow]:
    """A row for each family of edits at all strengths, and one for each strength; edits[q]: those of query q.

    A query with several edits counts for each. In the order of the names. Raises ValueError where the number of
    queries differs.
    """
    if len(edits) != result.n_query:
        raise ValueError(
            f"edits of {len(edits)} queries are given, and {result.n_query} were ranked: give those of each"
        )
    carried: dict[tuple[str, int], list[int]] = {}
    for query, made in enumerate(edits):
        for family, strength in {(family, at) for family, one in made for at in (0, one)}:
            carried.setdefault((family, strength), []).append(query)
    return [_edit_row(result, *key, carried[key]) for key in sorted(carried)]


def _edit_row(result: CopyResult, family: str, strength: int, queries: Sequence[int]) -> EditRow:
    """Strength 0 stands for all."""
    own_Q = torch.zeros(result.n_query, dtype=torch.bool)
    own_Q[torch.tensor(queries)] = True
    pairs_G = own_Q[result.ranked.true_query]
    part, pairs = _among(result.ranked, own_Q | result.without, pairs_G), int(pairs_G.sum())
    point = recall_at_precision(part, PRECISION) if pairs else None
    nothing = float("nan")
    return EditRow(
        family=family,
        strength=strength or None,
        pairs=pairs,
        uap=micro_average_precision(part) if pairs else nothing,
        recall_90=(point.recall if point else 0.0) if pairs else nothing,
        recall_1=float((result.ranks[pairs_G] < 1).double().mean()),  # NaN for none
        false_positives=_false_positives(part, own_Q & result.without, result.point.threshold)
        if result.point
        else nothing,
    )


def _among(ranked: Ranking, kept_Q: Tensor, pairs_G: Tensor) -> Ranking:
    """The same order, of some queries and some true pairs."""
    kept_P = kept_Q[ranked.query]
    return Ranking(
        true=ranked.true[kept_P],
        query=ranked.query[kept_P],
        score=ranked.score[kept_P],
        true_query=ranked.true_query[pairs_G],
    )


def _false_positives(ranked: Ranking, without_Q: Tensor, threshold: float) -> float:
    above = ranked.query[ranked.score >= threshold].unique()
    return float(without_Q[above].sum() / without_Q.sum())


def _levels(query_QD: Tensor, background_rows: Tensor | None, form: Normalization) -> Tensor:
    if background_rows is None or not len(background_rows):
        raise ValueError(
            "score normalization needs a background set, of images that are neither references nor sources of queries, "
            "and there is none: add a folder training/"
        )
    demand_finite(background_rows, "background rows")
    background_MD = normalize(background_rows.float(), dim=1)
    found = nearest(query_QD, background_MD, form.last + 1, cosine=False, exclude_self=False)
    return background_level(found.similarity, form)


def _nearest_of_each(query_QD: Tensor, reference_ND: Tensor, k: int, most: int) -> Predictions:
    """The best `most` of the k nearest references of each query."""
    found = nearest(query_QD, reference_ND, k, cosine=False, exclude_self=False)
    query = torch.arange(len(query_QD))[:, None].expand_as(found.rows)
    best = found.similarity.flatten().argsort(descending=True, stable=True)[:most]
    return Predictions(query.flatten()[best], found.rows.flatten()[best], found.similarity.flatten()[best])


def _demand_rows(query_rows: Tensor, reference_rows: Tensor, truth: Tensor) -> None:
    demand_finite(query_rows, "queries")
    demand_finite(reference_rows, "references")
    if not len(query_rows) or not len(reference_rows):
        raise ValueError(f"{len(query_rows)} queries cannot look for {len(reference_rows)} references: give images")
    ends = torch.tensor([len(query_rows), len(reference_rows)])
    if len(truth) and bool(((truth < 0) | (truth >= ends)).any()):
        raise ValueError(
            f"the ground truth names rows beyond the {len(query_rows):,} queries or {len(reference_rows):,} "
            "references: count both from 0"
        )
