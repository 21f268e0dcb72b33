"""Prototypes: scores by loops, rows of length one, full precision under autocast."""

import pytest
import torch
from torch import nn

from lookalike.modules import NormedPrototypes, Prototypes


def test_scores_by_loops() -> None:
    prototypes, z = Prototypes(3, 4).double(), torch.randn(5, 4, dtype=torch.float64)
    scores = prototypes(z)
    for b in range(5):
        for k in range(3):
            assert scores[b, k].item() == pytest.approx(sum(z[b, d] * prototypes.weight[k, d] for d in range(4)).item())


def test_rows_start_at_length_one_and_are_brought_back() -> None:
    prototypes = Prototypes(6, 4).double()
    ones = torch.ones(6, dtype=torch.float64)
    torch.testing.assert_close(prototypes.weight.norm(dim=1), ones, rtol=1e-6, atol=0)
    with torch.no_grad():
        prototypes.weight.mul_(torch.arange(1.0, 7.0)[:, None])
    before = prototypes.weight.detach().clone()
    prototypes.normalize_()
    torch.testing.assert_close(prototypes.weight.norm(dim=1), ones)
    torch.testing.assert_close(prototypes.weight * before.norm(dim=1, keepdim=True), before)
    assert prototypes.weight.requires_grad


def test_gradient_is_that_of_a_free_linear_layer() -> None:
    """The length is restored between steps, not divided by inside one: official code."""
    prototypes, z = Prototypes(3, 4), torch.randn(5, 4)
    prototypes(z).sum().backward()
    torch.testing.assert_close(prototypes.weight.grad, z.sum(0).expand(3, 4))


def test_scores_are_full_precision_under_autocast() -> None:
    prototypes, z = Prototypes(3, 4), torch.randn(5, 4)
    with torch.autocast("cpu", torch.bfloat16):
        scores = prototypes(z)
        assert prototypes(z.bfloat16()).dtype == torch.float32
    assert torch.equal(scores, prototypes(z))


def test_fewer_than_two_are_refused() -> None:
    with pytest.raises(ValueError, match="1 prototypes tell nothing apart"):
        Prototypes(1, 4)


def test_normed_prototypes_score_by_direction_times_length() -> None:
    """torch's own weight normalization of a linear layer, values and gradients."""
    z = torch.randn(5, 4, dtype=torch.float64)
    mine = NormedPrototypes(3, 4, learned_length=True).double()
    theirs = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3, bias=False, dtype=torch.float64))
    with torch.no_grad():
        mine.length.copy_(torch.tensor([[1.0], [2.0], [0.5]]))
        theirs.parametrizations.weight.original0.copy_(mine.length)
        theirs.parametrizations.weight.original1.copy_(mine.weight)
    torch.testing.assert_close(mine(z), theirs(z))
    mine(z).square().sum().backward()
    theirs(z).square().sum().backward()
    torch.testing.assert_close(mine.length.grad, theirs.parametrizations.weight.original0.grad)
    torch.testing.assert_close(mine.weight.grad, theirs.parametrizations.weight.original1.grad)


def test_normed_prototypes_have_length_one_unless_it_is_learned() -> None:
    fixed = NormedPrototypes(3, 4)
    assert not fixed.length.requires_grad
    assert torch.equal(fixed.length, torch.ones(3, 1))
    with torch.no_grad():
        before = fixed(torch.eye(4))
        fixed.weight.mul_(7.0)
    torch.testing.assert_close(fixed(torch.eye(4)), before)
    torch.testing.assert_close(before.norm(dim=0), torch.ones(3))
    with pytest.raises(ValueError, match="1 prototypes tell nothing apart"):
        NormedPrototypes(1, 4)
