"""Is it worth it: paired intervals that can be computed by hand, and verdicts in one sentence."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lookalike.evaluation import Protocol, Score, paired, worth


def score(each: Tensor, **changes) -> Score:
    protocol = Protocol(probe="linear", n_train=10, n_test=len(each), settings={"probe_seed": 0}, **changes)
    return Score(value=float(each.double().mean()), protocol=protocol, each=each.double())


def answers(right: int, of: int) -> Tensor:
    return (torch.arange(of) < right).double()


def test_the_interval_is_that_of_the_differences_not_of_two_scores():
    # 60 of 100 and 50 of 100; the same 50 are right: the difference is 0 or 1, its error sqrt(0.1 0.9 / 100) = 0.03
    low, high = paired(answers(60, 100), answers(50, 100), seed=0)
    assert (low, high) == (pytest.approx(0.1 - 1.96 * 0.03, abs=0.02), pytest.approx(0.1 + 1.96 * 0.03, abs=0.02))
    # where each is right where the other is wrong, the error is sqrt(4 0.6 0.4 / 100) = 0.098
    low, high = paired(answers(60, 100), 1 - answers(60, 100), seed=0)
    assert (low, high) == (pytest.approx(0.2 - 1.96 * 0.098, abs=0.05), pytest.approx(0.2 + 1.96 * 0.098, abs=0.05))


def test_the_interval_covers_the_truth_about_95_times_in_100():
    draws, covered = np.random.default_rng(0), 0
    for seed in range(200):
        common = draws.random(150)
        a, b = (torch.from_numpy((0.7 * common + 0.3 * draws.random(150) < p).astype(float)) for p in (0.6, 0.5))
        exact = _chance(0.6) - _chance(0.5)
        low, high = paired(a, b, seed=seed, draws=200)
        covered += low <= exact <= high
    assert 0.9 <= covered / 200 <= 0.99


def _chance(p: float) -> float:
    """P(0.7 u + 0.3 v < p) for uniform u, v and 0.3 <= p <= 0.7: the mean over v of (p - 0.3 v) / 0.7."""
    return (p - 0.15) / 0.7


def test_equal_models_differ_by_nothing_and_the_seed_is_all_that_is_drawn():
    a, b = answers(60, 100), answers(50, 100)
    assert paired(a, a) == (0, 0)
    assert paired(a, b, seed=1) == paired(a, b, seed=1)
    state = torch.random.get_rng_state()
    paired(a, b)
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(ValueError, match="3 and 2 test images cannot be paired"):
        paired(a[:3], b[:2])


def test_the_best_reference_counts_and_the_sentence_says_all():
    references = {
        "random weights": score(answers(20, 400)),
        "raw pixels": score(answers(100, 400), features="pixels", crop="center 8 px"),  # at its own layer and size
    }
    found = worth(score(answers(200, 400)), references)
    assert (found.reference, found.verdict, found.gain) == ("raw pixels", "worth it", 0.25)
    half = 100 * 1.96 * math.sqrt(0.25 * 0.75 / 400)
    line = found.line()
    assert line.startswith("linear: worth it: +25.0 points (")
    assert line.endswith(") over raw pixels")
    low, high = (float(number) for number in line.partition("(")[2].partition(")")[0].split(" to "))
    assert (low, high) == (pytest.approx(25 - half, abs=0.7), pytest.approx(25 + half, abs=0.7))


@pytest.mark.parametrize(
    ("right", "verdict"), [(300, "worth it"), (201, "not clear"), (200, "not clear"), (100, "not worth it")]
)
def test_verdicts(right, verdict):
    assert worth(score(answers(right, 400)), {"raw pixels": score(answers(200, 400))}).verdict == verdict


def test_few_labels_are_named_with_their_share():
    one = score(answers(10, 20))
    one = replace(one, protocol=replace(one.protocol, probe="few", settings={"share": 0.01}))
    assert worth(one, {"x": one}).line() == "few 1 %: not clear: +0.0 points (0.0 to 0.0) over x"


def test_what_cannot_be_compared_is_refused():
    one = score(answers(10, 20))
    other = replace(one, protocol=replace(one.protocol, n_train=5))
    with pytest.raises(ValueError, match="trained and x are not comparable: n_train 10 and 5"):
        worth(one, {"x": other})
    with pytest.raises(ValueError, match="there is no reference"):
        worth(one, {})
    with pytest.raises(ValueError, match="linear holds no value for each test image"):
        worth(one, {"x": replace(one, each=None)})
