"""BYOL: closed forms, order of its moves, no gradient into the target."""

import pytest
import torch
from torch import nn

from lookalike.functional.schedules import Constant, Cosine
from lookalike.methods.byol import BYOL
from methods.fixtures import KEY, QUERY, batch, identity, progress


def byol(**settings) -> BYOL:
    return BYOL(identity(), nn.Identity(), identity(), **settings)


def loss(one, two) -> float:
    return byol()(batch({"view/1": one, "view/2": two})).loss.item()


def test_closed_forms() -> None:
    assert loss(QUERY, KEY) == pytest.approx(1.6, abs=1e-12)  # both cosines 0.6: the sum of 2 - 2 cos
    assert loss(KEY, KEY) == pytest.approx(0.0, abs=1e-12)
    assert loss(KEY, -KEY) == pytest.approx(8.0, abs=1e-12)
    assert loss(KEY, KEY.flip(1)) == pytest.approx(4.0, abs=1e-12)  # orthogonal, as random rows about are: 2 a side


def test_scale_of_predictions_and_targets_does_not_matter() -> None:
    a, b = torch.randn(2, 5, 2, dtype=torch.float64)
    assert loss(3 * a, 0.2 * b) == pytest.approx(loss(a, b), abs=1e-12)
    assert loss(b, a) == pytest.approx(loss(a, b), abs=1e-12)


def test_loss_by_loops() -> None:
    a, b = torch.randn(2, 5, 2, dtype=torch.float64)
    total = 0.0
    for x, y in zip(a, b, strict=True):
        cosine = float(x @ y) / float(x.norm() * y.norm())
        total += 2 * (2 - 2 * cosine)
    assert loss(a, b) == pytest.approx(total / 5, abs=1e-12)


def test_no_gradient_reaches_the_target() -> None:
    method = byol()
    method(batch({"view/1": QUERY, "view/2": KEY})).loss.backward()
    assert method.encoder.weight.grad is not None
    assert method.predictor.weight.grad is not None
    assert all(p.grad is None and not p.requires_grad for p in method.target.parameters())


def test_the_target_moves_after_the_step_and_only_then() -> None:
    method = byol(momentum=Constant(0.996))
    with torch.no_grad():
        method.encoder.weight.zero_()
    method.before_update(progress())
    method.after_update(progress(updated=False), {})
    target = method.target.copies[0].weight
    torch.testing.assert_close(target, torch.eye(2, dtype=torch.float64))
    method.after_update(progress(updated=True), {})
    torch.testing.assert_close(target, 0.996 * torch.eye(2, dtype=torch.float64))


def test_momentum_rises_by_a_cosine() -> None:
    rule = Cosine(0.996, 1.0)
    values = [rule(progress(step).run) for step in (0, 50)]
    assert values == pytest.approx([0.996, 0.998], abs=1e-12)


def test_each_view_has_its_own_batch_statistics() -> None:
    """Joining the views in one forward would normalize them together: another method."""
    norm = nn.BatchNorm1d(2, affine=False, dtype=torch.float64)
    method = BYOL(norm, nn.Identity(), nn.Identity())
    a = torch.randn(6, 2, dtype=torch.float64)
    step = method(batch({"view/1": a, "view/2": 5 * a + 3}))
    assert step.loss.item() == pytest.approx(0.0, abs=1e-4)  # alike once each is normalized by itself


def test_the_target_has_no_predictor() -> None:
    assert len(byol().target.copies) == 2
