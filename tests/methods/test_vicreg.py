"""VICReg: closed forms in both modes, a slow loop, the official losses, both branches."""

import math

import pytest
import torch
from torch import Tensor, nn

from lookalike.methods.vicreg import VICReg
from methods.fixtures import batch, identity, waves

CORNERS = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
TWICE = CORNERS[:, [0, 0]]  # both dimensions say the same


def loss(one: Tensor, two: Tensor, **settings) -> float:
    return VICReg(identity(one.shape[1]), nn.Identity(), **settings)(batch({"view/1": one, "view/2": two})).loss.item()


@pytest.mark.parametrize(
    ("one", "two", "settings", "expected"),
    [
        (CORNERS, CORNERS, {}, 0.0),
        (CORNERS, -CORNERS, {}, 25 * 4.0),
        (CORNERS, -CORNERS, {"distance": "norm"}, 25 * 8.0),  # D times as much
        (TWICE, TWICE, {}, 2 * (4 / 3) ** 2),  # covariance of both branches
        (torch.ones(5, 2), torch.ones(5, 2), {}, 49.5),  # variance 0.99 in both branches, added
        (torch.ones(5, 2), torch.ones(5, 2), {"branches": "mean"}, 24.75),
    ],
)
def test_closed_forms(one, two, settings, expected) -> None:
    assert loss(one.double(), two.double(), **settings) == pytest.approx(expected, abs=1e-9)


def test_loss_by_loops() -> None:
    a, b = 0.7 * torch.randn(2, 6, 3, dtype=torch.float64)
    total = 2 * sum(float(x - y) ** 2 for x, y in zip(a.flatten(), b.flatten(), strict=True)) / 18
    for z in (a, b):
        centered = [[float(x) - float(column.mean()) for x in column] for column in z.T]
        for i, one in enumerate(centered):
            for j, two in enumerate(centered):
                shared = math.fsum(x * y for x, y in zip(one, two, strict=True)) / 5
                total += 3 * max(0.0, 1 - math.sqrt(shared + 1e-4)) / 3 if i == j else 5 * shared**2 / 3
    assert loss(a, b, invariance=2.0, variance=3.0, covariance=5.0) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(
    ("branches", "value", "norms", "firsts"),
    [
        ("mean", 12.1573717258, [3.1745329273, 2.5963251458], [-0.736077566185, -0.0869369834288]),
        ("sum", 20.0399985423, [4.28861301331, 3.38660528393], [-1.22761524287, -0.605333162371]),
    ],
)
def test_loss_and_gradients_are_those_of_published_code(branches, value, norms, firsts) -> None:
    """mean: facebookresearch/vicreg (4e12602), class VICReg on one process, and lightly; sum: vturrisi/solo-learn."""
    z1, z2 = waves()
    found = VICReg(nn.Identity(), nn.Identity(), branches=branches)(batch({"view/1": z1, "view/2": z2})).loss
    found.backward()
    assert found.item() == pytest.approx(value, abs=1e-9)
    assert [z1.grad.norm().item(), z2.grad.norm().item()] == pytest.approx(norms, abs=1e-9)
    assert [z1.grad[0, 0].item(), z2.grad[0, 0].item()] == pytest.approx(firsts, abs=1e-9)


def test_terms_are_logged_and_add_up() -> None:
    a, b = torch.randn(2, 6, 3, dtype=torch.float64)
    step = VICReg(nn.Identity(), nn.Identity(), covariance=4.0)(batch({"view/1": a, "view/2": b}))
    terms = {name: value.item() for name, value in step.metrics.items()}
    assert 25 * terms["invariance"] + 25 * terms["variance"] + 4 * terms["covariance"] == pytest.approx(
        step.loss.item()
    )


def test_a_common_offset_and_the_order_of_views_and_images_do_not_matter() -> None:
    a, b = torch.randn(2, 6, 3, dtype=torch.float64)
    order = torch.randperm(6)
    for one, two in ((b, a), (a + 3, b + 3), (a[order], b[order])):
        assert loss(one, two) == pytest.approx(loss(a, b), abs=1e-10)


def test_variance_above_one_is_left_alone() -> None:
    wide = (3 * CORNERS).requires_grad_()
    VICReg(nn.Identity(), nn.Identity(), covariance=0.0)(batch({"view/1": wide, "view/2": wide})).loss.backward()
    assert not wide.grad.any()


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 rows, and there is 1: use a larger batch"):
        loss(CORNERS[:1], CORNERS[:1])
