"""The order in which samples are visited: values, and their indices as a pure function of (seed, phase, round).

A round is what an order goes through before it starts again: the whole data set for `Shuffle`, one window for `Window`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from lookalike.functional.random import generator


@dataclass(frozen=True, kw_only=True)
class Shuffle:
    """Every sample once a round, in a new order each time.

    >>> Shuffle().indices(seed=0, phase=0, round=1, size=5).sort().values
    tensor([0, 1, 2, 3, 4])
    """

    def length(self, size: int) -> int:
        """Samples in one round of a data set of `size`."""
        return size

    def rounds(self, epochs: float, size: int) -> float:
        """Rounds that visit as many samples as `epochs` passes over the data set."""
        return float(epochs)

    def indices(self, *, seed: int, phase: int, round: int, size: int) -> Int64[Tensor, "length"]:
        return torch.randperm(size, generator=generator("order", seed, phase, round))


Sliding = Literal["sliding", "released", "released_fixed"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """A window of `size` samples that slides by `shift` over one fixed shuffle, modulo the data set (PIC, section 3).

    Each sample is visited in size/shift consecutive windows and then not for a long time. The order inside a
    window is new each round. `size` is capped at the data set, and `Window(N, N)` visits as `Shuffle` does.

    The sampler in bl0/PIC (contrast/data/sampler.py) takes start and places modulo the window, not modulo the data
    set. mode "released" does as it does with --shuffle-per-epoch: a new random subset each round, but for rounds that
    start at 0, which keep that of the round before; "released_fixed" as without: one subset for good.
    """

    size: int
    shift: int
    mode: Sliding = "sliding"

    def __post_init__(self) -> None:
        if not 0 < self.shift <= self.size:
            raise ValueError(f"a window of {self.size} cannot slide by {self.shift}: give 0 < shift <= size")

    def length(self, size: int) -> int:
        return min(self.size, size)

    def rounds(self, epochs: float, size: int) -> float:
        exact = epochs * size / self.length(size)  # as many visits as ordinary epochs: official code
        return float(math.ceil(exact - 1e-9))  # 11.000000000000002 windows are 11

    def indices(self, *, seed: int, phase: int, round: int, size: int) -> Int64[Tensor, "length"]:
        length = self.length(size)
        circle = size if self.mode == "sliding" else length
        start = round * self.shift % circle
        shuffles = (round if start else round - 1) if self.mode == "released" else 0
        key = (seed, phase, shuffles) if shuffles > 0 else (seed, phase)
        base = torch.randperm(size, generator=generator("window", *key))
        window = base[(torch.arange(length) + start) % circle]
        return window[torch.randperm(length, generator=generator("order", seed, phase, round))]


Order = Shuffle | Window
