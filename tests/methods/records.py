"""What the tests that take every method from the table must know of one, told in the method's own test file: RECORD.

The facts of the methods that were there first stand in the tables of those tests: tests/recipes/test_library.py,
tests/golden/traces.json, tests/contracts/test_methods_resume.py, and src/lookalike/api/loops.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

from lookalike.recipes import METHODS

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A recipe of the library. size: of its views; momentum: at start and end; optimizer: rule, rate at the recipe's
    batch, weight decay, what is free of it, epochs of warm-up; statistics: of BatchNorm, in encoder and momentum
    encoder; heads: widths of the layers of each, from the features on."""

    epochs: int
    batch: int
    size: int
    optimizer: tuple[str, float, float, str, float]
    temperature: float | None = None
    queue: int | None = None
    momentum: tuple[float, float] | None = None
    statistics: tuple[str, str] = ("global", "same")
    zero_init_last: bool = False
    heads: Mapping[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Record:
    """recipes: each that is neither of the bench nor a smoke twin. loop: the loss once more, as loops over rows and
    pairs, of the method in fp64 and its views. trace: its first twenty losses, which tests/golden/test_traces.py
    prints. narrow: changes to its bench recipe for 64 images in batches of 8. no_sizes: whole numbers of its
    constructor any value of which can be had."""

    recipes: Mapping[str, Numbers]
    loop: Callable[[Any, Mapping[str, Tensor]], Tensor]
    trace: Sequence[float]
    narrow: Sequence[str] = ()
    no_sizes: frozenset[str] = frozenset()


@cache
def records() -> Mapping[str, Record]:
    """Of each method whose test file tells one, in the order of the table of methods."""
    own = [name for name in METHODS if "\nRECORD = " in (FOLDER / f"test_{name}.py").read_text()]
    return {name: import_module(f"methods.test_{name}").RECORD for name in own}
