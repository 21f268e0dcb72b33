"""Margins: closed forms, the authors' numbers, slopes by autograd, what is refused."""

import math

import pytest
import torch

from lookalike.functional.margin import Margin
from lookalike.functional.sampled import drawn_contrast
from methods.fixtures import keyed

F64 = torch.float64
QUERY = torch.tensor([[1.0, 0.0, 0.0]], dtype=F64)


def at_cosines(*cosines: float) -> torch.Tensor:
    """Rows whose products with the query are these."""
    return torch.tensor([[c, math.sqrt(1 - c * c), 0.0] for c in cosines], dtype=F64)


@pytest.mark.parametrize(("size", "expected"), [(0.0, 1.806356), (-0.5, 0.349012), (0.5, 4.142932)])
def test_margin_nce_of_a_positive_at_a_fifth_and_negatives_at_a_half_and_a_tenth(size, expected) -> None:
    """log(1 + (e^(0.5/t) + e^(0.1/t)) / e^((0.2 - m)/t)) at t = 0.2."""
    found = drawn_contrast(
        QUERY,
        at_cosines(0.2, 0.5, 0.1),
        torch.tensor([0]),
        torch.tensor([[1, 2]]),
        temperature=0.2,
        margin=Margin(size),
    )
    assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["cosine", "arc"])
def test_the_loss_grows_with_the_margin(kind) -> None:
    q, bank = keyed("x", 7), keyed("bank", 35)
    drawn = torch.arange(84).reshape(7, 12) * 11 % 35
    losses = [
        drawn_contrast(q, bank, torch.arange(7), drawn, temperature=0.2, margin=Margin(size / 10, kind)).item()
        for size in range(-12, 13)
    ]
    assert losses == sorted(losses)
    assert len(set(losses)) == len(losses)


def test_a_margin_of_nothing_changes_nothing() -> None:
    c = torch.linspace(-1, 1, 21, dtype=F64)
    for kind in ("cosine", "arc"):
        phi, slope = Margin(0.0, kind).logits(c / 0.2, 0.2)
        torch.testing.assert_close(phi, c / 0.2)
        torch.testing.assert_close(slope, torch.ones_like(c))


@pytest.mark.parametrize("size", [-2.0, -0.5, 0.3, 1.5])
def test_an_arc_is_added_to_the_angle_and_a_line_beyond(size) -> None:
    for angle in torch.linspace(0.05, 3.1, 40, dtype=F64).tolist():
        found, slope = Margin(size, "arc").logits(torch.tensor([math.cos(angle) / 0.2], dtype=F64), 0.2)
        inside = 0 < angle + size < math.pi
        expected = math.cos(angle + size) if inside else math.cos(angle) - abs(size) * math.sin(size)
        assert found.item() * 0.2 == pytest.approx(expected, abs=1e-12)
        assert slope.item() == pytest.approx(math.sin(angle + size) / math.sin(angle) if inside else 1.0, abs=1e-9)


def test_gradients_by_autograd_on_the_written_out_loss() -> None:
    bank = keyed("bank", 35)
    index, drawn = torch.arange(7), torch.arange(84).reshape(7, 12) * 11 % 35
    for margin in (Margin(-0.5), Margin(-0.4, "arc"), Margin(0.6, "arc")):
        q, same = keyed("x", 7).requires_grad_(), keyed("x", 7).requires_grad_()
        drawn_contrast(q, bank, index, drawn, temperature=0.2, margin=margin).backward()
        c = (same * bank[index]).sum(1)
        angle = c.acos() + margin.size
        arc = torch.where((angle > 0) & (angle < math.pi), angle.cos(), c - abs(margin.size) * math.sin(margin.size))
        first = c - margin.size if margin.measure == "cosine" else arc
        logits = torch.cat([first[:, None], torch.einsum("bd,bkd->bk", same, bank[drawn])], 1) / 0.2
        torch.nn.functional.cross_entropy(logits, torch.zeros(7, dtype=torch.int64)).backward()
        torch.testing.assert_close(q.grad, same.grad, rtol=1e-9, atol=1e-11)


def test_an_arc_has_a_finite_slope_where_query_and_positive_are_one() -> None:
    _, slope = Margin(0.5, "arc").logits(torch.tensor([1.0 / 0.2]), 0.2)
    assert slope.isfinite().all()


def test_an_arc_of_more_than_half_a_turn_is_refused() -> None:
    with pytest.raises(ValueError, match="give radians from -pi to pi"):
        Margin(3.5, "arc")
