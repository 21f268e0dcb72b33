"""SupCon: labels or none, the official factor, gradient into both views, the notice of a run without labels."""

import math

import pytest
import torch
from torch import nn

from lookalike.methods.simclr import SimCLR
from lookalike.methods.supcon import SupCon
from methods.fixtures import batch, identity, keyed

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3])


def step(z1, z2, labels=None, **settings):
    method = SupCon(identity(z1.shape[1]), nn.Identity(), **settings)
    return method(batch({"view/1": z1, "view/2": z2}, labels=labels))


def test_four_views_alike() -> None:
    z = torch.ones(2, 2, dtype=torch.float64)
    assert step(z, z, torch.tensor([0, 0])).loss.item() == pytest.approx(math.log(3), abs=1e-12)


def test_loss_by_loops() -> None:
    z1, z2 = torch.randn(2, 7, 4, dtype=torch.float64)
    rows, label, total = [row / row.norm() for row in (*z1, *z2)], LABELS.tolist() * 2, 0.0
    for i, row in enumerate(rows):
        others = {a: math.exp(float(row @ other) / 0.3) for a, other in enumerate(rows) if a != i}
        alike = [others[a] for a in others if label[a] == label[i]]
        total -= sum(math.log(one / sum(others.values())) for one in alike) / len(alike)
    assert step(z1, z2, LABELS, temperature=0.3).loss.item() == pytest.approx(total / 14, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "base", "expected"),
    [
        (LABELS, 0.07, 9.2818114623615),
        (LABELS, None, 6.4972680236530485),
        (None, 0.07, 9.308294355054134),
        (None, None, 6.515806048537892),
    ],
)
def test_the_numbers_of_the_official_code(labels, base, expected) -> None:
    """HobbitLong/SupContrast at 66a8fe5: SupConLoss(0.1, base_temperature) in fp64, on the rows of `keyed`."""
    found = step(keyed("z1", 7), keyed("z2", 7), labels, base_temperature=base).loss.item()
    assert found == pytest.approx(expected, rel=1e-12)


def test_without_labels_it_is_simclr_to_the_bit() -> None:
    z1, z2 = torch.randn(2, 6, 4, dtype=torch.float64)
    simclr = SimCLR(identity(4), nn.Identity(), temperature=0.1)
    assert torch.equal(step(z1, z2).loss, simclr(batch({"view/1": z1, "view/2": z2})).loss)


def test_labels_bring_images_of_a_class_together() -> None:
    """One step against the gradient: the two images of class 0 come closer, the third goes away."""
    z = torch.eye(3, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(step(z, z, torch.tensor([0, 0, 1]), temperature=0.5).loss, z)
    moved = nn.functional.normalize((z - 0.1 * slope).detach(), dim=1)
    assert moved[0] @ moved[1] > 0.01
    assert moved[0] @ moved[2] < -0.001


def test_gradient_flows_through_both_views() -> None:
    z1, z2 = torch.randn(2, 7, 3, dtype=torch.float64).requires_grad_().unbind()
    one, two = torch.autograd.grad(step(z1, z2, LABELS).loss, [z1, z2])
    assert one.abs().sum() > 0
    assert two.abs().sum() > 0


def test_what_is_exported_and_trained() -> None:
    method = SupCon(identity(), nn.Linear(2, 2))
    (phase,) = method.plan(3.0)
    assert (phase.trains, phase.reads) == (("encoder", "projector"), ("view/1", "view/2"))
    assert method.exports() == {"encoder": method.encoder}
