"""Weighted k-NN against a plain loop, against scikit-learn, and by hand."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from lookalike.evaluation import PROTOCOLS, interval, knn, nearest, vote


def plain(train: np.ndarray, labels: np.ndarray, test: np.ndarray, k: int, t: float, classes: int) -> list[list[int]]:
    """Classes with a vote, best first, for each test row: loops in double precision."""
    answers = []
    for x in test:
        similarity = [float(x @ y) / (np.linalg.norm(x) * np.linalg.norm(y)) for y in train]
        similarity = [round(s * 2**20) / 2**20 for s in similarity]
        near = sorted(range(len(train)), key=lambda j: (-similarity[j], j))[:k]
        votes = [sum(np.exp(similarity[j] / t) for j in near if labels[j] == c) for c in range(classes)]
        answers.append(sorted((c for c in range(classes) if votes[c] > 0), key=lambda c: (-votes[c], c)))
    return answers


@pytest.mark.parametrize(("k", "t"), [(1, 0.1), (7, 0.07), (20, 0.1), (60, 1.0), (500, 0.1)])
def test_equals_a_plain_loop_with_duplicates_and_k_above_n(k, t):
    classes, truth = 8, torch.randint(0, 8, (40,))
    train, labels = torch.randn(60, 5), torch.randint(0, classes, (60,))
    train[30:45] = train[:15]  # duplicates, of other classes
    test = torch.cat([torch.randn(30, 5), train[:10]])
    result = knn(train, labels, test, truth, k=k, temperature=t, classes=classes)
    answers = plain(train.double().numpy(), labels.numpy(), test.double().numpy(), k, t, classes)
    assert result.correct == sum(a[0] == c for a, c in zip(answers, truth.tolist(), strict=True))
    assert result.top5 == sum(c in a[:5] for a, c in zip(answers, truth.tolist(), strict=True)) / 40
    assert (result.k, result.note) == (
        (k, "") if k <= 60 else (60, "k lowered from 500 to 60, the number of train images")
    )


@pytest.mark.parametrize(("k", "t"), PROTOCOLS)
def test_equals_scikit_learn_on_digits(k, t):
    x, y = load_digits(return_X_y=True)
    other = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / t)
    ).fit(x[:1200], y[:1200])
    rows, labels = torch.from_numpy(x).float(), torch.from_numpy(y)
    result = knn(rows[:1200], labels[:1200], rows[1200:], labels[1200:], k=k, temperature=t)
    assert result.accuracy == pytest.approx(other.score(x[1200:], y[1200:]), abs=1e-12)
    assert 0.85 < result.accuracy < result.top5 <= 1


def test_by_hand():
    train = torch.tensor([[1.0, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]])
    labels = torch.tensor([0, 1, 1, 2])
    x = torch.tensor([[1.0, 0]])
    votes = {0: np.exp(1 / 0.5), 1: np.exp(0.8 / 0.5) + np.exp(0.6 / 0.5)}
    assert votes[1] > votes[0]
    assert knn(train, labels, x, torch.tensor([1]), k=3, temperature=0.5).accuracy == 1
    assert knn(train, labels, x, torch.tensor([0]), k=1, temperature=0.5).accuracy == 1
    # exp(1 / 0.1) outweighs the two others: the temperature decides
    assert knn(train, labels, x, torch.tensor([0]), k=3, temperature=0.1).accuracy == 1


def test_equal_votes_go_to_the_lowest_class_and_equal_neighbors_to_the_lowest_row():
    train, x = torch.tensor([[3.0, 4], [3, 4], [3, 4], [3, 4]]), torch.tensor([[3.0, 4]])
    labels = torch.tensor([2, 1, 2, 1])
    assert knn(train, labels, x, torch.tensor([1]), k=4).correct == 1
    assert knn(train, labels, x, torch.tensor([2]), k=4).correct == 0
    assert knn(train, labels, x, torch.tensor([2]), k=1).correct == 1  # row 0
    assert knn(train, labels, x, torch.tensor([2]), k=3).correct == 1  # rows 0, 1, 2


def test_a_class_without_a_vote_is_never_right():
    train, labels = torch.eye(4), torch.tensor([3, 3, 3, 3])
    result = knn(train, labels, torch.eye(4), torch.tensor([0, 1, 3, 7]), k=4, classes=9)
    assert result.correct == 1
    assert result.top5 == 0.25


def test_does_not_depend_on_the_chunk_and_repeats():
    train, labels = torch.randn(300, 16), torch.randint(0, 10, (300,))
    test, truth = torch.randn(101, 16), torch.randint(0, 10, (101,))
    results = {knn(train, labels, test, truth, k=50, chunk=chunk) for chunk in (1, 7, 256, 256)}
    assert len(results) == 1


def test_a_small_temperature_is_the_nearest_neighbor():
    train, labels = torch.randn(100, 6), torch.randint(0, 10, (100,))
    test, truth = torch.randn(200, 6), torch.randint(0, 10, (200,))
    one = knn(train, labels, test, truth, k=1)
    assert knn(train, labels, test, truth, k=100, temperature=1e-7).correct == one.correct


def test_one_search_serves_both_protocols():
    train, labels = torch.randn(300, 16), torch.randint(0, 10, (300,))
    test, truth = torch.randn(100, 16), torch.randint(0, 10, (100,))
    found = nearest(test, train, 200, exclude_self=False)
    for k, t in PROTOCOLS:
        one, other = (
            vote(found, labels, truth, k=k, temperature=t),
            knn(train, labels, test, truth, k=k, temperature=t),
        )
        assert one == other
        assert torch.equal(one.hits, other.hits)
    with pytest.raises(ValueError, match="20 neighbors were searched and k is 30"):
        vote(nearest(test, train, 20, exclude_self=False), labels, truth, k=30, temperature=0.1)


def test_the_interval_is_that_of_the_counts():
    train, labels = torch.randn(50, 4), torch.randint(0, 3, (50,))
    result = knn(train, labels, torch.randn(80, 4), torch.randint(0, 3, (80,)))
    assert result.interval == interval(result.correct, 80)
    assert result.interval[0] < result.accuracy < result.interval[1]


def test_mistakes_are_sentences():
    rows, labels = torch.randn(4, 2), torch.tensor([0, 1, 2, -1])
    with pytest.raises(ValueError, match=r"labels run from -1 to 2, outside 0 to 2"):
        knn(rows, labels, rows, labels)
    with pytest.raises(ValueError, match=r"labels run from 0 to 5, outside 0 to 4"):
        knn(rows, labels.abs(), rows, labels.abs() + 3, classes=5)
    with pytest.raises(ValueError, match="4 to train and 0 to test"):
        knn(rows, labels, rows[:0], labels[:0])
    with pytest.raises(ValueError, match="temperature is 0"):
        knn(rows, labels.abs(), rows, labels.abs(), temperature=0.0)
