"""Margins on the positive: how much more alike than the negatives it must be, or, below 0, how much less will do.

With c the cosine of query and positive, a margin m puts phi(c) in its place, before the temperature:

    cosine   phi = c - m                                                       MarginNCE (InterCLR: Xie et al. 2020)
    arc      phi = cos(angle + m) where the angle stays within 0 ... pi; beyond that c - |m| sin m, a line

B pairs.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Measure: TypeAlias = Literal["cosine", "arc"]
FLAT = 1e-4  # least sine under the slope of an arc: at angle 0 it has none


@dataclass(frozen=True)
class Margin:
    """size in units of the cosine, or in radians; below 0 the positive is met halfway (InterCLR's -0.5).

    >>> Margin(-0.5).logits(torch.tensor([0.2 / 0.2]), 0.2)[0]
    tensor([3.5000])

    Raises ValueError for an arc of more than half a turn.
    """

    size: float = 0.0
    measure: Measure = "cosine"

    def __post_init__(self) -> None:
        if self.measure == "arc" and not abs(self.size) <= math.pi:
            raise ValueError(f"the arc margin is {self.size}: give radians from -pi to pi")

    def logits(self, logit_B: Float[Tensor, "B"], temperature: float) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """phi(c) / t from c / t, and d phi / d c."""
        if self.measure == "cosine":
            return logit_B - self.size / temperature, torch.ones_like(logit_B)
        c_B, cos, sin = logit_B * temperature, math.cos(self.size), math.sin(self.size)
        sine_B = (1 - c_B.square()).clamp_min(0).sqrt()
        inside_B = c_B < cos if self.size < 0 else c_B > -cos
        phi_B = torch.where(inside_B, c_B * cos - sine_B * sin, c_B - abs(self.size) * sin)
        slope_B = torch.where(inside_B, cos + sin * c_B / sine_B.clamp_min(FLAT), 1.0)
        return phi_B / temperature, slope_B
