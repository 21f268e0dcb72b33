"""SimSiam: closed forms, a slow loop, the official loss, no gradient into targets, the predictor's constant rate."""

import pytest
import torch
from torch import Tensor, nn

from lookalike.functional.schedules import Clock, Warmup
from lookalike.methods.simsiam import SimSiam
from lookalike.training.optimizers import Optimization
from methods.fixtures import KEY, QUERY, batch, identity, rolled, waves


class Rolled(nn.Module):
    """Predicts by a formula without weights."""

    def forward(self, x: Tensor) -> Tensor:
        return rolled(x)


def simsiam(**settings) -> SimSiam:
    return SimSiam(identity(), nn.Identity(), identity(), **settings)


def loss(one: Tensor, two: Tensor) -> float:
    return simsiam()(batch({"view/1": one, "view/2": two})).loss.item()


def test_closed_forms() -> None:
    assert loss(KEY, KEY) == pytest.approx(-1.0, abs=1e-12)
    assert loss(KEY, KEY.flip(1)) == pytest.approx(0.0, abs=1e-12)  # orthogonal
    assert loss(KEY, -KEY) == pytest.approx(1.0, abs=1e-12)
    assert loss(QUERY, KEY) == pytest.approx(-0.6, abs=1e-12)


def test_scale_of_predictions_and_targets_does_not_matter_nor_does_the_order_of_views() -> None:
    a, b = torch.randn(2, 5, 2, dtype=torch.float64)
    assert loss(10 * a, 0.2 * b) == pytest.approx(loss(a, b), abs=1e-12)
    assert loss(b, a) == pytest.approx(loss(a, b), abs=1e-12)


def test_loss_by_loops() -> None:
    a, b = torch.randn(2, 5, 2, dtype=torch.float64)
    method = SimSiam(nn.Identity(), nn.Identity(), Rolled())
    total = 0.0
    for one, two in ((a, b), (b, a)):
        for p, z in zip(rolled(one), two, strict=True):
            total -= float(p @ z) / float(p.norm() * z.norm()) / 2
    found = method(batch({"view/1": a, "view/2": b})).loss
    assert found.item() == pytest.approx(total / 5, abs=1e-12)


def test_loss_and_gradients_are_those_of_the_official_code() -> None:
    """facebookresearch/simsiam (a7bc177), main_simsiam.py; p = rolled(z), z the waves of 8 rows and 5 columns."""
    z1, z2 = waves()
    found = SimSiam(nn.Identity(), nn.Identity(), Rolled())(batch({"view/1": z1, "view/2": z2})).loss
    found.backward()
    assert found.item() == pytest.approx(-0.581391596219, abs=1e-11)
    assert [z1.grad.norm().item(), z2.grad.norm().item()] == pytest.approx(
        [0.0872333332019, 0.0983567965565], abs=1e-11
    )
    assert [z1.grad[0, 0].item(), z2.grad[0, 0].item()] == pytest.approx([0.00412620126496, 0.0126021281949], abs=1e-11)


def test_no_gradient_reaches_the_encoder_as_a_target() -> None:
    """A predictor that ignores its input cuts the only way that is left."""
    deaf = nn.Linear(2, 2, dtype=torch.float64)
    nn.init.zeros_(deaf.weight)
    method = SimSiam(identity(), nn.Identity(), deaf)
    method(batch({"view/1": QUERY, "view/2": KEY})).loss.backward()
    assert not method.encoder.weight.grad.any()
    assert deaf.bias.grad.any()


def test_the_predictor_trains_at_the_base_rate_while_others_follow_the_schedule() -> None:
    optimization = Optimization(name="sgd", rate=0.1, schedule=Warmup(epochs=0.0))
    late = Clock(step=75, steps=100, epoch=7.5, epochs=10.0)
    low = 0.1 * (1 - 2**-0.5) / 2  # cosine, three quarters through
    for constant, expected in ((True, 0.1), (False, low)):
        method = simsiam(constant_predictor_rate=constant)
        optimizer = optimization.build(dict(method.named_parameters()), method)
        optimization.set_rates(optimizer, late, late)
        rates = {name: group["lr"] for group in optimizer.param_groups for name in group["names"]}
        assert rates["predictor.weight"] == pytest.approx(expected)
        assert rates["encoder.weight"] == pytest.approx(low)


def test_each_view_has_its_own_batch_statistics() -> None:
    norm = nn.BatchNorm1d(2, affine=False, dtype=torch.float64)
    a = torch.randn(6, 2, dtype=torch.float64)
    step = SimSiam(norm, nn.Identity(), nn.Identity())(batch({"view/1": a, "view/2": 5 * a + 3}))
    assert step.loss.item() == pytest.approx(-1.0, abs=1e-4)  # alike once each is normalized by itself


def test_one_image_is_enough_but_for_batch_norm() -> None:
    assert loss(QUERY, QUERY) == pytest.approx(-1.0, abs=1e-12)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        SimSiam(nn.BatchNorm1d(2, dtype=torch.float64), nn.Identity(), identity())(
            batch({"view/1": QUERY, "view/2": KEY})
        )
