"""Values that change while training: schedules, as pure functions of a clock."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, kw_only=True)
class Clock:
    """A moment: `step` of `steps` (0 <= step < steps while training), `epoch` of `epochs` as a fraction."""

    step: int
    steps: int
    epoch: float
    epochs: float

    @property
    def begins_epoch(self) -> bool:
        """Whether this is the first step of all, or of another epoch.

        >>> [Clock(step=s, steps=6, epoch=s / 3, epochs=2.0).begins_epoch for s in range(6)]
        [True, False, False, True, False, False]
        """
        before = self.epoch - self.epochs / self.steps
        return self.step == 0 or math.floor(self.epoch + 1e-9) > math.floor(before + 1e-9)  # 0.1 + 0.2 is 0.3


Schedule: TypeAlias = Callable[[Clock], float]


@dataclass(frozen=True)
class Constant:
    value: float

    def __call__(self, clock: Clock) -> float:
        return self.value


@dataclass(frozen=True)
class Cosine:
    """From `start` at step 0 to `end` at the last step's end: end - (end - start) (cos(pi t/T) + 1) / 2.

    With start = m0 and end = 1 this is the momentum of BYOL: 1 - (1 - m0)(cos(pi t/T) + 1)/2 (Grill et al. 2020).

    >>> Cosine(0.9, 1.0)(Clock(step=50, steps=100, epoch=5.0, epochs=10.0))
    0.95
    """

    start: float
    end: float

    def __call__(self, clock: Clock) -> float:
        return self.end - (self.end - self.start) * (math.cos(math.pi * clock.step / clock.steps) + 1) / 2


@dataclass(frozen=True)
class Ramp:
    """From `start` in the first epoch to `end` in the epoch number `epochs`, linearly and constant within an epoch.

    The temperature of DINO's teacher (facebookresearch/dino). epochs 0 is `end` from the first step on.
    """

    start: float
    end: float
    epochs: int = 0

    def __call__(self, clock: Clock) -> float:
        number, last = math.floor(clock.epoch), self.epochs - 1
        if number > last:
            return self.end
        return self.start + (self.end - self.start) * number / max(last, 1)


@dataclass(frozen=True, kw_only=True)
class Warmup:
    """A factor of the base rate: a linear rise from `start` to 1 over `epochs`, then a fall in a `shape` to `end`.

    shape "cosine" falls without restarts over the remaining steps; "steps" multiplies by `factor` at each of
    `milestones` (in epochs); "constant" stays. `per` "epoch" holds the cosine constant within an epoch (MoCo's code).
    """

    epochs: float = 0.0
    start: float = 0.0
    end: float = 0.0
    shape: Literal["cosine", "steps", "constant"] = "cosine"
    milestones: tuple[float, ...] = ()
    factor: float = 0.1
    per: Literal["step", "epoch"] = "step"

    def __call__(self, clock: Clock) -> float:
        if clock.epoch < self.epochs:
            return self.start + (1 - self.start) * clock.epoch / self.epochs
        if self.shape == "constant":
            return 1.0
        if self.shape == "steps":
            return self.factor ** sum(clock.epoch >= milestone for milestone in self.milestones)
        epoch = math.floor(clock.epoch) if self.per == "epoch" else clock.epoch
        progress = max(0.0, epoch - self.epochs) / (clock.epochs - self.epochs)
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * progress)) / 2
