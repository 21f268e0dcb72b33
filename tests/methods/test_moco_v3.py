"""MoCo v3: closed forms, a slow loop, the official loss, order of its moves, no gradient into keys."""

import math

import pytest
import torch
from torch import Tensor, nn

from lookalike.functional.in_batch import nt_xent
from lookalike.functional.schedules import Constant
from lookalike.methods.moco_v3 import MoCoV3
from methods.fixtures import batch, identity, progress, rolled, waves

Q = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], dtype=torch.float64)
K = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]], dtype=torch.float64)


def moco_v3(**settings) -> MoCoV3:
    return MoCoV3(identity(), nn.Identity(), identity(), **settings)


def loss(one: Tensor, two: Tensor, **settings) -> float:
    return moco_v3(**settings)(batch({"view/1": one, "view/2": two})).loss.item()


def test_closed_forms() -> None:
    assert loss(Q, K, temperature=0.5) == pytest.approx(0.774098 + 0.801976, abs=1e-6)  # 2 t = 1: both directions
    e = torch.eye(2, dtype=torch.float64)
    assert loss(e, e, temperature=1.0) == pytest.approx(4 * math.log1p(math.exp(-1)), abs=1e-12)


def test_loss_by_loops() -> None:
    a, b = torch.randn(2, 5, 3, dtype=torch.float64)
    total = 0.0
    for queries, keys in ((a, b), (b, a)):
        for i, q in enumerate(queries):
            logits = [float(q @ k) / float(q.norm() * k.norm()) / 0.3 for k in keys]
            total += 2 * 0.3 * (math.log(math.fsum(map(math.exp, logits))) - logits[i]) / 5
    method = MoCoV3(identity(3), nn.Identity(), identity(3), temperature=0.3)
    assert method(batch({"view/1": a, "view/2": b})).loss.item() == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(
    ("temperature", "value", "norms", "firsts"),
    [
        (1.0, 6.55970016175, [0.304316155768, 0.289364026309], [-0.0484155286004, -0.0301456809118]),
        (0.2, 0.98212845144, [0.199050415815, 0.210534951755], [-0.0201838611688, -0.0161414213249]),
    ],
)
def test_loss_and_gradients_are_those_of_the_official_code(temperature, value, norms, firsts) -> None:
    """facebookresearch/moco-v3 (c349e6e), contrastive_loss on one process: queries are waves, keys the rolled waves."""

    class Rolled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return rolled(x)

    z1, z2 = waves()
    method = MoCoV3(nn.Identity(), nn.Identity(), nn.Identity(), temperature=temperature)
    method.momentum_encoder.copies[0] = Rolled()
    found = method(batch({"view/1": z1, "view/2": z2})).loss
    found.backward()
    assert found.item() == pytest.approx(value, abs=1e-10)
    assert [z1.grad.norm().item(), z2.grad.norm().item()] == pytest.approx(norms, abs=1e-10)
    assert [z1.grad[0, 0].item(), z2.grad[0, 0].item()] == pytest.approx(firsts, abs=1e-10)


def test_one_direction_is_simclr_without_negatives_of_the_same_view_and_with_a_frozen_partner() -> None:
    temperature = 0.3
    one = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    two = torch.randn(5, 3, dtype=torch.float64)
    z = nn.functional.normalize(torch.cat([one, two]), dim=1)
    logits = z @ z.T / temperature
    assert nt_xent(one, two, temperature=temperature).item() == pytest.approx(
        nn.functional.cross_entropy(
            logits.masked_fill(torch.eye(10).bool(), -math.inf), torch.arange(10).roll(5)
        ).item(),
        abs=1e-12,
    )
    own_view = torch.block_diag(torch.ones(5, 5), torch.ones(5, 5)).bool()
    simclr = nn.functional.cross_entropy(
        logits.masked_fill(own_view, -math.inf), torch.arange(10).roll(5), reduction="none"
    )
    direction = simclr[:5].mean()
    (expected,) = torch.autograd.grad(direction, one)
    method = MoCoV3(identity(3), nn.Identity(), identity(3), temperature=temperature)
    found = method(batch({"view/1": one, "view/2": two})).loss / (2 * temperature)
    (gradient,) = torch.autograd.grad(found, one)
    other = simclr[5:].mean()
    assert found.item() == pytest.approx(direction.item() + other.item(), abs=1e-12)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)  # the other direction gives its keys none


def test_scale_and_the_order_of_views_and_images_do_not_matter() -> None:
    a, b = torch.randn(2, 5, 2, dtype=torch.float64)
    order = torch.randperm(5)
    for one, two in ((b, a), (3 * a, 0.1 * b), (a[order], b[order])):
        assert loss(one, two) == pytest.approx(loss(a, b), abs=1e-12)


def test_no_gradient_reaches_the_momentum_encoder() -> None:
    method = moco_v3()
    method(batch({"view/1": Q, "view/2": K})).loss.backward()
    assert method.encoder.weight.grad.any()
    assert method.predictor.weight.grad.any()
    assert all(p.grad is None and not p.requires_grad for p in method.momentum_encoder.parameters())
    assert len(method.momentum_encoder.copies) == 2  # no predictor


def test_the_momentum_encoder_moves_before_the_keys_and_only_then() -> None:
    method = moco_v3(momentum=Constant(0.99))
    with torch.no_grad():
        method.encoder.weight.zero_()
    slow = method.momentum_encoder.copies[0].weight
    method.after_update(progress(updated=True), {})
    torch.testing.assert_close(slow, torch.eye(2, dtype=torch.float64))
    method.before_update(progress())
    torch.testing.assert_close(slow, 0.99 * torch.eye(2, dtype=torch.float64))


def test_momentum_rises_by_a_cosine() -> None:
    method = moco_v3()
    assert [method.momentum(progress(step).run) for step in (0, 50)] == pytest.approx([0.99, 0.995], abs=1e-12)


def test_each_view_has_its_own_batch_statistics() -> None:
    norm = nn.BatchNorm1d(2, affine=False, dtype=torch.float64)
    a = torch.randn(6, 2, dtype=torch.float64)
    apart = MoCoV3(norm, nn.Identity(), nn.Identity())(batch({"view/1": a, "view/2": 5 * a + 3})).loss.item()
    alike = MoCoV3(norm, nn.Identity(), nn.Identity())(batch({"view/1": a, "view/2": a})).loss.item()
    assert apart == pytest.approx(alike, abs=1e-4)


def test_a_batch_of_one_has_nothing_to_learn() -> None:
    method = moco_v3()
    step = method(batch({"view/1": Q[2:], "view/2": K[:1]}))
    step.loss.backward()
    assert step.loss.item() == 0.0
    assert not method.encoder.weight.grad.any()
