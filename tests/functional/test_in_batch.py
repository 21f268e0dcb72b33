"""Contrast within the batch: closed forms, a slow oracle, invariances, chunks, several processes."""

import math

import jaxtyping
import pytest
import torch

from lookalike.functional import contrast, in_batch, in_batch_contrast, nt_xent, soft_contrast, unit
from lookalike.functional.collectives import rank, world

F64 = torch.float64


def rows(count: int, width: int, dtype: torch.dtype = F64) -> torch.Tensor:
    return torch.randn(count, width, dtype=F64).to(dtype)


def gradients(loss: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, inputs))


def slow_nt_xent(z1: list[list[float]], z2: list[list[float]], t: float) -> list[float]:
    """Plain loops: row losses of view 1, then of view 2."""
    z = [[x / math.sqrt(math.fsum(y * y for y in row)) for x in row] for row in (*z1, *z2)]
    losses = []
    for i in range(len(z)):
        partner = (i + len(z1)) % len(z)
        logits = {j: math.fsum(a * b for a, b in zip(z[i], z[j], strict=True)) / t for j in range(len(z)) if j != i}
        losses.append(math.log(math.fsum(map(math.exp, logits.values()))) - logits[partner])
    return losses


def dense_nt_xent(z1_BD: torch.Tensor, z2_BD: torch.Tensor, t: float) -> torch.Tensor:
    z = unit(torch.cat([z1_BD, z2_BD]))
    logits = (z @ z.T / t).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    return torch.nn.functional.cross_entropy(logits, torch.arange(len(z)).roll(len(z1_BD)))


class TestNTXent:
    @pytest.mark.parametrize(("temperature", "loss"), [(1.0, 0.551445), (0.5, 0.239545)])
    def test_two_orthogonal_images_with_equal_views(self, temperature, loss):
        """ln(1 + 2 e^(-1/t))."""
        e = torch.eye(2, dtype=F64)
        assert nt_xent(e, e, temperature=temperature).item() == pytest.approx(loss, abs=1e-6)
        assert loss == pytest.approx(math.log1p(2 * math.exp(-1 / temperature)), abs=1e-6)

    def test_four_vectors(self):
        z1 = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=F64)
        z2 = torch.tensor([[0.6, 0.8], [0.8, 0.6]], dtype=F64)
        rows_by_hand = [1.027123, 1.027123, 1.514304, 1.514304]
        assert slow_nt_xent(z1.tolist(), z2.tolist(), 0.5) == pytest.approx(rows_by_hand, abs=1e-6)
        assert nt_xent(z1, z2, temperature=0.5).item() == pytest.approx(1.270714, abs=1e-6)
        assert nt_xent(z1, z2, temperature=0.5, reduction="tf_sum").item() == pytest.approx(2.541428, abs=1e-6)

    @pytest.mark.parametrize("batch", [1, 2, 512])
    def test_equal_vectors_give_the_log_of_the_candidates(self, batch):
        z = rows(1, 5).expand(batch, 5)
        assert nt_xent(z, z, temperature=0.1).item() == pytest.approx(math.log(2 * batch - 1), abs=1e-12)

    @pytest.mark.parametrize("temperature", [0.01, 0.1, 0.5])
    def test_plain_loops(self, temperature):
        z1, z2 = rows(5, 4), rows(5, 4)
        losses = slow_nt_xent(z1.tolist(), z2.tolist(), temperature)
        assert nt_xent(z1, z2, temperature=temperature).item() == pytest.approx(sum(losses) / 10, abs=1e-12)

    @pytest.mark.parametrize("scratch", [1, 8 * 30 * 7, 2**24])  # one row, seven rows, all rows at a time
    @pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
    def test_both_gradients_equal_the_full_matrix(self, temperature, scratch, monkeypatch):
        monkeypatch.setattr(in_batch, "SCRATCH", scratch)
        z1, z2 = rows(15, 6).requires_grad_(), rows(15, 6).requires_grad_()
        found, expected = nt_xent(z1, z2, temperature=temperature), dense_nt_xent(z1, z2, temperature)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradients(found, z1, z2), gradients(expected, z1, z2), rtol=0, atol=1e-12)

    def test_finite_differences(self):
        pair = rows(3, 4).requires_grad_(), rows(3, 4).requires_grad_()
        assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, temperature=0.3), pair)
        assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, temperature=0.3, reduction="tf_sum"), pair)

    def test_invariances(self):
        z1, z2 = rows(7, 5), rows(7, 5)
        loss, order = nt_xent(z1, z2, temperature=0.1), torch.randperm(7)
        torch.testing.assert_close(nt_xent(z2, z1, temperature=0.1), loss, rtol=0, atol=1e-13)
        torch.testing.assert_close(nt_xent(z1[order], z2[order], temperature=0.1), loss, rtol=0, atol=1e-13)
        scales = torch.logspace(-3, 3, 7, dtype=F64)[:, None]
        torch.testing.assert_close(nt_xent(z1 * scales, 50 * z2, temperature=0.1), loss, rtol=0, atol=1e-13)

    def test_without_negatives_there_is_nothing_to_learn(self):
        z1, z2 = rows(1, 5).requires_grad_(), rows(1, 5).requires_grad_()
        loss = nt_xent(z1, z2, temperature=0.1)
        assert loss.item() == 0.0
        assert all(not g.any() for g in gradients(loss, z1, z2))

    def test_float32_and_half_precision(self):
        z1, z2 = rows(32, 16), rows(32, 16)
        exact = nt_xent(z1, z2, temperature=0.1).item()
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)):
            a, b = z1.to(dtype).requires_grad_(), z2.to(dtype).requires_grad_()
            loss = nt_xent(a, b, temperature=0.1)
            loss.backward()
            assert loss.dtype == torch.float32
            assert loss.item() == pytest.approx(exact, rel=tolerance)
            assert a.grad is not None
            assert a.grad.dtype == dtype
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = nt_xent(z1.float(), z2.float(), temperature=0.1)
        assert inside.item() == pytest.approx(exact, rel=1e-5)

    def test_a_small_loss_keeps_its_digits_in_float32(self):
        """Orthogonal images at t = 0.05: 2 e^-20 each, below the resolution of their logits."""
        e = torch.eye(2)
        assert nt_xent(e, e, temperature=0.05).item() == pytest.approx(2 * math.exp(-20), rel=1e-4)

    def test_mistakes_are_sentences(self):
        with pytest.raises(ValueError, match="temperature is 0"):
            nt_xent(rows(2, 3), rows(2, 3), temperature=0.0)
        jaxtyping.config.update("jaxtyping_disable", True)  # as in a user's script
        try:
            with pytest.raises(ValueError, match="reduction is 'sum'"):
                nt_xent(rows(2, 3), rows(2, 3), temperature=0.1, reduction="sum")
        finally:
            jaxtyping.config.update("jaxtyping_disable", False)


class TestInBatchContrast:
    def test_qk_example(self):
        """2 t x cross-entropy of MoCo v3: 0.774098 at t = 0.5; the transposed matrix is the other direction."""
        q = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], dtype=F64)
        k = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]], dtype=F64)
        assert 2 * 0.5 * in_batch_contrast(q, k, temperature=0.5).item() == pytest.approx(0.774098, abs=1e-6)
        assert in_batch_contrast(k, q, temperature=0.5).item() == pytest.approx(0.801976, abs=1e-6)

    @pytest.mark.parametrize("scratch", [1, 8 * 9 * 2, 2**24])
    def test_both_gradients_equal_the_full_matrix(self, scratch, monkeypatch):
        monkeypatch.setattr(in_batch, "SCRATCH", scratch)
        q, k = rows(9, 4).requires_grad_(), rows(9, 4).requires_grad_()
        found = in_batch_contrast(q, k, temperature=0.2)
        expected = torch.nn.functional.cross_entropy(q @ k.T / 0.2, torch.arange(9))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradients(found, q, k), gradients(expected, q, k), rtol=0, atol=1e-12)

    def test_frozen_keys_equal_the_engine_for_frozen_keys(self):
        q, k = unit(rows(9, 4)).requires_grad_(), unit(rows(9, 4))
        found = in_batch_contrast(q, k, temperature=0.2)
        own = torch.eye(9, dtype=torch.bool)
        by_index = contrast(q, k, torch.arange(9), temperature=0.2).loss
        beside = soft_contrast(q, positive=k, keys=k, mask=own, temperature=0.2).loss
        slope = gradients(found, q)
        for other in (by_index, beside):
            torch.testing.assert_close(found, other, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(slope, gradients(other, q), rtol=0, atol=1e-12)
        assert k.grad is None

    def test_both_directions_of_two_trained_sides_are_clip(self):
        q, k = unit(rows(9, 4)).requires_grad_(), unit(rows(9, 4)).requires_grad_()
        found = (in_batch_contrast(q, k, temperature=0.1) + in_batch_contrast(k, q, temperature=0.1)) / 2
        logits, own = q @ k.T / 0.1, torch.arange(9)
        expected = (
            torch.nn.functional.cross_entropy(logits, own) + torch.nn.functional.cross_entropy(logits.T, own)
        ) / 2
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradients(found, q, k), gradients(expected, q, k), rtol=0, atol=1e-12)

    def test_nt_xent_without_same_view_negatives_is_one_direction(self):
        """Of NT-Xent's candidates, drop the rows of the own view and freeze the partner's side."""
        z1, z2 = unit(rows(6, 4)).requires_grad_(), unit(rows(6, 4))
        logits = torch.cat([z2 @ z1.T, z1 @ z1.T], 0)[:6].T / 0.1
        expected = torch.nn.functional.cross_entropy(logits, torch.arange(6))
        torch.testing.assert_close(in_batch_contrast(z1, z2, temperature=0.1), expected, rtol=1e-12, atol=1e-12)


def nt_xent_on_a_rank(z1_BD: torch.Tensor, z2_BD: torch.Tensor, reduction: str) -> list[torch.Tensor]:
    a, b = (z[rank() :: world()].clone().requires_grad_() for z in (z1_BD, z2_BD))
    loss = nt_xent(a, b, temperature=0.2, reduction=reduction)
    return [loss.detach(), *gradients(loss, a, b)]


def in_batch_on_a_rank(q_BD: torch.Tensor, k_BD: torch.Tensor) -> list[torch.Tensor]:
    q, k = (x[rank() :: world()].clone().requires_grad_() for x in (q_BD, k_BD))
    loss = in_batch_contrast(q, k, temperature=0.2)
    return [loss.detach(), *gradients(loss, q, k)]


def shared_weight(x_BD: torch.Tensor, weight_DE: torch.Tensor) -> list[torch.Tensor]:
    """The gradient of a layer that every rank holds, before DDP averages it."""
    weight = weight_DE.clone().requires_grad_()
    x_bD = x_BD[rank() :: world()]
    loss = nt_xent(x_bD @ weight, (x_bD + 1) @ weight, temperature=0.2)
    return [loss.detach(), *gradients(loss, weight)]


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("batch", [6, 7])
class TestSeveralProcesses:
    """Gradients averaged as DDP does are those of the joined batch, cross-rank terms included."""

    def check(self, answers: list[list[torch.Tensor]], expected: list[torch.Tensor]) -> None:
        ranks = len(answers)
        for r, (loss, *slopes) in enumerate(answers):
            torch.testing.assert_close(loss, expected[0], rtol=1e-10, atol=1e-10)
            for slope, whole in zip(slopes, expected[1:], strict=True):
                torch.testing.assert_close(slope / ranks, whole[r::ranks], rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("reduction", ["mean", "tf_sum"])
    def test_nt_xent(self, gloo, processes, batch, reduction):
        pair = rows(batch, 5), rows(batch, 5)
        answers = gloo.run(processes, nt_xent_on_a_rank, *pair, reduction)
        self.check(answers, nt_xent_on_a_rank(*pair, reduction))

    def test_in_batch_contrast(self, gloo, processes, batch):
        pair = rows(batch, 5), rows(batch, 5)
        self.check(gloo.run(processes, in_batch_on_a_rank, *pair), in_batch_on_a_rank(*pair))

    def test_gradient_of_a_shared_layer(self, gloo, processes, batch):
        x_BD, weight = rows(batch, 5), rows(5, 4)
        answers, expected = gloo.run(processes, shared_weight, x_BD, weight), shared_weight(x_BD, weight)
        average = torch.stack([slope for _, slope in answers]).mean(0)
        torch.testing.assert_close(average, expected[1], rtol=1e-10, atol=1e-10)
