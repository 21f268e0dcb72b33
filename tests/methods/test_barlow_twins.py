"""Barlow Twins: closed forms through the page, the official loss, the rate of biases, scale."""

import pytest
import torch
from torch import nn

from lookalike.methods.barlow_twins import BarlowTwins
from lookalike.modules import mlp
from lookalike.training.optimizers import Optimization
from methods.fixtures import batch, identity, progress, waves

CORNERS = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)


def barlow_twins(**settings) -> BarlowTwins:
    return BarlowTwins(identity(), nn.Identity(), **settings)


def loss(one, two, **settings) -> float:
    return barlow_twins(**settings)(batch({"view/1": one, "view/2": two})).loss.item()


def test_closed_forms() -> None:
    near = {"abs": 1e-4}  # BatchNorm's eps
    assert loss(CORNERS, CORNERS) == pytest.approx(0.0, **near)
    assert loss(CORNERS, -CORNERS) == pytest.approx(8.0, **near)
    assert loss(CORNERS, CORNERS.flip(1)) == pytest.approx(2 + 2 * 0.0051, **near)
    assert loss(CORNERS, CORNERS, variant="hsic", redundancy=0.25) == pytest.approx(0.5, **near)


def test_loss_and_gradients_are_those_of_the_official_code() -> None:
    """facebookresearch/barlowtwins (8e8d284), class BarlowTwins on one process, and lightly's; waves of 8 x 5."""
    z1, z2 = waves()
    found = BarlowTwins(nn.Identity(), nn.Identity())(batch({"view/1": z1, "view/2": z2})).loss
    found.backward()
    assert found.item() == pytest.approx(0.992913510306, abs=1e-11)
    assert [z1.grad.norm().item(), z2.grad.norm().item()] == pytest.approx([1.59742332815, 32.4656525843], rel=1e-9)
    assert [z1.grad[0, 0].item(), z2.grad[0, 0].item()] == pytest.approx(
        [-0.018649058458, -0.00627086940769], abs=1e-11
    )


def test_scale_multiplies_loss_and_gradient() -> None:
    a, b = torch.randn(2, 5, 2, dtype=torch.float64)
    whole, tenth = barlow_twins(), barlow_twins(scale=0.1)
    for method in (whole, tenth):
        method(batch({"view/1": a, "view/2": b})).loss.backward()
    torch.testing.assert_close(tenth.encoder.weight.grad, 0.1 * whole.encoder.weight.grad)


def test_images_that_look_alike_cost_one_for_each_dimension() -> None:
    same = torch.ones(4, 2, dtype=torch.float64)
    assert loss(same, same) == pytest.approx(2.0, abs=1e-12)


def test_biases_and_batch_norm_have_a_rate_of_their_own() -> None:
    method = BarlowTwins(mlp(3, [4, 4]), mlp(4, [4, 2]))
    optimization = Optimization(name="lars", rate=0.2, no_decay="one_dimensional")
    optimizer = optimization.build(dict(method.named_parameters()), method)
    optimization.set_rates(optimizer, progress().run, progress().run)
    rates = {name: group["lr"] for group in optimizer.param_groups for name in group["names"]}
    assert len(rates) == 12
    for name, parameter in method.named_parameters():
        assert rates[name] == pytest.approx(0.2 if parameter.dim() > 1 else 0.0048)


def test_frozen_biases_are_no_group() -> None:
    method = BarlowTwins(mlp(3, [4, 4]), mlp(4, [4, 2]))
    method.encoder.requires_grad_(False)
    assert {name.split(".")[0] for name in method.groups()} == {"projector"}


def test_both_views_get_gradient() -> None:
    z1, z2 = waves()
    barlow = BarlowTwins(nn.Identity(), nn.Identity())
    barlow(batch({"view/1": z1, "view/2": z2})).loss.backward()
    assert z1.grad.any()
    assert z2.grad.any()


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 rows, and there is 1: use a larger batch"):
        loss(CORNERS[:1], CORNERS[:1])
