"""DCL and DCLW: closed forms through the page, published losses, both branches, statistics of each view."""

import math

import pytest
import torch
from torch import nn

from lookalike.methods.dcl import DCL
from lookalike.methods.simclr import SimCLR
from methods.fixtures import batch, identity, waves

E2 = torch.eye(2, dtype=torch.float64)


def loss(one, two, **settings) -> float:
    return DCL(identity(), nn.Identity(), **settings)(batch({"view/1": one, "view/2": two})).loss.item()


def test_closed_forms() -> None:
    assert loss(E2, E2, temperature=1.0) == pytest.approx(math.log(2) - 1, abs=1e-12)
    assert loss(E2, E2, temperature=1.0, reduction="sum") == pytest.approx(2 * math.log(2) - 2, abs=1e-12)
    assert loss(E2, E2.flip(0), temperature=0.5) == pytest.approx(math.log(math.exp(2) + 1), abs=1e-12)


@pytest.mark.parametrize(
    ("temperature", "sigma", "value", "norms", "firsts"),
    [
        (0.1, None, 1.75012006182, [2.5725326028, 1.53140509402], [-0.400573664357, 0.00926539155955]),
        (0.1, 0.5, 1.94680876935, [2.94638500911, 2.05974044669], [-0.350788810977, -0.0143589558297]),
        (0.5, None, 2.99061493828, [0.566978474062, 0.337542503793], [-0.071277674151, 0.00803140642706]),
        (0.5, 0.5, 3.02995267979, [0.647110594177, 0.43479802313], [-0.0613207034751, 0.0033065369492]),
    ],
)
def test_sums_with_gradient_through_weights_are_raminnakhlis(temperature, sigma, value, norms, firsts) -> None:
    """raminnakhli/Decoupled-Contrastive-Learning (0b9b76d), loss/dcl.py, both ways, of the unit waves."""
    check(
        {"temperature": temperature, "sigma": sigma, "weight_gradient": True, "reduction": "sum"}, value, norms, firsts
    )


@pytest.mark.parametrize(
    ("temperature", "sigma", "value", "norms", "firsts"),
    [
        (0.1, None, 0.875060030912, [1.2862663014, 0.765702547009], [-0.200286832178, 0.00463269577978]),
        (0.1, 0.5, 0.973404384673, [1.3756937099, 0.892395598132], [-0.187551423119, -0.0014106227668]),
        (0.5, 0.5, 1.51497633989, [0.30308803297, 0.191729148353], [-0.0330917552636, 0.00280703950421]),
    ],
)
def test_means_with_still_weights_are_lightlys(temperature, sigma, value, norms, firsts) -> None:
    """lightly 1.6.0, loss/dcl_loss.py."""
    check({"temperature": temperature, "sigma": sigma}, value, norms, firsts)


def check(settings, value, norms, firsts) -> None:
    z1, z2 = waves()
    found = DCL(nn.Identity(), nn.Identity(), **settings)(batch({"view/1": z1, "view/2": z2})).loss
    found.backward()
    assert found.item() == pytest.approx(value, abs=1e-10)
    assert [z1.grad.norm().item(), z2.grad.norm().item()] == pytest.approx(norms, abs=1e-9)
    assert [z1.grad[0, 0].item(), z2.grad[0, 0].item()] == pytest.approx(firsts, abs=1e-9)


def test_the_pull_of_a_pair_that_is_found_does_not_fade() -> None:
    """NT-Xent's gradient vanishes with its loss; here the positive is always pulled with 1 / t."""
    turned = torch.tensor([[math.cos(0.1), math.sin(0.1)], [-math.sin(0.1), math.cos(0.1)]], dtype=torch.float64)
    views, slopes = {"view/1": E2, "view/2": turned}, []
    for cast in (DCL, SimCLR):
        method = cast(identity(), nn.Identity(), temperature=0.05)
        method(batch(views)).loss.backward()
        slopes.append(method.encoder.weight.grad.norm().item())
    assert slopes[0] > 1000 * slopes[1]
    assert loss(E2, E2, temperature=0.05) == pytest.approx(math.log(2) - 20, abs=1e-12)  # no floor at zero


def test_each_view_has_its_own_batch_statistics() -> None:
    norm = nn.BatchNorm1d(2, affine=False, dtype=torch.float64)
    a = torch.randn(6, 2, dtype=torch.float64)
    apart, alike = (DCL(norm, nn.Identity())(batch({"view/1": a, "view/2": two})).loss.item() for two in (5 * a + 3, a))
    assert apart == pytest.approx(alike, abs=1e-3)


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="a single image has no negatives: use a larger batch"):
        loss(E2[:1], E2[:1])


def test_a_sigma_that_divides_by_nothing() -> None:
    with pytest.raises(ValueError, match="above 0, or null"):
        DCL(nn.Identity(), nn.Identity(), sigma=0.0)
