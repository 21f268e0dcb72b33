"""Spoiled runs are named within 200 steps, healthy ones are left alone: the cases of benchmarks/collapse.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from collapse import BROKEN, HEALTHY, HEALTHY_STEPS, LIMIT, run

QUICK = ("no stop-gradient", "one image", "fewer images than a batch", "simclr, seed 0")


def cases(every):
    """All cases, most of them slow."""
    slow = pytest.mark.slow
    return [pytest.param(case, id=case.name, marks=() if case.name in QUICK else slow) for case in every]


def test_there_are_enough_cases() -> None:
    names = [case.name for case in (*BROKEN, *HEALTHY)]
    assert len(BROKEN) >= 12
    assert len(HEALTHY) >= 10
    assert set(QUICK) < set(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", cases(BROKEN))
def test_a_spoiled_run_is_named_within_200_steps(case) -> None:
    outcome = run(case, LIMIT)
    assert outcome.step is not None
    assert outcome.step <= LIMIT
    assert any(words in outcome.said for words in case.says)


@pytest.mark.parametrize("case", cases(HEALTHY))
def test_a_healthy_run_is_left_alone(case) -> None:
    outcome = run(case, HEALTHY_STEPS, to_the_end=True)
    assert outcome.said == ""
    assert outcome.recognized["trained"] > outcome.recognized["random weights"]  # it is healthy: it has learned
