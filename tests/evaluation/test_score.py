"""Scores: intervals against exact values, one line, and no comparison across protocols."""

import json
from dataclasses import replace
from math import comb

import pytest
import torch

from lookalike.evaluation import Protocol, Score, compare, interval, mean_interval


def knn_score(value: float = 0.494, **changes) -> Score:
    protocol = Protocol(probe="knn", n_train=10000, n_test=10000, settings={"k": 200, "temperature": 0.1})
    return replace(Score(value=value, protocol=protocol, seed=0), **changes)


def test_wilson_interval_closed_form():
    # 5 of 10 at z = 1.959964: center 1/2, half width z sqrt(N + z^2) / (2 (N + z^2)) = 0.263404
    low, high = interval(5, 10)
    assert (low, high) == (pytest.approx(0.236593, abs=1e-5), pytest.approx(0.763407, abs=1e-5))
    assert interval(0, 10) == (pytest.approx(0, abs=1e-12), pytest.approx(0.277533, abs=1e-5))  # z^2 / (N + z^2)
    assert interval(10, 10) == (pytest.approx(1 - 0.277533, abs=1e-5), pytest.approx(1, abs=1e-12))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_wilson_interval_covers_the_truth_about_95_times_in_100(p):
    N = 200
    covered = sum(
        comb(N, x) * p**x * (1 - p) ** (N - x) for x in range(N + 1) if interval(x, N)[0] <= p <= interval(x, N)[1]
    )
    assert 0.94 < covered < 0.965


def test_counts_that_cannot_be_are_refused():
    for correct, n in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match=f"{correct} of {n} is no count"):
            interval(correct, n)


def test_the_line_carries_the_protocol():
    score = knn_score()
    assert score.line() == "knn 49.4 % (k=200, T=0.1, backbone features, offline, 10000/10000 images, seed 0)"
    full = knn_score(epochs=50.0, interval=(0.484, 0.504))
    full = replace(full, protocol=replace(full.protocol, crop="32 px center crop", online=True, features="projector"))
    assert full.line() == (
        "knn 49.4 % (k=200, T=0.1, projector features, 32 px center crop, online, 10000/10000 images, "
        "50 epochs, seed 0, 95 %: 48.4 to 50.4)"
    )
    bare = Score(value=0.3403, protocol=Protocol(probe="uAP", n_train=5, n_test=7))
    assert bare.line() == "uAP 34.0 % (backbone features, offline, 5/7 images)"


def test_the_dict_is_flat_json_with_every_field():
    score = knn_score(interval=(0.4, 0.5), epochs=2.0, backbone="ab" * 16)
    assert json.loads(json.dumps(score.as_dict())) == {
        "name": "knn",
        "value": 0.494,
        "interval": [0.4, 0.5],
        "n_train": 10000,
        "n_test": 10000,
        "features": "backbone",
        "crop": "",
        "online": False,
        "k": 200,
        "temperature": 0.1,
        "seed": 0,
        "epochs": 2.0,
        "backbone": "ab" * 16,
    }


def test_what_a_probe_found_is_shown_and_may_differ():
    one, other = knn_score(found={"penalty": 10**-2.5, "without": 3}), knn_score(found={"penalty": 1.0})
    assert one.line().endswith("10000/10000 images, seed 0, penalty=0.003162, without=3)")
    assert one.as_dict()["found"]["penalty"] == 10**-2.5
    assert compare(one, other) == 0


def test_the_interval_of_a_mean_closed_form():
    # values 0 and 1 half and half: deviation 1/2, so 1.959964 / 2 / sqrt(100) on each side
    values = torch.tensor([0.0, 1.0] * 50, dtype=torch.float64)
    assert mean_interval(values) == (pytest.approx(0.5 - 0.0979982), pytest.approx(0.5 + 0.0979982))
    assert mean_interval(torch.ones(5, dtype=torch.float64)) == (1, 1)
    assert mean_interval(torch.tensor([0.0, 0.0, 1.0]).double())[0] == 0


@pytest.mark.parametrize("interval", [(0.4, 0.6), None])
def test_a_score_comes_back_from_json(interval):
    score = knn_score(0.494, epochs=50.0, backbone="a", interval=interval, found={"penalty": 0.1})
    assert Score.from_dict(json.loads(json.dumps(score.as_dict()))) == score
    with pytest.raises(KeyError):
        Score.from_dict({"name": "knn", "value": 0.5})


def test_models_are_compared_under_one_protocol():
    trained, random = knn_score(0.494, epochs=50.0, backbone="a"), knn_score(0.301, seed=3, epochs=0.0, backbone="b")
    assert trained.comparable(random)
    assert compare(trained, random) == pytest.approx(0.193)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"settings": {"k": 20, "temperature": 0.1}}, "k 200 and 20"),
        ({"settings": {"k": 200, "temperature": 0.07}}, "temperature 0.1 and 0.07"),
        ({"settings": {"k": 200}}, "temperature 0.1 and None"),
        ({"features": "projector"}, "features 'backbone' and 'projector'"),
        ({"crop": "28 px"}, "crop '' and '28 px'"),
        ({"online": True}, "online False and True"),
        ({"n_train": 5000}, "n_train 10000 and 5000"),
        ({"n_test": 5000}, "n_test 10000 and 5000"),
        ({"probe": "linear"}, "probe 'knn' and 'linear'"),
    ],
)
def test_unlike_protocols_are_refused_and_the_difference_is_named(change, named):
    a, b = knn_score(), knn_score()
    b = replace(b, protocol=replace(b.protocol, **change))
    assert not a.comparable(b)
    assert not b.comparable(a)
    with pytest.raises(ValueError, match=f"are not comparable: {named}; measure both"):
        compare(a, b)
