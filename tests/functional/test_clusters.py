"""Clusters: k-means against loops and against the global best, members by lot, small and empty clusters."""

from itertools import product

import pytest
import torch

from lookalike.functional import unit
from lookalike.functional.clusters import (
    Clustering,
    dissolved,
    filled,
    halves,
    kmeans,
    means,
    nearest_center,
    one_member,
    sums_in_order,
)

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scattered(rows: int, seed: int = 0) -> torch.Tensor:
    return unit(torch.randn(rows, 4, dtype=F64, generator=seeded(seed)))


def spread(rows, label) -> float:
    """Sum of squared distances from the mean of the own cluster."""
    parts = [rows[label == c] for c in label.unique()]
    return sum(float((part - part.mean(0)).square().sum()) for part in parts)


def test_kmeans_moves_as_the_loop_of_lloyd_does() -> None:
    rows = scattered(60)
    start = torch.randperm(60, generator=seeded(3))[:5]
    centers, label = [rows[i] for i in start], [-1] * 60
    for _ in range(21):
        label = [min(range(5), key=lambda c, x=x: float((x - centers[c]).square().sum())) for x in rows]
        centers = [
            torch.stack(own).mean(0) if own else old
            for c, old in enumerate(centers)
            for own in [[x for x, of in zip(rows, label, strict=True) if of == c]]
        ]
    assert kmeans(rows, 5, generator=seeded(3)).tolist() == label


def test_kmeans_finds_the_best_of_all_clusterings_of_a_few_points() -> None:
    rows = scattered(7)
    best = min(spread(rows, torch.tensor(label)) for label in product(range(2), repeat=7))
    assert min(spread(rows, kmeans(rows, 2, generator=seeded(s))) for s in range(8)) == pytest.approx(best)


def test_kmeans_tells_apart_what_a_fresh_network_gives() -> None:
    """Two groups that differ by 1e-4, in fp32, far from the origin."""
    rows = torch.ones(40, 8) / 8**0.5
    rows[::2, 0] += 1e-4
    label = kmeans(rows, 2, generator=seeded(1))
    assert set(label[::2].tolist()).isdisjoint(label[1::2].tolist())


def test_as_many_clusters_as_rows_are_the_rows() -> None:
    assert sorted(kmeans(scattered(9), 9, generator=seeded()).tolist()) == list(range(9))


def test_more_clusters_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="10 clusters of 9 rows were asked for"):
        kmeans(scattered(9), 10, generator=seeded())


def test_the_nearest_center_by_product_and_by_distance() -> None:
    """A long center far away has the larger product."""
    centers = torch.tensor([[1.0, 0.0], [3.0, 1.0]], dtype=F64)
    row = torch.tensor([[1.0, 0.1]], dtype=F64)
    assert nearest_center(row, centers).tolist() == [1]
    assert nearest_center(row, centers, euclidean=True).tolist() == [0]


def test_means_by_loops_and_those_of_empty_clusters_stay() -> None:
    rows, label, before = scattered(20), torch.arange(20) % 3, scattered(4, seed=9)
    found = means(rows, label, before)
    for c in range(3):
        torch.testing.assert_close(found[c], sum(rows[i] for i in range(20) if i % 3 == c) / len(range(c, 20, 3)))
    assert torch.equal(found[3], before[3])


def test_sums_in_order_by_loops() -> None:
    rows, label = scattered(20), torch.arange(20) % 3
    found = sums_in_order(rows, label, label.bincount(minlength=4))
    for c in range(3):
        assert torch.equal(found[c], sum((rows[i] for i in range(c, 20, 3)), torch.zeros(4, dtype=F64)))
    assert torch.equal(found[3], torch.zeros(4, dtype=F64))


def test_a_member_is_drawn_from_the_own_cluster_each_with_the_same_chance() -> None:
    label = torch.tensor([2, 0, 2, 1, 2, 0])
    chance = torch.linspace(0, 1 - 2**-32, 301, dtype=F64)
    picked = one_member(label, torch.full((301,), 2), chance)
    assert torch.equal(picked.unique(), torch.tensor([0, 2, 4]))
    assert picked.bincount()[[0, 2, 4]].tolist() == pytest.approx([100] * 3, abs=1)
    mixed = one_member(label, torch.tensor([1, 0, 2]), torch.tensor([0.9, 0.6, 0.0], dtype=F64))
    assert mixed.tolist() == [3, 5, 0]


def test_small_clusters_go_to_the_nearest_large_one() -> None:
    rows = unit(torch.tensor([[1, 0.0], [1, 0.1], [0, 1.0], [0.1, 1], [0.4, 1], [1, 0.4]], dtype=F64))
    center = torch.tensor([[1, 0.0], [0, 1.0], [0.5, 0.5], [0.9, 0.1]], dtype=F64)
    old = Clustering(torch.tensor([0, 0, 1, 1, 2, 3]), center)
    assert dissolved(rows, old, smallest=2).tolist() == [0, 0, 1, 1, 1, 0]
    assert dissolved(rows, old, smallest=1).tolist() == old.label.tolist()


def test_an_empty_cluster_gets_a_part_of_the_largest_and_both_new_centers() -> None:
    rows = torch.tensor([[0.0, 1], [0, 2], [9, 0], [9, 1], [9, 2], [50, 50]], dtype=F64)
    center = torch.zeros(3, 2, dtype=F64)
    center[1] = rows[5]
    found = filled(rows, Clustering(torch.tensor([0, 0, 0, 0, 0, 1]), center), generator=seeded())
    one, other = {0, 1}, {2, 3, 4}
    parts = [set((found.label == c).nonzero()[:, 0].tolist()) for c in (0, 2)]
    assert parts in ([one, other], [other, one])
    for c, part in zip((0, 2), parts, strict=True):
        torch.testing.assert_close(found.center[c], rows[list(part)].mean(0))
    assert torch.equal(found.center[1], rows[5])


def test_equal_rows_are_halved_by_lot() -> None:
    second = halves(torch.ones(9, 3, dtype=F64), generator=seeded())
    assert int(second.sum()) == 4
    assert not torch.equal(second, halves(torch.ones(9, 3, dtype=F64), generator=seeded(1)))


@pytest.mark.parametrize("seed", range(6))
def test_no_cluster_is_empty_and_every_row_has_one(seed) -> None:
    """The invariant, from any labels: counts add up to N, none is 0, numbers stay in [0, C)."""
    rows, count = scattered(50, seed), 8
    label = torch.randint(3 + seed, (50,), generator=seeded(seed)).clamp_max(count - 1)
    old = Clustering(label, means(rows, label, torch.zeros(count, 4, dtype=F64)))
    left = dissolved(rows, old, smallest=6)
    assert (left.bincount(minlength=count)[left.unique()] >= 6).all()
    found = filled(rows, Clustering(left, old.center), generator=seeded(seed))
    sizes = found.label.bincount(minlength=count)
    assert len(sizes) == count
    assert int(sizes.sum()) == 50
    assert int(sizes.min()) >= 1
