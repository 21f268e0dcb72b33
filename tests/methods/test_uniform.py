"""What each method says of the loss if all images looked alike is that loss: networks that give one vector to all."""

import math

import pytest
import torch
from torch import Tensor, nn

from lookalike.methods.ascl import ASCL
from lookalike.methods.barlow_twins import BarlowTwins
from lookalike.methods.byol import BYOL
from lookalike.methods.dcl import DCL
from lookalike.methods.debiased import Debiased
from lookalike.methods.dino import DINO
from lookalike.methods.instance_classifier import InstanceClassifier
from lookalike.methods.interclr import InterCLR
from lookalike.methods.method import Method
from lookalike.methods.mochi import MoCHi
from lookalike.methods.moco import MoCo
from lookalike.methods.moco_v3 import MoCoV3
from lookalike.methods.nnclr import NNCLR
from lookalike.methods.npid import NPID
from lookalike.methods.pic import PIC
from lookalike.methods.qk_iteration import QKIteration
from lookalike.methods.relicv2 import ReLICv2
from lookalike.methods.ressl import ReSSL
from lookalike.methods.revisiting import Revisiting
from lookalike.methods.sce import SCE
from lookalike.methods.simclr import SimCLR
from lookalike.methods.simsiam import SimSiam
from lookalike.methods.supcon import SupCon
from lookalike.methods.swav import SwAV
from lookalike.methods.vicreg import VICReg
from lookalike.modules import Bank, Clusters, InstanceClasses, NormedPrototypes, Prototypes, Queue
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


def bank():
    alike = Bank(KEYS, 2)
    alike.fill([(torch.arange(KEYS), QUERY.float().repeat(KEYS, 1))])
    return alike


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (SimCLR(Alike(), identity(), temperature=0.3), math.log(2 * ROWS - 1)),
        (SimCLR(Alike(), identity(), reduction="tf_sum"), 2 * math.log(2 * ROWS - 1)),
        (MoCHi(Alike(), identity(), queue(), pairs=3, with_query=2), math.log(1 + KEYS + 3 + 2)),
        (ASCL(Alike(), identity(), queue(), neighbors=3), math.log(1 + KEYS)),
        (ASCL(Alike(), identity(), queue(), neighbors=3, rule="hard"), math.log(1 + KEYS)),
        (NPID(Alike(), identity(), bank(), objective="cross_entropy", negatives=3), math.log(1 + 3)),
        (NPID(Alike(), identity(), bank(), objective="cross_entropy", negatives=None), math.log(KEYS)),
        (SupCon(Alike(), identity()), math.log(2 * ROWS - 1)),
        (SupCon(Alike(), identity(), temperature=0.2, base_temperature=0.1), 2 * math.log(2 * ROWS - 1)),
        (MoCo(Alike(), identity(), queue()), math.log(1 + KEYS)),
        (MoCo(Alike(), identity(), queue(), symmetric=True), 2 * math.log(1 + KEYS)),
        (MoCoV3(Alike(), identity(), identity(), temperature=0.3), 4 * 0.3 * math.log(ROWS)),
        (Debiased(Alike(), identity(), prior=0.3), math.log(2 * ROWS - 1)),
        (NNCLR(Alike(), identity(), identity(), queue()), math.log(ROWS)),
        (NNCLR(Alike(), identity(), identity(), queue(), candidates="both"), math.log(2 * ROWS - 1)),
        (SCE(Alike(), identity(), queue()), math.log(1 + KEYS)),
        (ReLICv2(Alike(), identity(), others=3), math.log(4)),
        (ReLICv2(Alike(), identity(), others=10), math.log(ROWS)),
        (ReLICv2(Alike(), identity(), others=None), math.log(ROWS)),
        (SCE(Alike(), identity(), queue(), coefficient=0.2, mask_positive="official"), math.log(1 + KEYS)),
        (ReSSL(Alike(), identity(), queue()), math.log(KEYS)),
        (Revisiting(Alike(), identity(), queue(), neighbors=3), math.log(1 + KEYS) + 0.4 * math.log(KEYS)),
        (QKIteration(Alike(), identity(), bank()), math.log(KEYS)),
        (QKIteration(Alike(), identity(), bank(), live_head=True), math.log(KEYS)),
    ],
)
def test_it_is_the_loss_of_images_that_look_alike(method: Method, expected: float) -> None:
    reads = [view for phase in method.plan(1.0) for view in phase.reads]
    step = method.double()(batch({view: torch.zeros(ROWS, 2, dtype=torch.float64) for view in reads}))
    assert step.loss is not None
    assert method.uniform(ROWS) == pytest.approx(expected, rel=1e-12)
    assert step.loss.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (MoCo(Alike(), identity(), Queue(65536, 2)), 11.0904),
        (MoCo(Alike(), identity(), Queue(4096, 2)), 8.3180),
        (SimCLR(Alike(), identity()), 6.9305),
        (QKIteration(Alike(), identity(), Bank(1_000_000, 2, derived=True)), 13.8155),
    ],
)
def test_of_published_sizes(method: Method, expected: float) -> None:
    """Of 512 images, or as many keys as there are."""
    assert method.uniform(512) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    "method",
    [
        BYOL(Alike(), identity(), identity()),
        SimSiam(Alike(), identity(), identity()),
        BarlowTwins(Alike(), identity()),
        VICReg(Alike(), identity()),
        DCL(Alike(), identity()),  # it goes through zero in good health
        ASCL(Alike(), identity(), predictor=identity()),
        SwAV(Alike(), identity(), Prototypes(9, 2)),  # near log K while prototypes are frozen, in good health too
        DINO(Alike(), identity(), NormedPrototypes(9, 2)),
        NPID(Alike(), identity(), bank()),  # its Z is a constant of the first step
        InterCLR(
            Alike(), identity(), queue(), bank(), Clusters(KEYS, 2, count=2, smallest=1)
        ),  # counts vary with clusters
        PIC(Alike(), identity(), InstanceClasses(KEYS, 2)),  # a weight per image: near log N for epochs, in good health
        InstanceClassifier(Alike(), identity(), InstanceClasses(KEYS, 2)),
    ],
)
def test_a_loss_without_keys_or_floor_has_none(method: Method) -> None:
    assert method.uniform(ROWS) is None
