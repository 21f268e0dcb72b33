"""SimCLR: closed forms, invariances, and the loop oracle."""

import math

import pytest
import torch
from torch import nn

from lookalike.methods.simclr import SimCLR
from methods.fixtures import batch, identity


def loss(z1, z2, **settings) -> torch.Tensor:
    method = SimCLR(identity(z1.shape[1]), nn.Identity(), **settings)
    return method(batch({"view/1": z1, "view/2": z2})).loss


def oracle(z1, z2, temperature: float) -> float:
    """-mean log p, by loops (Chen et al. 2020, equation 1)."""
    rows = torch.cat([z1, z2])
    rows = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows.tolist()]
    half, total = len(rows) // 2, 0.0
    for a in range(len(rows)):
        partner = (a + half) % len(rows)
        similar = {b: sum(x * y for x, y in zip(rows[a], rows[b], strict=True)) for b in range(len(rows)) if b != a}
        denominator = sum(math.exp(s / temperature) for s in similar.values())
        total -= math.log(math.exp(similar[partner] / temperature) / denominator)
    return total / len(rows)


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, 0.551445), (0.5, 0.239545)])
def test_partners_alike_and_images_orthogonal(temperature: float, expected: float) -> None:
    z = torch.eye(2, dtype=torch.float64)
    assert loss(z, z, temperature=temperature).item() == pytest.approx(expected, abs=1e-6)


def test_closed_form_of_two_images() -> None:
    z1 = torch.eye(2, dtype=torch.float64)
    z2 = torch.tensor([[0.6, 0.8], [0.8, 0.6]], dtype=torch.float64)
    assert loss(z1, z2, temperature=0.5).item() == pytest.approx(1.270714, abs=1e-6)
    assert loss(z1, z2, temperature=0.5, reduction="tf_sum").item() == pytest.approx(2.541428, abs=1e-6)


def test_all_views_alike_give_the_log_of_the_candidates() -> None:
    z = torch.ones(8, 3, dtype=torch.float64)
    assert loss(z, z, temperature=0.1).item() == pytest.approx(math.log(15), abs=1e-9)


def test_loop_oracle_and_invariances() -> None:
    z1, z2 = torch.randn(2, 7, 5, dtype=torch.float64)
    found = loss(z1, z2, temperature=0.2).item()
    assert found == pytest.approx(oracle(z1, z2, 0.2), abs=1e-12)
    order = torch.randperm(7)
    assert loss(z2, z1, temperature=0.2).item() == pytest.approx(found, abs=1e-12)
    assert loss(z1[order], z2[order], temperature=0.2).item() == pytest.approx(found, abs=1e-12)
    assert loss(3 * z1, 0.1 * z2, temperature=0.2).item() == pytest.approx(found, abs=1e-12)


def test_gradient_flows_through_both_views() -> None:
    z1, z2 = torch.randn(2, 4, 3, dtype=torch.float64).requires_grad_().unbind()
    one, two = torch.autograd.grad(loss(z1, z2, temperature=0.5), [z1, z2])
    assert one.abs().sum() > 0
    assert two.abs().sum() > 0


def test_what_is_exported_and_trained() -> None:
    method = SimCLR(identity(), nn.Linear(2, 2))
    (phase,) = method.plan(3.0)
    assert (phase.trains, phase.reads) == (("encoder", "projector"), ("view/1", "view/2"))
    assert method.exports() == {"encoder": method.encoder}


def test_with_the_head_the_export_is_what_was_compared() -> None:
    encoder, projector, x = nn.Linear(6, 5), nn.Linear(5, 3), torch.randn(4, 6)
    (plain,) = SimCLR(encoder, projector).exports().values()
    assert plain is encoder
    (descriptor,) = SimCLR(encoder, projector, exports_head=True).exports().values()
    z = projector(encoder(x))
    assert torch.equal(descriptor(x), z / z.norm(dim=1, keepdim=True))
