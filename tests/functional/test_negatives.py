"""Decoupled and debiased contrast: closed forms, slow loops, published losses, invariances, chunks, processes."""

import math

import jaxtyping
import pytest
import torch

from functional.joined import demand_joined
from lookalike.functional import debiased, decoupled, in_batch, nt_xent
from lookalike.functional.collectives import rank, world

F64 = torch.float64
E2 = torch.eye(2, dtype=F64)


def rows(count: int = 5, width: int = 4) -> torch.Tensor:
    return torch.randn(count, width, dtype=F64)


def similarities(z1: torch.Tensor, z2: torch.Tensor, t: float) -> list[tuple[float, list[float]]]:
    """Of each view: the positive's logit and those of the negatives, by loops."""
    z = [[x / math.sqrt(math.fsum(y * y for y in row)) for x in row] for row in (*z1.tolist(), *z2.tolist())]
    found, images = [], len(z1)
    for a in range(2 * images):
        logits = [math.fsum(x * y for x, y in zip(z[a], other, strict=True)) / t for other in z]
        apart = [logit for c, logit in enumerate(logits) if c % images != a % images]
        found.append((logits[(a + images) % (2 * images)], apart))
    return found


def slow_decoupled(z1, z2, t: float, sigma: float | None = None) -> float:
    views, images, total = similarities(z1, z2, t), len(z1), 0.0
    for a, (positive, apart) in enumerate(views):
        weight = 1.0
        if sigma is not None:
            chances = [math.exp(views[i][0] * t / sigma) for i in range(images)]
            weight = 2 - images * chances[a % images] / math.fsum(chances)
        total += math.log(math.fsum(map(math.exp, apart))) - weight * positive
    return total / len(views)


def slow_debiased(z1, z2, t: float, prior: float) -> float:
    total, views = 0.0, similarities(z1, z2, t)
    for positive, apart in views:
        p, s, m = math.exp(positive), math.fsum(map(math.exp, apart)), len(apart)
        n = max((s - prior * m * p) / (1 - prior), m * math.exp(-1 / t))
        total -= math.log(p / (p + n))
    return total / len(views)


class TestDecoupled:
    def test_two_orthogonal_images_with_equal_views(self):
        """NT-Xent has log(1 + 2 / e); without the positive below the line, log 2 - 1."""
        assert decoupled(E2, E2, temperature=1.0).item() == pytest.approx(math.log(2) - 1, abs=1e-12)
        assert decoupled(E2, E2, temperature=1.0, reduction="sum").item() == pytest.approx(
            2 * math.log(2) - 2, abs=1e-12
        )
        assert decoupled(E2, E2, temperature=1.0, sigma=0.5).item() == pytest.approx(math.log(2) - 1, abs=1e-12)

    @pytest.mark.parametrize("sigma", [None, 0.5, 2.0])
    @pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
    def test_plain_loops(self, temperature, sigma):
        z1, z2 = rows(), rows()
        found = decoupled(z1, z2, temperature=temperature, sigma=sigma).item()
        assert found == pytest.approx(slow_decoupled(z1, z2, temperature, sigma), abs=1e-11)

    @pytest.mark.parametrize("scratch", [1, 8 * 10 * 3, 2**24])  # one row, three rows, all rows at a time
    @pytest.mark.parametrize("settings", [{}, {"sigma": 0.5, "weight_gradient": True}])
    def test_finite_differences(self, settings, scratch, monkeypatch):
        monkeypatch.setattr(in_batch, "SCRATCH", scratch)
        pair = rows().requires_grad_(), rows().requires_grad_()
        assert torch.autograd.gradcheck(lambda a, b: decoupled(a, b, temperature=0.3, **settings), pair)

    def test_weights_pass_no_gradient_unless_asked(self):
        """Their value is the same; without it each positive is pulled as strongly as its weight says."""
        z1, z2 = rows().requires_grad_(), rows()
        still, moving = (decoupled(z1, z2, temperature=0.3, sigma=0.5, weight_gradient=g) for g in (False, True))
        assert still.item() == moving.item()
        (one,), (other,) = torch.autograd.grad(still, z1), torch.autograd.grad(moving, z1)
        assert not torch.allclose(one, other)

    def test_invariances(self):
        z1, z2, order = rows(), rows(), torch.randperm(5)
        for settings in ({}, {"sigma": 0.5}):
            loss = decoupled(z1, z2, temperature=0.1, **settings)
            for a, b in ((z2, z1), (z1[order], z2[order]), (3 * z1, 0.1 * z2)):
                torch.testing.assert_close(decoupled(a, b, temperature=0.1, **settings), loss, rtol=0, atol=1e-12)

    def test_weights_of_equal_pairs_are_one(self):
        z = rows()
        plain, weighted = (decoupled(z, z, temperature=0.1, sigma=s).item() for s in (None, 0.5))
        assert plain == pytest.approx(weighted, abs=1e-12)

    def test_mistakes_are_sentences(self):
        with pytest.raises(ValueError, match="a single image has no negatives: use a larger batch"):
            decoupled(rows(1), rows(1), temperature=0.1)
        with pytest.raises(ValueError, match="temperature is 0"):
            decoupled(rows(), rows(), temperature=0.0)
        with pytest.raises(ValueError, match=r"sigma is -1\.0"):
            decoupled(rows(), rows(), temperature=0.1, sigma=-1.0)
        jaxtyping.config.update("jaxtyping_disable", True)  # as in a user's script
        try:
            with pytest.raises(ValueError, match="reduction is 'tf_sum'"):
                decoupled(rows(), rows(), temperature=0.1, reduction="tf_sum")
        finally:
            jaxtyping.config.update("jaxtyping_disable", False)


class TestDebiased:
    def test_two_orthogonal_images_with_equal_views(self):
        """N = (2 - 0.1 x 2 e) / 0.9 = 1.618160, loss -log(e / (e + N)) = 0.467054."""
        loss = debiased(E2, E2, temperature=1.0, prior=0.1).item()
        assert loss == pytest.approx(0.467054, abs=1e-6)
        assert math.e * (math.exp(loss) - 1) == pytest.approx(1.618160, abs=1e-6)
        assert debiased(E2, E2, temperature=1.0, prior=0.0).item() == pytest.approx(0.551445, abs=1e-6)

    @pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0])
    def test_without_a_prior_it_is_nt_xent(self, temperature):
        z1, z2 = rows().requires_grad_(), rows().requires_grad_()
        mine, other = debiased(z1, z2, temperature=temperature, prior=0.0), nt_xent(z1, z2, temperature=temperature)
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
        for a, b in zip(torch.autograd.grad(mine, (z1, z2)), torch.autograd.grad(other, (z1, z2)), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("prior", [0.05, 0.1, 0.5])
    @pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5])
    def test_plain_loops(self, temperature, prior):
        """At small temperatures and large priors most rows are at the floor."""
        z1 = rows()
        z2 = z1 + 0.5 * rows()
        found = debiased(z1, z2, temperature=temperature, prior=prior).item()
        assert found == pytest.approx(slow_debiased(z1, z2, temperature, prior), abs=1e-11)

    @pytest.mark.parametrize("prior", [0.1, 0.9])
    def test_finite_differences(self, prior):
        pair = rows().requires_grad_(), rows().requires_grad_()
        assert torch.autograd.gradcheck(lambda a, b: debiased(a, b, temperature=0.5, prior=prior), pair)

    def test_at_the_floor_only_the_positive_learns_and_gradients_are_finite(self):
        """There N is M e^(-1/t), whatever the negatives are."""
        z1, z2 = rows(), rows()
        z2 = (z1 + 0.2 * z2).requires_grad_()
        found = debiased(z1, z2, temperature=0.5, prior=0.9)
        positive = torch.cosine_similarity(z1, z2) / 0.5
        expected = -torch.log(positive.exp() / (positive.exp() + 8 * math.exp(-2))).mean()
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(*(torch.autograd.grad(loss, z2)[0] for loss in (found, expected)))
        z1, z2 = E2.float().clone().requires_grad_(), E2.float()
        loss = debiased(z1, z2, temperature=0.01, prior=0.1)
        loss.backward()
        assert math.isfinite(loss.item())
        assert z1.grad.isfinite().all()

    def test_mistakes_are_sentences(self):
        with pytest.raises(ValueError, match="a single image has no negatives"):
            debiased(rows(1), rows(1), temperature=0.1, prior=0.1)
        for prior in (-0.1, 1.0):
            with pytest.raises(ValueError, match="from 0 to below 1"):
                debiased(rows(), rows(), temperature=0.1, prior=prior)


def on_a_rank(z1_BD: torch.Tensor, z2_BD: torch.Tensor) -> list[torch.Tensor]:
    a, b = (z[rank() :: world()].clone().requires_grad_() for z in (z1_BD, z2_BD))
    loss = decoupled(a, b, temperature=0.2, sigma=0.5, weight_gradient=True)
    loss = loss + 2 * debiased(a, b, temperature=0.5, prior=0.1)
    return [loss.detach(), *torch.autograd.grad(loss, (a, b))]


@pytest.mark.parametrize(("processes", "batch"), [(2, 6), (2, 7), (3, 7)])
def test_several_processes_equal_the_joined_batch(processes: int, batch: int, gloo) -> None:
    """Gradients averaged as DDP does, cross-rank terms and weights included."""
    demand_joined(gloo, processes, on_a_rank, rows(batch), rows(batch))
