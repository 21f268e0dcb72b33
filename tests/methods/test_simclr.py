"""SimCLR: closed forms, invariances, the loop oracle, and the official loss."""

import math

import pytest
import torch
from torch import nn

from lookalike.methods.simclr import SimCLR
from methods.fixtures import batch, identity, waves


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


@pytest.mark.parametrize(
    ("temperature", "value", "norms", "firsts"),
    [
        (
            0.1,
            2.6400193695125793,
            [1.9299986159358586, 1.244276329347458],
            [-0.22284384188640707, 0.014039858982487663],
        ),
        (
            0.5,
            3.402089477963488,
            [0.4693759685597167, 0.27886069324001556],
            [-0.05723986709789802, 0.00616090726608963],
        ),
        (
            1.0,
            4.040262408880746,
            [0.23166209854947392, 0.1600955499280654],
            [-0.025364120135409354, 0.007019178146569063],
        ),
    ],
)
def test_loss_and_gradients_are_those_of_the_official_code(temperature, value, norms, firsts) -> None:
    """google-research/simclr (383d414), tf2/objective.py, add_contrastive_loss with one_hot in fp64; waves of 8 x 5.

    objective.py, of TensorFlow 1, gives the same gradients, and in fp32 the same losses.
    """
    z1, z2 = waves()
    found = loss(z1, z2, temperature=temperature, reduction="tf_sum")
    found.backward()
    assert found.item() == pytest.approx(value, rel=1e-12)
    assert [z1.grad.norm().item(), z2.grad.norm().item()] == pytest.approx(norms, rel=1e-10)
    assert [z1.grad[0, 0].item(), z2.grad[0, 0].item()] == pytest.approx(firsts, rel=1e-9)


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
