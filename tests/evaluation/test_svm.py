"""The SVM of VOC2007: average precision against a loop and by hand; costs are chosen on training rows."""

import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score
from torch import Tensor

from lookalike.evaluation.svm import average_precision, svm

COSTS = (1e-3, 0.1, 1.0)


def plain(scores: list[float], truth: list[int], measure: str) -> float:
    """By loops over ranks and recalls."""
    ranking = sorted(range(len(scores)), key=lambda i: -scores[i])
    points, found, positives = [], 0, sum(truth)
    for rank, i in enumerate(ranking, start=1):
        found += truth[i]
        points.append((found / positives, found / rank, truth[i]))
    if measure == "11 points":
        return sum(max(p for r, p, _ in points if r >= tenth / 10 - 1e-12) for tenth in range(11)) / 11
    return sum(max(p for r, p, _ in points[rank:]) for rank in range(len(points)) if points[rank][2]) / positives


@pytest.mark.parametrize("measure", ["11 points", "area"])
@pytest.mark.parametrize("positives", [1, 3, 10, 37])
def test_average_precision_equals_a_loop(measure, positives):
    scores, truth = torch.randn(60), (torch.arange(60) < positives).long()
    scores[20:30] = scores[:10]  # ties
    assert average_precision(scores, truth, measure) == pytest.approx(
        plain(scores.tolist(), truth.tolist(), measure), rel=1e-12
    )


def test_average_precision_by_hand():
    scores, truth = torch.tensor([4.0, 3, 2, 1]), torch.tensor([0, 1, 0, 1])
    assert average_precision(scores, truth, "area") == pytest.approx(0.5)
    assert average_precision(scores, truth, "11 points") == pytest.approx(0.5)
    truth = torch.tensor([1, 0, 0, 1])  # precision 1 up to a recall of 1/2, then 1/2
    assert average_precision(scores, truth, "11 points") == pytest.approx((6 * 1 + 5 * 0.5) / 11)
    assert average_precision(scores, truth, "area") == pytest.approx(0.75)


def test_the_area_is_never_below_the_average_without_the_running_maximum():
    scores, truth = torch.randn(200), torch.randint(0, 2, (200,))
    ours = average_precision(scores, truth, "area")
    theirs = average_precision_score(truth.numpy(), scores.numpy())
    assert theirs <= ours <= theirs + 0.05


def digits() -> tuple[Tensor, Tensor]:
    """Rows, and three labels that overlap: the digit is even; below 4; holds a closed loop."""
    x, y = load_digits(return_X_y=True)
    targets = np.stack([y % 2 == 0, y < 4, np.isin(y, [0, 6, 8, 9])], axis=1)
    return torch.from_numpy(x[:500]).float(), torch.from_numpy(targets[:500]).long()


def test_labels_that_overlap_are_found():
    x, targets = digits()
    result = svm(x[:300], targets[:300], x[300:], targets[300:], costs=COSTS)
    assert len(result.costs) == 3
    assert bool((result.precision > 0.75).all())
    assert result.mean_precision == pytest.approx(float(result.precision.mean()))
    noise = svm(torch.randn(300, 8), targets[:300], torch.randn(200, 8), targets[300:], costs=[0.1])
    assert noise.mean_precision < 0.6
    again = svm(x[:300], targets[:300], x[300:], targets[300:], costs=COSTS)
    assert torch.equal(result.precision, again.precision)


def test_test_rows_choose_no_cost_and_images_that_do_not_count_do_not():
    x, targets = digits()
    one = svm(x[:300], targets[:300], x[300:], targets[300:], costs=COSTS)
    other = svm(x[:300], targets[:300], torch.randn(200, 64), targets[300:].roll(1, 0), costs=COSTS)
    assert one.costs == other.costs
    train, test = (torch.cat([part, torch.full((50, 3), -1)]) for part in (targets[:300], targets[300:]))
    rows, tests = (torch.cat([part, torch.randn(50, 64)]) for part in (x[:300], x[300:]))
    assert torch.equal(one.precision, svm(rows, train, tests, test, costs=COSTS).precision)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.fill_(0), "class 0 has 0 positives and 300 negatives to train: 3 of each are needed"),
        (lambda t: t[:, 1].fill_(7), "targets are 1, 0 or -1 .* those to train class 1 hold others"),
    ],
)
def test_targets_that_cannot_be_learned_are_named(change, message):
    x, targets = digits()
    change(targets[:300])
    with pytest.raises(ValueError, match=message):
        svm(x[:300], targets[:300], x[300:], targets[300:], costs=COSTS)


def test_without_scikit_learn_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)  # as Python marks what cannot be imported
    x, targets = digits()
    with pytest.raises(ValueError, match=r"needs scikit-learn, .* pip install 'lookalike\[demo\]'"):
        svm(x, targets, x, targets)
