"""Each part works alone: the examples in the docstrings are run, and the main parts have one."""

import doctest
import importlib

import pytest

PARTS = [
    "evaluation.knn",
    "evaluation.linear",
    "functional.contrast",
    "functional.ema",
    "functional.in_batch",
    "functional.order",
    "functional.schedules",
    "modules.bank",
    "modules.heads",
    "modules.momentum",
    "modules.queue",
    "transforms.views",
]


@pytest.mark.parametrize("name", PARTS)
def test_the_examples_of_a_part_hold(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"lookalike.{name}"))
    assert found.attempted > 0
    assert found.failed == 0
