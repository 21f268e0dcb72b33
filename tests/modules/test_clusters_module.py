"""Clusters: what it holds before it starts, the rhythm of its care, what is refused."""

import pytest
import torch

from lookalike.functional.clusters import means
from lookalike.modules import Clusters


def rows(count: int = 60, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)), dim=1)


def started(**settings) -> Clusters:
    clusters = Clusters(60, 4, **{"count": 6, "smallest": 4, **settings})
    clusters.start(rows(), torch.Generator().manual_seed(1))
    return clusters


def test_no_cluster_is_empty_before_the_start() -> None:
    assert Clusters(60, 4, count=7, smallest=4).sizes().tolist() == [9, 9, 9, 9, 8, 8, 8]


def test_moved_rows_go_to_the_center_with_the_largest_product() -> None:
    clusters = started(smallest=1)
    before, moved, table = clusters.label.clone(), torch.tensor([3, 7]), rows()
    table[3], table[7] = clusters.center[2] * 5, clusters.center[4] * 5
    clusters.tend(table, moved, 1, torch.Generator())
    products = table[moved] @ clusters.center.T
    assert clusters.label[moved].tolist() == products.argmax(1).tolist()
    rest = torch.ones(60, dtype=torch.bool).index_fill_(0, moved, False)
    assert torch.equal(clusters.label[rest], before[rest])


def test_centers_are_renewed_every_few_steps() -> None:
    clusters, table = started(smallest=1, recenter=3), rows(seed=5)
    old = clusters.center.clone()
    for step in (1, 2):
        clusters.tend(table, torch.arange(2), step, torch.Generator())
        assert torch.equal(clusters.center, old)
    clusters.tend(table, torch.arange(2), 3, torch.Generator())
    torch.testing.assert_close(clusters.center, means(table, clusters.label, old))


def test_a_small_cluster_is_dissolved_and_takes_a_part_of_the_largest() -> None:
    clusters, table = started(), rows()
    clusters.label[clusters.label == 2] = 0
    clusters.label[5] = 2
    largest = int(clusters.sizes().argmax())
    members = set((clusters.label == largest).nonzero()[:, 0].tolist())
    clusters.tend(table, torch.tensor([], dtype=torch.int64), 1, torch.Generator().manual_seed(0))
    now = set((clusters.label == 2).nonzero()[:, 0].tolist())
    assert now
    assert now <= members | {5}
    torch.testing.assert_close(clusters.center[2], table[sorted(now)].mean(0))


def test_all_of_it_is_in_the_state_dict() -> None:
    other = Clusters(60, 4, count=6, smallest=4)
    other.load_state_dict(started().state_dict())
    assert torch.equal(other.label, started().label)
    assert torch.equal(other.center, started().center)


def test_numbers_follow_the_data_set_where_none_are_given() -> None:
    clusters = Clusters(10000, 4, count=None, smallest=None)
    assert (clusters.count, clusters.smallest) == (78, 21)
    few = Clusters(10, 4, count=None, smallest=None)
    assert (few.count, few.smallest) == (2, 1)
    Clusters(2, 4, count=None, smallest=None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "10000 clusters of at least 20 need 200000 images, and there are 60"),
        ({"count": 61, "smallest": 1}, "61 clusters of at least 1 need 61 images, and there are 60"),
        ({"count": 1}, "1 cluster has no other to be told apart from: give at least 2"),
        ({"count": 2, "smallest": 0}, "smallest and recenter are 0 and 10: give 1 or more"),
        ({"count": 2, "recenter": 0}, "smallest and recenter are 20 and 0"),
        ({"count": 2, "again": 0.0}, "give epochs above 0, or None for online labels"),
    ],
)
def test_clusters_that_cannot_be_are_refused(given, words) -> None:
    with pytest.raises(ValueError, match=words):
        Clusters(60, 4, **given)
