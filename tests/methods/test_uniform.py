"""What each method says of the loss if all images looked alike is that loss: networks that give one vector to all."""

import math

import pytest
import torch
from torch import Tensor, nn

from lookalike.methods.byol import BYOL
from lookalike.methods.dino import DINO
from lookalike.methods.method import Method
from lookalike.methods.moco import MoCo
from lookalike.methods.relicv2 import ReLICv2
from lookalike.methods.sce import SCE
from lookalike.methods.simclr import SimCLR
from lookalike.methods.swav import SwAV
from lookalike.modules import NormedPrototypes, Prototypes
from methods.fixtures import QUERY, batch, identity, queue_of

ROWS, KEYS = 5, 7


class Alike(nn.Module):
    """The same vector for every image."""

    def __init__(self) -> None:
        super().__init__()
        self.vector = nn.Parameter(QUERY.clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.vector.expand(len(x), -1)


def queue():
    return queue_of(QUERY.repeat(KEYS, 1))


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (SimCLR(Alike(), identity(), temperature=0.3), math.log(2 * ROWS - 1)),
        (SimCLR(Alike(), identity(), reduction="tf_sum"), 2 * math.log(2 * ROWS - 1)),
        (MoCo(Alike(), identity(), queue()), math.log(1 + KEYS)),
        (MoCo(Alike(), identity(), queue(), symmetric=True), 2 * math.log(1 + KEYS)),
        (SCE(Alike(), identity(), queue()), math.log(1 + KEYS)),
        (ReLICv2(Alike(), identity(), others=3), math.log(4)),
        (ReLICv2(Alike(), identity(), others=10), math.log(ROWS)),
        (ReLICv2(Alike(), identity(), others=None), math.log(ROWS)),
        (SCE(Alike(), identity(), queue(), coefficient=0.2, mask_positive="official"), math.log(1 + KEYS)),
    ],
)
def test_it_is_the_loss_of_images_that_look_alike(method: Method, expected: float) -> None:
    (phase,) = method.plan(1.0)
    step = method.double()(batch({view: torch.zeros(ROWS, 2, dtype=torch.float64) for view in phase.reads}))
    assert step.loss is not None
    assert method.uniform(ROWS) == pytest.approx(expected, rel=1e-12)
    assert step.loss.item() == pytest.approx(expected, rel=1e-9)


def test_a_loss_without_keys_has_none() -> None:
    assert BYOL(Alike(), identity(), identity()).uniform(ROWS) is None


def test_a_loss_that_starts_where_it_would_collapse_to_has_none() -> None:
    """SwAV's and DINO's are near log K while prototypes are frozen, in good health too."""
    assert SwAV(Alike(), identity(), Prototypes(9, 2)).uniform(ROWS) is None
    assert DINO(Alike(), identity(), NormedPrototypes(9, 2)).uniform(ROWS) is None
