"""Alignment and uniformity: closed forms, slow loops, invariances, several processes."""

import math

import pytest
import torch

from functional.joined import demand_joined
from lookalike.functional import alignment, in_batch, uniformity, unit
from lookalike.functional.collectives import rank, world

F64 = torch.float64
SQUARE = torch.tensor([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=F64)


def rows(count: int = 7, width: int = 4) -> torch.Tensor:
    return torch.randn(count, width, dtype=F64)


def directions(x_BD: torch.Tensor) -> list[list[float]]:
    return [[number / math.hypot(*row) for number in row] for row in x_BD.tolist()]


def slow_alignment(x_BD: torch.Tensor, y_BD: torch.Tensor, alpha: float) -> float:
    pairs = zip(directions(x_BD), directions(y_BD), strict=True)
    return math.fsum(math.dist(x, y) ** alpha for x, y in pairs) / len(x_BD)


def slow_uniformity(x_BD: torch.Tensor, t: float) -> float:
    x = directions(x_BD)
    pairs = [math.exp(-t * math.dist(x[i], x[j]) ** 2) for i in range(len(x)) for j in range(i)]
    return math.log(math.fsum(pairs) / len(pairs))


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.5])
def test_alignment_by_loops_and_at_its_ends(alpha):
    x, y = rows(), rows()
    assert alignment(x, y, alpha=alpha).item() == pytest.approx(slow_alignment(x, y, alpha), rel=1e-12)
    assert alignment(x, 3 * x, alpha=alpha).item() == pytest.approx(0, abs=1e-12)
    assert alignment(x, -x, alpha=alpha).item() == pytest.approx(2**alpha, rel=1e-12)


@pytest.mark.parametrize("t", [0.5, 2.0, 9.0])
def test_uniformity_by_loops_and_at_its_ends(t):
    x = rows()
    assert uniformity(x, t=t).item() == pytest.approx(slow_uniformity(x, t), rel=1e-12)
    assert uniformity(torch.ones(5, 3, dtype=F64), t=t).item() == pytest.approx(0, abs=1e-12)
    assert uniformity(SQUARE[[0, 2]], t=t).item() == pytest.approx(-4 * t, rel=1e-12)
    of_square = (4 * math.exp(-2 * t) + 2 * math.exp(-4 * t)) / 6  # four sides, two diagonals
    assert uniformity(SQUARE, t=t).item() == pytest.approx(math.log(of_square), rel=1e-12)


def test_lengths_order_and_a_rotation_do_not_matter():
    x, y = rows(), rows()
    order, (turn, _) = torch.randperm(7), torch.linalg.qr(rows(4, 4))
    for a, b in ((x[order], y[order]), (x @ turn, y @ turn), (x * torch.rand(7, 1), 9 * y), (y, x)):
        torch.testing.assert_close(alignment(a, b, alpha=3.0), alignment(x, y, alpha=3.0), rtol=0, atol=1e-12)
    for other in (x[order], x @ turn, -x, x * torch.rand(7, 1)):
        torch.testing.assert_close(uniformity(other), uniformity(x), rtol=0, atol=1e-12)


def test_finite_differences():
    pair = rows(5, 3).requires_grad_(), rows(5, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: alignment(x, y, alpha=3.0), pair)
    assert torch.autograd.gradcheck(lambda x: uniformity(x, t=1.5), pair[:1])


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_views_that_agree_have_no_gradient(alpha):
    x = unit(rows()).requires_grad_()
    alignment(x, x.detach(), alpha=alpha).backward()
    assert not x.grad.any()


def test_chunks_of_rows_do_not_show(monkeypatch):
    x = rows(33, 5).requires_grad_()
    whole = uniformity(x)
    (slope,) = torch.autograd.grad(whole, x)
    monkeypatch.setattr(in_batch, "SCRATCH", 33 * 8 * 4)  # four rows at a time
    tiled = uniformity(x)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(tiled, x)[0], slope, rtol=0, atol=1e-12)


def test_half_precision_is_computed_in_float32():
    x, y = rows(64, 8), rows(64, 8)
    exact = alignment(x, y).item(), uniformity(x).item()
    found = alignment(x.bfloat16(), y.bfloat16()), uniformity(x.bfloat16())
    assert [value.dtype for value in found] == [torch.float32] * 2
    assert [value.item() for value in found] == pytest.approx(exact, rel=1e-2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert uniformity(x.float()).item() == pytest.approx(exact[1], rel=1e-5)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: uniformity(rows(1)), "that of pairs of rows, and there is 1: use a larger batch"),
        (lambda: uniformity(rows(), t=0.0), r"t is 0\.0: give a number above 0"),
        (lambda: uniformity(rows(), t=math.nan), "t is nan: give a number above 0"),
        (lambda: alignment(rows(), rows(), alpha=0.5), r"alpha is 0\.5: give 1 or more"),
    ],
)
def test_mistakes_are_sentences(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def on_a_rank(x_BD: torch.Tensor, y_BD: torch.Tensor) -> list[torch.Tensor]:
    x, y = (z[rank() :: world()].clone().requires_grad_() for z in (x_BD, y_BD))
    loss = alignment(x, y, alpha=3.0) + 2 * uniformity(x, t=1.5) - uniformity(y)
    return [loss.detach(), *torch.autograd.grad(loss, (x, y))]


@pytest.mark.parametrize(("processes", "batch"), [(2, 6), (2, 7), (3, 7), (3, 2)])
def test_several_processes_equal_the_joined_batch(processes: int, batch: int, gloo) -> None:
    """Gradients averaged as DDP does, those of pairs over two processes included; the last has no row of its own."""
    demand_joined(gloo, processes, on_a_rank, rows(batch), rows(batch))
