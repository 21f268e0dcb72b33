"""Contrast with keys that a head makes anew: loss and all gradients against the full matrix, for any tile and ranks."""

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from lookalike.functional.collectives import rank, world
from lookalike.functional.live_keys import live_contrast

F64 = torch.float64
B, N, E, D, T = 5, 23, 6, 4, 0.2


def given() -> tuple[Tensor, Tensor, Tensor, nn.Module]:
    generator = torch.Generator().manual_seed(3)
    q_BD = nn.functional.normalize(torch.randn(B, D, dtype=F64, generator=generator), dim=1)
    features_NE = torch.randn(N, E, dtype=F64, generator=generator)
    head = nn.Sequential(nn.Linear(E, 7), nn.ReLU(), nn.Linear(7, D)).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=F64, generator=generator))
    return q_BD.requires_grad_(), features_NE, torch.tensor([3, 22, 0, 3, 11]), head


def dense() -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients by autograd, with every key in the graph."""
    q_BD, features_NE, index, head = given()
    k_ND = head(features_NE)
    k_ND = k_ND / k_ND.norm(dim=1, keepdim=True)
    loss = nn.functional.cross_entropy(q_BD @ k_ND.T / T, index)
    return loss.detach(), list(torch.autograd.grad(loss, [q_BD, *head.parameters()]))


@pytest.mark.parametrize("tile", [1, 7, N, 100])
def test_loss_and_gradients_are_those_of_the_full_matrix(tile: int) -> None:
    q_BD, features_NE, index, head = given()
    found = live_contrast(q_BD, features_NE, index, head, temperature=T, tile=tile)
    loss, expected = dense()
    assert found.loss.item() == pytest.approx(loss.item(), abs=1e-12)
    (3 * found.loss).backward()  # what follows may scale the loss
    for parameter, gradient in zip([q_BD, *head.parameters()], expected, strict=True):
        torch.testing.assert_close(parameter.grad, 3 * gradient, atol=1e-12, rtol=1e-10)


def test_confidence_is_the_chance_of_the_positive() -> None:
    q_BD, features_NE, index, head = given()
    logits = q_BD @ nn.functional.normalize(head(features_NE), dim=1).T / T
    expected = logits.softmax(1)[torch.arange(B), index].mean()
    assert live_contrast(q_BD, features_NE, index, head, temperature=T).confidence.item() == pytest.approx(
        expected.item()
    )


def test_a_frozen_head_and_no_gradient_leave_the_loss_as_it_is() -> None:
    q_BD, features_NE, index, head = given()
    loss = live_contrast(q_BD, features_NE, index, head, temperature=T).loss
    with torch.no_grad():
        assert live_contrast(q_BD, features_NE, index, head, temperature=T).loss == loss
    found = live_contrast(q_BD, features_NE, index, head.requires_grad_(False), temperature=T)
    found.loss.backward()
    assert found.loss == loss
    assert all(parameter.grad is None for parameter in head.parameters())


def share() -> tuple[float, list[Tensor]]:
    """Loss and gradients averaged over ranks, of this rank's rows."""
    q_BD, features_NE, index, head = given()
    mine = slice(rank(), None, world())
    own_bD = q_BD.detach()[mine].requires_grad_()
    found = live_contrast(own_bD, features_NE, index[mine], head, temperature=T, tile=7)
    found.loss.backward()
    gradients = [parameter.grad for parameter in head.parameters()]
    for gradient in gradients:
        dist.all_reduce(gradient)
    return found.loss.item(), [gradient / world() for gradient in gradients]


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_equal_the_joined_batch(processes: int, gloo) -> None:
    loss, expected = dense()
    for found, gradients in gloo.run(processes, share):
        assert found == pytest.approx(loss.item(), abs=1e-12)
        for gradient, whole in zip(gradients, expected[1:], strict=True):
            torch.testing.assert_close(gradient, whole, atol=1e-12, rtol=1e-10)


def test_a_temperature_of_nothing_is_a_sentence() -> None:
    q_BD, features_NE, index, head = given()
    with pytest.raises(ValueError, match="temperature is 0"):
        live_contrast(q_BD, features_NE, index, head, temperature=0.0)
