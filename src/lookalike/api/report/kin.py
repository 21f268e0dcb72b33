"""The neighbor sheet: images and what lies nearest to each, for random, typical, lonely and nearly equal ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lookalike.api.report.encoded import Encoded
from lookalike.evaluation import nearest
from lookalike.functional import random

CANDIDATES = 2_000  # images among which typical, lonely and nearly equal ones are looked for
RANDOM, OTHERS, NEAREST = 6, 3, 6  # rows of the sheet, and images in a row


@dataclass(frozen=True)
class Shown:
    """An image of the sample by its place there, and its cosine to the query."""

    place: int
    similarity: float


@dataclass(frozen=True)
class Query:
    """An image, the nearest others, the one in the middle of all ranks, and the farthest."""

    place: int
    nearest: list[Shown]
    median: Shown
    farthest: Shown


@dataclass(frozen=True)
class Group:
    """Queries that were chosen in one way, and how."""

    title: str
    note: str
    queries: list[Query]


def kin(found: Encoded, seed: int) -> list[Group]:
    """Four groups of queries, none with fewer than one; no group where there are fewer than three images."""
    count = len(found.rows)
    if count < 3:
        return []
    order = torch.randperm(count, generator=random.generator("report queries", seed))
    candidates = order[:CANDIDATES]
    first = nearest(found.rows[candidates], found.rows, 1, own=candidates)
    ranks = first.similarity[:, 0].argsort(stable=True)
    ranked = candidates[ranks]
    rest = min(OTHERS, count)
    pairs = _once(ranked.flip(0).tolist(), first.rows[ranks, 0].flip(0).tolist())[:rest]
    middle = max(0, len(ranked) // 2 - rest // 2)
    among = f"of {len(candidates):,}" if len(candidates) < count else "of all"
    chosen = (
        ("Random", "Chosen by the seed of the run: nobody picked them.", order[:RANDOM]),
        ("Typical", f"Their nearest image is as near as it is for half {among}.", ranked[middle : middle + rest]),
        ("Worst", f"Nothing {among} has a nearest image that is so far away.", ranked[:rest]),
        ("Nearest of all", f"The nearest pairs {among}: often copies of one image.", pairs),
    )
    return [Group(title, note, _queries(found.rows, places)) for title, note, places in chosen]


def _once(queries: Sequence[int], others: Sequence[int]) -> Tensor:
    """The queries, without those whose nearest image stands for their pair already."""
    kept: dict[int, None] = {}
    for query, other in zip(queries, others, strict=True):
        if other not in kept:
            kept[query] = None
    return torch.tensor(list(kept))


def _queries(rows_ND: Tensor, places: Tensor) -> list[Query]:
    near = nearest(rows_ND[places], rows_ND, NEAREST, own=places)
    every = normalize(rows_ND[places], dim=1) @ normalize(rows_ND, dim=1).T
    every[torch.arange(len(places)), places] = torch.inf  # the query itself comes first
    ranks = every.argsort(dim=1, descending=True, stable=True)
    return [
        Query(
            place,
            [Shown(*pair) for pair in zip(near.rows[q].tolist(), near.similarity[q].tolist(), strict=True)],
            _at(every, ranks, q, len(rows_ND) // 2),
            _at(every, ranks, q, len(rows_ND) - 1),
        )
        for q, place in enumerate(places.tolist())
    ]


def _at(every: Tensor, ranks: Tensor, query: int, rank: int) -> Shown:
    place = int(ranks[query, rank])
    return Shown(place, float(every[query, place]))


def places(groups: Sequence[Group]) -> list[int]:
    """All images that the sheet shows, each once."""
    shown = {
        place
        for group in groups
        for query in group.queries
        for place in (query.place, query.median.place, query.farthest.place, *(one.place for one in query.nearest))
    }
    return sorted(shown)
