"""The linear probe against scikit-learn's and by hand; the penalty is chosen on training rows alone."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from lookalike.evaluation import PENALTIES, fit, linear
from lookalike.evaluation.linear import FOLDS, PATIENCE, Space, folds, minimize, objective


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """1,797 rows of 64 pixels, three of which never vary, and their digits."""
    x, y = load_digits(return_X_y=True)
    return torch.from_numpy(x).float(), torch.from_numpy(y)


def plain_objective(rows: np.ndarray, labels: np.ndarray, W: np.ndarray, b: np.ndarray, penalty: float) -> float:
    """A loop over standardized rows in double precision."""
    total = 0.0
    for x, y in zip(rows, labels, strict=True):
        logits = W @ x + b
        top = logits.max()
        total += top + np.log(np.exp(logits - top).sum()) - logits[y]
    return total / len(rows) + penalty / 2 * float((W**2).sum())


def test_the_objective_and_its_slope_equal_a_loop():
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randint(0, 3, (30,))
    W, b = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    value, slope_W, slope_b = objective(x, y, W, b, 0.3)
    assert value == pytest.approx(plain_objective(x.numpy(), y.numpy(), W.numpy(), b.numpy(), 0.3), rel=1e-12)
    W.requires_grad_(), b.requires_grad_()
    (torch.nn.functional.cross_entropy(x @ W.T + b, y) + 0.15 * W.square().sum()).backward()
    torch.testing.assert_close(slope_W, W.grad)
    torch.testing.assert_close(slope_b, b.grad)


@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("count", [40, 900])  # fewer rows than features, and more
def test_the_minimum_is_that_of_scikit_learn(digits, count, penalty):
    x, y = digits[0][:count], digits[1][:count]
    standard = StandardScaler().fit_transform(x.double().numpy())
    other = LogisticRegression(C=1 / (penalty * count), tol=1e-10, max_iter=20_000).fit(standard, y.numpy())
    theirs = plain_objective(standard, y.numpy(), other.coef_, other.intercept_, penalty)
    space = Space.of(x)
    weight, bias = minimize(space.project(x), y, 10, penalty)
    ours = plain_objective(standard, y.numpy(), (weight @ space.axes.T).numpy(), bias.numpy(), penalty)
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert ours <= theirs * (1 + 1e-8)
    model = fit(x, y, 10, penalty)
    assert np.array_equal(model.predict(digits[0]).numpy(), other.predict(_standard(x, digits[0])))


def _standard(train: Tensor, rows: Tensor) -> np.ndarray:
    return StandardScaler().fit(train.double().numpy()).transform(rows.double().numpy())


def test_accuracy_on_digits_is_within_three_tenths_of_a_point_of_scikit_learn(digits):
    x, y = digits
    train, test = slice(0, 1200), slice(1200, None)
    result = linear(x[train], y[train], x[test], y[test])
    other = LogisticRegression(C=1 / (result.penalty * 1200), tol=1e-8, max_iter=20_000).fit(
        _standard(x[train], x[train]), y[train]
    )
    theirs = other.score(_standard(x[train], x[test]), y[test])
    assert 0.9 < result.accuracy < 1
    assert abs(result.accuracy - theirs) < 0.003
    assert (result.n_train, result.n_test) == (1200, 597)
    assert result.accuracy == float(result.hits.double().mean())


def test_the_penalty_is_the_best_on_held_out_rows_of_a_search_by_hand(digits):
    x, y = digits[0][:150], digits[1][:150]
    part = folds(y, seed=0)
    right, penalties = [], PENALTIES[2:9:3]  # 1 to 1e-3
    for penalty in penalties:
        models = [fit(x[part != fold], y[part != fold], 10, penalty) for fold in range(FOLDS)]
        right.append(sum(int((m.predict(x[part == f]) == y[part == f]).sum()) for f, m in enumerate(models)))
    result = linear(x, y, digits[0][150:], digits[1][150:], penalties=penalties)
    at = penalties.index(result.penalty)
    # scaled by all rows here and by those of a fit there, in float32 here: two of 150 answers may differ
    assert max(right) - right[at] <= 2
    assert result.held_out == pytest.approx(right[at] / 150, abs=2 / 150)


def test_test_rows_choose_nothing(digits):
    x, y = digits[0][:400], digits[1][:400]
    one = linear(x, y, digits[0][400:], digits[1][400:])
    other = linear(x, y, torch.randn(50, 64), torch.randint(0, 10, (50,)))
    assert (one.penalty, one.held_out) == (other.penalty, other.held_out)


def test_labels_of_noise_ask_for_a_strong_penalty():
    x, y = torch.randn(400, 100), torch.randint(0, 2, (400,))
    x[:, 0] += 2.0 * y  # one feature of a hundred means something
    result = linear(x, y, x, y)
    assert result.penalty >= 0.03
    assert 0.75 < result.held_out < 0.95


def test_weaker_penalties_are_left_out_once_they_are_no_better(digits):
    heard: list[int] = []
    result = linear(digits[0][:300], digits[1][:300], digits[0][300:], digits[1][300:], on_progress=heard.append)
    assert heard == list(range(1, min(len(PENALTIES), PENALTIES.index(result.penalty) + 1 + PATIENCE) + 1))


def test_the_result_is_a_function_of_its_arguments(digits):
    x, y = digits[0][:400], digits[1][:400]
    generator = torch.random.get_rng_state()
    one, two = (linear(x, y, digits[0][400:], digits[1][400:], seed=5) for _ in range(2))
    assert torch.equal(one.hits, two.hits)
    assert one == two
    assert torch.equal(torch.random.get_rng_state(), generator)


def test_scale_and_shift_of_a_feature_change_nothing(digits):
    x, y = digits[0][:500].double(), digits[1][:500]
    moved = x * torch.logspace(-3, 3, 64, dtype=torch.float64) - 7
    one, two = fit(x, y, 10, 1e-2), fit(moved, y, 10, 1e-2)
    assert torch.equal(one.predict(x), two.predict(moved))


def test_held_out_rows_are_a_fifth_of_each_class_and_never_the_last_of_one():
    labels = torch.tensor([0] * 50 + [1] * 13 + [2] * 2 + [3])
    part = folds(labels, seed=1)
    for label, count in ((0, 50), (1, 13), (2, 2)):
        sizes = [int(((part == fold) & (labels == label)).sum()) for fold in range(FOLDS)]
        assert sum(sizes) == count
        assert max(sizes) - min(sizes) <= 1
    assert part[-1] == -1
    assert not torch.equal(part, folds(labels, seed=2))


def test_one_row_a_class_has_nothing_to_hold_out_and_is_fitted_all_the_same():
    rows = torch.eye(4)
    result = linear(rows, torch.arange(4), rows, torch.arange(4))
    assert result.accuracy == 1
    assert result.held_out is None
    assert result.penalty == PENALTIES[len(PENALTIES) // 2]


def test_a_given_penalty_is_used_as_it_is():
    x, y = torch.randn(50, 3), torch.randint(0, 2, (50,))
    result = linear(x, y, x, y, penalties=[0.5])
    assert (result.penalty, result.held_out) == (0.5, None)
    assert torch.equal(result.hits, fit(x, y, 2, 0.5).predict(x) == y)


def test_a_class_without_training_rows_is_never_named():
    x, y = torch.randn(60, 3), torch.randint(0, 2, (60,))
    result = linear(x, y, x, torch.full((60,), 2), penalties=[1e-2])
    assert result.correct == 0


@pytest.mark.parametrize(
    ("train", "test", "classes", "message"),
    [
        ([0, 1], [], None, "there are 2 to train and 0 to test"),
        ([0, -1], [0], None, "labels run from -1 to 0"),
        ([0, 3], [0], 3, "labels run from 0 to 3, and a probe needs them from 0 to 2"),
        ([0, 0], [0], None, "with two classes or more"),
    ],
)
def test_labels_that_cannot_be_used_are_named(train, test, classes, message):
    with pytest.raises(ValueError, match=message):
        linear(
            torch.randn(len(train), 2),
            torch.tensor(train),
            torch.randn(len(test), 2),
            torch.tensor(test, dtype=torch.int64),
            classes=classes,
        )
