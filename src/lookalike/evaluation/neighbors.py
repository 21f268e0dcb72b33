"""Exact nearest neighbors and nearest pairs, in tiles: the same answer for any tile size.

Shapes: Q queries, N bank rows, D features, k neighbors, P pairs.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn.functional import normalize

BANK_TILE = 8192  # 256 x 8192 similarities stay in a processor's cache
STEPS = 2**20  # similarities are kept in steps of 1 / STEPS, about the rounding error of a float32 product
NEVER = torch.iinfo(torch.int64).min
CELLS = 2**22  # similarities of one tile of pairs


class Neighbors(NamedTuple):
    """Per query, best first: bank rows and their cosine similarities, in steps of 2^-20."""

    rows: Int64[Tensor, "Q k"]
    similarity: Float32[Tensor, "Q k"]


class Pairs(NamedTuple):
    """Query, bank row and inner product of each pair, in steps of 2^-20; the most similar pair first."""

    query: Int64[Tensor, "P"]
    row: Int64[Tensor, "P"]
    similarity: Float32[Tensor, "P"]


def nearest(
    query_QD: Float[Tensor, "Q D"],
    bank_ND: Float[Tensor, "N D"],
    k: int,
    *,
    cosine: bool = True,
    exclude_self: bool = True,
    own: Int64[Tensor, "Q"] | None = None,
    chunk: int = 256,
) -> Neighbors:
    """The k bank rows most similar to each query; of equally similar ones, the lowest rows. Rows need no unit norm.

    By cosine, or by the inner product of the rows as they are, below 2^10 then.
    With `exclude_self` a query is not its own neighbor, though its duplicates are: query i is bank row
    own[i], or row i without `own`. Fewer columns come back where the bank holds fewer than k others.
    `chunk` queries at a time. ValueError for k < 1, and if `exclude_self` cannot know which bank row a
    query is.
    """
    if k < 1:
        raise ValueError(f"k is {k}; ask for at least one neighbor")
    if exclude_self and own is None:
        if len(query_QD) != len(bank_ND):
            raise ValueError(
                f"{len(query_QD)} queries cannot be matched with {len(bank_ND)} bank rows to leave each query out; "
                "pass `own`, the bank row of each query, or exclude_self=False"
            )
        own = torch.arange(len(bank_ND))
    k = min(k, len(bank_ND) - int(exclude_self))
    query_QD, bank_ND = query_QD.float(), bank_ND.float()
    if cosine:
        query_QD, bank_ND = normalize(query_QD, dim=1), normalize(bank_ND, dim=1)
    own = own.to(bank_ND.device) if own is not None and exclude_self else None
    tiles = range(0, len(query_QD), chunk)
    found = [_best(query_QD[t : t + chunk], bank_ND, k, None if own is None else own[t : t + chunk]) for t in tiles]
    keys_Qk = torch.cat(found) if found else torch.empty((0, k), dtype=torch.int64)
    return _decode(keys_Qk, len(bank_ND))


def _best(query_qD: Tensor, bank_ND: Tensor, k: int, own_q: Tensor | None) -> Tensor:
    """Keys (q, k) of the best bank rows, best first: one integer holds the similarity and then the row."""
    N = len(bank_ND)
    best = torch.empty((len(query_qD), 0), dtype=torch.int64, device=bank_ND.device)
    for start in range(0, N, BANK_TILE):
        similarity = query_qD @ bank_ND[start : start + BANK_TILE].T
        rows = torch.arange(start, start + similarity.shape[1], device=bank_ND.device)
        keys = (similarity * STEPS).round().long() * N + (N - 1 - rows)  # the lower row has the higher key
        if own_q is not None:
            keys[own_q[:, None] == rows] = NEVER
        keys = torch.cat([best, keys.topk(min(k, keys.shape[1]), dim=1).values], dim=1)
        best = keys.topk(min(k, keys.shape[1]), dim=1).values
    return best


def _decode(keys_Qk: Tensor, N: int) -> Neighbors:
    similarity = torch.div(keys_Qk, N, rounding_mode="floor").float() / STEPS
    return Neighbors(rows=N - 1 - keys_Qk.remainder(N), similarity=similarity)


def demand_finite(rows_ND: Float[Tensor, "N D"], what: str) -> None:
    """Raises ValueError where a row is not finite: no comparison with it is true, so its pairs would be lost."""
    broken = int((~rows_ND.isfinite().all(1)).sum())
    if broken:
        raise ValueError(
            f"{broken:,} of {len(rows_ND):,} {what} are not finite, and cannot be compared: look at the model"
        )


def nearest_pairs(
    query_QD: Float[Tensor, "Q D"],
    bank_ND: Float[Tensor, "N D"],
    most: int,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> Pairs:
    """The `most` pairs of a query and a bank row with the largest inner products, of all queries together.

    Of equally similar pairs the first query's first rows come first. Never more than 2 `most` + CELLS pairs exist.
    `on_progress` hears the number of queries done. Raises ValueError for `most` < 1, and for rows that are not finite.
    """
    if most < 1:
        raise ValueError(f"{most} pairs were asked for: ask for at least one")
    demand_finite(query_QD, "queries")
    demand_finite(bank_ND, "bank rows")
    query_QD, bank_ND = query_QD.float(), bank_ND.float()
    N, pairs = len(bank_ND), max(len(query_QD) * len(bank_ND), 1)
    width = max(1, min(N, CELLS))
    best, floor = torch.empty(0, dtype=torch.int64, device=bank_ND.device), -torch.inf
    for rows in torch.arange(len(query_QD)).split(max(1, CELLS // width)):
        top = int(rows[0])
        for left in range(0, N, width):
            steps = (query_QD[rows] @ bank_ND[left : left + width].T).mul_(STEPS).round_()
            query, row = (steps >= floor).nonzero(as_tuple=True)
            places = (query + top) * N + row + left
            # one integer for each pair: its similarity, then its place, of which the first is the highest
            best = torch.cat([best, steps[query, row].long() * pairs + (pairs - 1 - places)])
            if len(best) > 2 * most:
                best = best.topk(most).values
                floor = float(best[-1] // pairs)
        if on_progress is not None:
            on_progress(int(rows[-1]) + 1)
    best = best.topk(min(most, len(best))).values
    places = pairs - 1 - best.remainder(pairs)
    similarity = torch.div(best, pairs, rounding_mode="floor").float() / STEPS
    return Pairs(query=places // max(N, 1), row=places % max(N, 1), similarity=similarity)
