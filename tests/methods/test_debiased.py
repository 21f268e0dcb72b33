"""Debiased contrastive learning: closed forms, the official loss with and without prior, identity with SimCLR."""

import pytest
import torch
from torch import nn

from lookalike.methods.debiased import Debiased
from lookalike.methods.simclr import SimCLR
from methods.fixtures import batch, identity, waves

E2 = torch.eye(2, dtype=torch.float64)


def loss(one, two, **settings) -> float:
    return Debiased(identity(), nn.Identity(), **settings)(batch({"view/1": one, "view/2": two})).loss.item()


def test_closed_forms() -> None:
    assert loss(E2, E2, temperature=1.0) == pytest.approx(0.467054, abs=1e-6)  # N = 1.618160
    assert loss(E2, E2, temperature=1.0, prior=0.0) == pytest.approx(0.551445, abs=1e-6)


@pytest.mark.parametrize(
    ("temperature", "prior", "value", "norms", "firsts"),
    [
        (0.5, 0.1, 1.47852583844, [0.317109700964, 0.189239648494], [-0.0406674440411, 0.00471797356762]),
        (0.5, 0.05, 1.6022889643, [0.269368441153, 0.160239688193], [-0.0335733873922, 0.00373472192956]),
        (0.1, 0.1, 0.870937274812, [1.39707426865, 0.827503824258], [-0.189416498539, 0.0271053133486]),
        (0.5, 0.0, 1.70104473898, [0.23468798428, 0.13943034662], [-0.0286199335489, 0.00308045363304]),
    ],
)
def test_loss_and_gradients_are_those_of_the_official_code(temperature, prior, value, norms, firsts) -> None:
    """chingyaoc/DCL (7d6345f), main.py, of the unit waves; at the temperature 0.1 five rows of 16 are at the floor."""
    z1, z2 = waves()
    method = Debiased(nn.Identity(), nn.Identity(), temperature=temperature, prior=prior)
    found = method(batch({"view/1": z1, "view/2": z2})).loss
    found.backward()
    assert found.item() == pytest.approx(value, abs=1e-10)
    assert [z1.grad.norm().item(), z2.grad.norm().item()] == pytest.approx(norms, abs=1e-9)
    assert [z1.grad[0, 0].item(), z2.grad[0, 0].item()] == pytest.approx(firsts, abs=1e-9)


def test_without_a_prior_it_is_simclr() -> None:
    views = dict(zip(("view/1", "view/2"), torch.randn(2, 6, 2, dtype=torch.float64), strict=True))
    mine = Debiased(identity(), nn.Identity(), temperature=0.5, prior=0.0)(batch(views)).loss.item()
    assert mine == pytest.approx(
        SimCLR(identity(), nn.Identity(), temperature=0.5)(batch(views)).loss.item(), abs=1e-12
    )


def test_the_correction_lowers_the_loss_where_negatives_are_near() -> None:
    a, b = torch.randn(2, 6, 2, dtype=torch.float64)
    assert loss(a, b, prior=0.2) < loss(a, b, prior=0.1) < loss(a, b, prior=0.0)


def test_the_order_of_views_and_images_and_scale_do_not_matter() -> None:
    a, b = torch.randn(2, 6, 2, dtype=torch.float64)
    order = torch.randperm(6)
    for one, two in ((b, a), (a[order], b[order]), (3 * a, 0.1 * b)):
        assert loss(one, two) == pytest.approx(loss(a, b), abs=1e-12)


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="a single image has no negatives: use a larger batch"):
        loss(E2[:1], E2[:1])


@pytest.mark.parametrize("prior", [-0.1, 1.0, 1.5])
def test_a_prior_that_is_no_share(prior: float) -> None:
    with pytest.raises(ValueError, match="from 0 to below 1"):
        Debiased(nn.Identity(), nn.Identity(), prior=prior)
