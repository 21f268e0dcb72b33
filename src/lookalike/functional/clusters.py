"""Clusters of rows: k-means, a member drawn at random, and the care that keeps every cluster alive.

A clustering is a label for each of N rows and a center for each of C clusters. What changes it here are pure functions
of rows, labels, centers and a generator, so that every process finds the same.
N rows, C clusters, D dimensions, B queries.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

ENTRIES = 2**22  # similarities of rows and centers that exist at a time


class Clustering(NamedTuple):
    """The cluster of each row, and the center of each cluster."""

    label: Int64[Tensor, "N"]
    center: Float[Tensor, "C D"]


@torch.no_grad()
def kmeans(
    rows_ND: Float[Tensor, "N D"], count: int, *, generator: torch.Generator, iterations: int = 20
) -> Int64[Tensor, "N"]:
    """Lloyd's algorithm from `count` random rows, in Euclidean distance; it stops where no label changes.

    A center that loses its last row stays where it is, so that a cluster may be empty in the end: see `filled`.
    Raises ValueError for a count that is not between 1 and N.

    >>> points = torch.tensor([[0.0, 1.0], [9.0, 0.0], [0.0, 2.0], [8.0, 0.0]])
    >>> label = kmeans(points, 2, generator=torch.Generator().manual_seed(0))
    >>> bool(label[0] == label[2]), bool(label[1] == label[3]), bool(label[0] == label[1])
    (True, True, False)
    """
    if not 1 <= count <= len(rows_ND):
        raise ValueError(f"{count} clusters of {len(rows_ND)} rows were asked for: give a number from 1 to that")
    rows_ND = rows_ND - rows_ND.mean(0)  # rows of a fresh network hardly differ: what they share costs digits
    start = torch.randperm(len(rows_ND), generator=generator)[:count].to(rows_ND.device)
    center_CD, label_N = rows_ND[start], torch.empty(0, dtype=torch.int64, device=rows_ND.device)
    for _ in range(iterations + 1):
        before_N, label_N = label_N, nearest_center(rows_ND, center_CD, euclidean=True)
        if torch.equal(before_N, label_N):
            break
        center_CD = means(rows_ND, label_N, center_CD)
    return label_N


@torch.no_grad()
def nearest_center(
    rows_ND: Float[Tensor, "N D"], center_CD: Float[Tensor, "C D"], *, euclidean: bool = False
) -> Int64[Tensor, "N"]:
    """For each row the center with the largest product, or the smallest distance; of equal ones the first."""
    lift_C = center_CD.square().sum(1) / 2 if euclidean else center_CD.new_zeros(len(center_CD))
    chunks = rows_ND.split(max(ENTRIES // len(center_CD), 1))
    return torch.cat([torch.addmm(-lift_C, part_nD, center_CD.T).argmax(1) for part_nD in chunks])


@torch.no_grad()
def means(
    rows_ND: Float[Tensor, "N D"], label_N: Int64[Tensor, "N"], before_CD: Float[Tensor, "C D"]
) -> Float[Tensor, "C D"]:
    """The mean row of each cluster, not brought to length one; that of an empty one as before."""
    count_C1 = label_N.bincount(minlength=len(before_CD))[:, None]
    rows_ND = rows_ND.to(before_CD.dtype)
    if rows_ND.device.type == "cpu":
        sum_CD = torch.zeros_like(before_CD).index_add_(0, label_N, rows_ND)
    else:  # there index_add_ adds in any order, and processes would come to differ
        sum_CD = sums_in_order(rows_ND, label_N, count_C1[:, 0])
    return torch.where(count_C1 > 0, sum_CD / count_C1.clamp_min(1), before_CD)


def sums_in_order(
    rows_ND: Float[Tensor, "N D"], label_N: Int64[Tensor, "N"], count_C: Int64[Tensor, "C"]
) -> Float[Tensor, "C D"]:
    """The sum of each cluster's rows, added from the first to the last: the same bits each time."""
    return torch.segment_reduce(rows_ND[label_N.argsort(stable=True)], "sum", lengths=count_C, axis=0)


@torch.no_grad()
def one_member(
    label_N: Int64[Tensor, "N"], cluster_B: Int64[Tensor, "B"], chance_B: Float[Tensor, "B"]
) -> Int64[Tensor, "B"]:
    """A row of each query's cluster, uniformly by a chance in [0, 1); no cluster asked for may be empty."""
    size = int(label_N.max()) + 1
    asked_C = torch.zeros(size, dtype=torch.bool, device=label_N.device).index_fill_(0, cluster_B, True)
    member_M = asked_C[label_N].nonzero()[:, 0]
    of_M = label_N[member_M]
    count_C = of_M.bincount(minlength=size)
    first_C = count_C.cumsum(0) - count_C
    place_B = first_C[cluster_B] + (chance_B * count_C[cluster_B]).long()
    return member_M[of_M.argsort(stable=True)][place_B]


@torch.no_grad()
def dissolved(rows_ND: Float[Tensor, "N D"], old: Clustering, *, smallest: int) -> Int64[Tensor, "N"]:
    """The labels once clusters of fewer than `smallest` rows gave theirs to the nearest other center (InterCLR).

    Clusters of that size must exist; they do where C x smallest is at most N.
    """
    small_C = old.label.bincount(minlength=len(old.center)) < smallest
    moving_M = small_C[old.label].nonzero()[:, 0]
    staying = (~small_C).nonzero()[:, 0]
    label_N = old.label.clone()
    label_N[moving_M] = staying[nearest_center(rows_ND[moving_M], old.center[staying])]
    return label_N


@torch.no_grad()
def filled(rows_ND: Float[Tensor, "N D"], old: Clustering, *, generator: torch.Generator) -> Clustering:
    """Every empty cluster gets a part of what then is the largest, and both get new centers (InterCLR).

    After it no cluster is empty, where N is at least C.
    """
    label_N, center_CD = old.label.clone(), old.center.clone()
    count_C = label_N.bincount(minlength=len(center_CD))
    for empty in (count_C == 0).nonzero()[:, 0].tolist():
        largest = int(count_C.argmax())
        member_M = (label_N == largest).nonzero()[:, 0]
        away_M = halves(rows_ND[member_M], generator=generator)
        label_N[member_M[away_M]] = empty
        for cluster, part_m in ((largest, member_M[~away_M]), (empty, member_M[away_M])):
            count_C[cluster] = len(part_m)
            center_CD[cluster] = rows_ND[part_m].mean(0).to(center_CD.dtype)
    return Clustering(label_N, center_CD)


def halves(rows_MD: Float[Tensor, "M D"], *, generator: torch.Generator) -> Bool[Tensor, "M"]:
    """Which rows are in the second of two parts by k-means; by lot, half of them, where k-means finds one part."""
    second_M = kmeans(rows_MD, 2, generator=generator) == 1
    if second_M.all() or not second_M.any():
        second_M = (torch.randperm(len(rows_MD), generator=generator) < len(rows_MD) // 2).to(rows_MD.device)
    return second_M
