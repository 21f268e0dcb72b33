"""Few labels: balanced, nested, keyed; and the nearest class mean against a loop."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from lookalike.evaluation import few, linear, nearest_mean, shots

LABELS = torch.arange(1000) % 10
UNEVEN = torch.tensor([0] * 500 + [1] * 40 + [2] * 3)[torch.randperm(543, generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize(("share", "each"), [(0.01, 1), (0.1, 10), (0.25, 25), (1.0, 100)])
def test_each_class_keeps_its_share(share, each):
    kept = few(LABELS, share, seed=0)
    assert LABELS[kept].bincount().tolist() == [each] * 10
    assert torch.equal(kept, kept.unique())  # sorted, each once


def test_uneven_classes_keep_their_share_and_at_least_one():
    assert UNEVEN[few(UNEVEN, 0.1, seed=3)].bincount().tolist() == [50, 4, 1]
    assert UNEVEN[few(UNEVEN, 0.001, seed=3)].bincount().tolist() == [1, 1, 1]


def test_a_smaller_share_is_part_of_a_larger_one():
    shares = [few(UNEVEN, share, seed=1).tolist() for share in (0.01, 0.1, 0.5, 1.0)]
    for small, large in pairwise(shares):
        assert set(small) < set(large)
    for small, large in ((1, 2), (2, 3)):
        assert set(shots(UNEVEN, small, seed=1).tolist()) < set(shots(UNEVEN, large, seed=1).tolist())


def test_draws_depend_on_the_seed_and_on_a_class_alone():
    assert torch.equal(few(LABELS, 0.1, seed=0), few(LABELS, 0.1, seed=0))
    assert not torch.equal(few(LABELS, 0.1, seed=0), few(LABELS, 0.1, seed=1))
    others = LABELS.clone()
    others[LABELS == 7] = 8  # what becomes of two classes moves no row of a third
    for label in range(7):
        one, two = few(LABELS, 0.1, seed=0), few(others, 0.1, seed=0)
        assert one[LABELS[one] == label].tolist() == two[others[two] == label].tolist()


def test_shots_are_equally_many_of_each_class():
    assert UNEVEN[shots(UNEVEN, 3, seed=0)].bincount().tolist() == [3, 3, 3]


@pytest.mark.parametrize("n", [0, 4])
def test_shots_that_cannot_be_drawn_name_the_class(n):
    with pytest.raises(ValueError, match=f"{n} shots cannot be drawn: class 2 has 3 training images; use 1 to 3"):
        shots(UNEVEN, n, seed=0)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_impossible_shares_are_refused(share):
    with pytest.raises(ValueError, match=f"the share of labels is {share}"):
        few(LABELS, share, seed=0)


def test_the_nearest_mean_equals_a_loop():
    train, labels = torch.randn(60, 5) + 0.5, torch.randint(0, 4, (60,))
    test, truth = torch.randn(40, 5) + 0.5, torch.randint(0, 4, (40,))
    result = nearest_mean(train, labels, test, truth)
    unit = np.array([x / np.linalg.norm(x) for x in train.double().numpy()])
    means = [unit[labels.numpy() == c].mean(0) for c in range(4)]
    named = [max(range(4), key=lambda c: x @ means[c] / np.linalg.norm(means[c])) for x in test.double().numpy()]
    assert result.hits.tolist() == [n == t for n, t in zip(named, truth.tolist(), strict=True)]
    assert (result.n_train, result.n_test) == (60, 40)


def test_a_class_without_training_rows_has_no_mean():
    result = nearest_mean(torch.eye(3), torch.tensor([0, 2, 2]), torch.full((1, 3), -1.0), torch.tensor([1]))
    assert result.correct == 0


def test_more_shots_name_more_digits():
    x, y = load_digits(return_X_y=True)
    rows, labels = torch.from_numpy(x).float(), torch.from_numpy(y)
    train, test = slice(0, 1200), slice(1200, None)
    found = {}
    for n in (1, 5, 50):
        kept = shots(labels[train], n, seed=0)
        given = rows[train][kept], labels[train][kept], rows[test], labels[test]
        found[n] = nearest_mean(*given).accuracy, linear(*given).accuracy
    for probe in (0, 1):
        assert found[1][probe] + 0.05 < found[5][probe] < found[50][probe]
    assert found[50][1] > found[50][0]  # with many labels the linear probe is ahead
