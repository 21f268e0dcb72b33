"""What a family of edits is: one change of a picture, and a rule for each of its settings at five strengths."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image

from lookalike.functional import random

STRENGTHS = (1, 2, 3, 4, 5)
NUMBERS = 6  # uniform numbers that the settings of one edit are drawn from, at most
DIGITS = 4  # settings are rounded to so many decimals, so that a record of them is what was used
SEEDS = 2**32  # of settings that stand for many random numbers

Value = float | int | str
Rule = Callable[[int, float], Value]  # (strength, uniform number) -> the setting


@dataclass(frozen=True)
class Steps:
    """The setting that each strength stands for, weakest first. Raises ValueError unless there are five."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if len(self.values) != len(STRENGTHS):
            raise ValueError(f"a setting has {len(STRENGTHS)} steps, got {self.values}")

    def __call__(self, strength: int, u: float) -> Value:
        return self.values[strength - 1]


def steps(*values: Value) -> Steps:
    """Five settings, weakest first."""
    return Steps(values)


def signed(*amounts: float) -> Rule:
    """Plus or minus the amount that the strength stands for."""
    sizes = steps(*amounts)
    return lambda strength, u: float(sizes(strength, u)) * (1 if u < 0.5 else -1)


def between(low: float, high: float) -> Rule:
    """Uniform, whatever the strength."""
    return lambda strength, u: round(low + (high - low) * u, DIGITS)


def either(*values: Value) -> Rule:
    """One of the values, all as likely, whatever the strength."""
    return lambda strength, u: values[int(u * len(values))]


def seed(strength: int, u: float) -> int:
    """What `numbers` takes, whatever the strength."""
    return int(u * SEEDS)


@dataclass(frozen=True)
class Family:
    """One kind of edit.

    change: (picture, settings by name) -> the edited picture, RGB, of any size; with `others` other pictures as second
    argument where that is not 0. settings: name -> rule; a rule that is not Steps takes a uniform number.
    Raises ValueError where its rules take more than NUMBERS of them.
    """

    name: str
    change: Callable[..., Image.Image]
    settings: Mapping[str, Rule]
    others: int = 0

    def __post_init__(self) -> None:
        if len(self._drawn) > NUMBERS:
            raise ValueError(f"the edits {self.name!r} draw {len(self._drawn)} numbers, {NUMBERS} is the most")

    @property
    def _drawn(self) -> list[str]:
        return [name for name, rule in self.settings.items() if not isinstance(rule, Steps)]

    def draw(self, strength: int, numbers: Sequence[float]) -> dict[str, Value]:
        """The settings at a strength, from NUMBERS uniform numbers."""
        drawn = dict(zip(self._drawn, numbers, strict=False))
        return {name: rule(strength, drawn.get(name, 0.0)) for name, rule in self.settings.items()}


@dataclass(frozen=True)
class Edit:
    """What happens to a picture: a family's name, the strength, its settings, and which others it takes, in [0, 1)."""

    family: str
    strength: int
    settings: Mapping[str, Value]
    others: tuple[float, ...] = field(default=())


def uniforms(seed: int, count: int) -> list[float]:
    """Uniform numbers for a setting that stands for many: a pure function of its seed."""
    return torch.rand(count, generator=random.generator("edit", seed), dtype=torch.float64).tolist()
