"""The KL divergence: closed forms, one value and three gradients."""

import math

import jaxtyping
import pytest
import torch

from lookalike.functional.divergence import kl_divergence

CHOICES = ("entropy", "first", "none")
F64 = torch.float64


def logits(rows: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.randn(2, rows, 5, dtype=F64, generator=generator)
    return one.requires_grad_(), other.requires_grad_()


def gradients(one: torch.Tensor, other: torch.Tensor, choice: str) -> list[torch.Tensor | None]:
    value = kl_divergence(one.log_softmax(1), other.log_softmax(1), stop_gradient=choice).sum()
    return list(torch.autograd.grad(value, [one, other], allow_unused=True))


@pytest.mark.parametrize("choice", CHOICES)
def test_closed_form(choice):
    """Rows of I against [[.6, .8], [-.8, .6]] and back: 0.261216 and 0.302013."""
    a, b = torch.eye(2, dtype=F64), torch.tensor([[0.6, 0.8], [-0.8, 0.6]], dtype=F64)
    found = kl_divergence((a @ b.T).log_softmax(1), (b @ a.T).log_softmax(1), stop_gradient=choice)
    torch.testing.assert_close(found, torch.tensor([0.261216, 0.302013], dtype=F64), rtol=0, atol=1e-6)
    assert found.mean().item() == pytest.approx(0.281614, abs=1e-6)


@pytest.mark.parametrize("choice", CHOICES)
def test_value_by_loops_whatever_learns(choice):
    one, other = logits()
    found = kl_divergence(one.log_softmax(1), other.log_softmax(1), stop_gradient=choice)
    for row in range(4):
        p, q = (x.detach()[row].softmax(0).tolist() for x in (one, other))
        assert found[row].item() == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    assert kl_divergence(one.log_softmax(1), one.log_softmax(1), stop_gradient=choice).abs().max() < 1e-15


@pytest.mark.parametrize("choice", CHOICES)
def test_q_learns_by_q_minus_p(choice):
    one, other = logits()
    torch.testing.assert_close(gradients(one, other, choice)[1], other.softmax(1) - one.softmax(1))


def test_p_learns_by_its_choice():
    one, other = logits()
    p, log_p, log_q = one.softmax(1), one.log_softmax(1), other.log_softmax(1)
    whole = p * (log_p - log_q - (p * (log_p - log_q)).sum(1, keepdim=True))
    cross = p * (-log_q + (p * log_q).sum(1, keepdim=True))  # of the cross-entropy H(p, q)
    torch.testing.assert_close(gradients(one, other, "none")[0], whole)
    torch.testing.assert_close(gradients(one, other, "entropy")[0], cross)
    assert gradients(one, other, "first")[0] is None


def test_where_both_agree_only_the_entropy_choice_still_moves_p():
    one = logits()[0]
    other = one.detach().clone().requires_grad_()
    for choice in CHOICES:
        first, second = gradients(one, other, choice)
        assert second.abs().max() < 1e-15
        assert (first is not None and first.abs().max() > 1e-3) == (choice == "entropy")
    assert gradients(one, other, "none")[0].abs().max() < 1e-15


def test_another_choice_is_refused():
    one, other = logits()
    jaxtyping.config.update("jaxtyping_disable", True)  # as in a user's script
    try:
        with pytest.raises(ValueError, match="stop_gradient is 'second'"):
            kl_divergence(one, other, stop_gradient="second")
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
