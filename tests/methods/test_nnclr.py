"""NNCLR: closed forms, a slow loop, the published loss, order of its moves, no gradient into neighbors."""

import math

import pytest
import torch
from torch import Tensor, nn

from lookalike.functional import unit
from lookalike.methods.nnclr import NNCLR
from methods.fixtures import KEY, MEMORY, QUERY, batch, identity, progress, queue_of, rolled, waves

E2 = torch.eye(2, dtype=torch.float64)


class Rolled(nn.Module):
    """Predicts by a formula without weights."""

    def forward(self, x: Tensor) -> Tensor:
        return rolled(x)


def nnclr(support: Tensor, **settings) -> NNCLR:
    return NNCLR(identity(), nn.Identity(), identity(), queue_of(support), **settings)


def test_a_support_set_of_the_batch_itself_is_contrast_across_views() -> None:
    """log(1 + 1 / e) each way, at the temperature 1."""
    loss = nnclr(E2, temperature=1.0)(batch({"view/1": E2, "view/2": E2})).loss.item()
    assert loss == pytest.approx(math.log1p(math.exp(-1)), abs=1e-12)
    assert loss == pytest.approx(0.313262, abs=1e-6)


def test_the_neighbor_stands_for_the_view() -> None:
    """Both views lie nearest to (1, 0): the anchor of both images, which cannot tell them apart."""
    views = {"view/1": torch.tensor([[1.0, 0.1], [1.0, -0.1]]).double(), "view/2": QUERY.repeat(2, 1)}
    loss = nnclr(KEY, temperature=0.5)(batch(views)).loss.item()
    assert loss == pytest.approx(math.log(2), abs=1e-3)


def test_loss_by_loops() -> None:
    a, b = torch.randn(2, 5, 2, dtype=torch.float64)
    support, total = unit(torch.randn(7, 2, dtype=torch.float64)), 0.0
    for one, two in ((a, b), (b, a)):
        for i, row in enumerate(one):
            cosines = [float(row @ s) for s in support]
            friend = support[cosines.index(max(cosines))]
            logits = [float(friend @ p) / float(p.norm()) / 0.3 for p in two]
            total += (math.log(math.fsum(map(math.exp, logits))) - logits[i]) / 10
    loss = nnclr(support, temperature=0.3)(batch({"view/1": a, "view/2": b})).loss.item()
    assert loss == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(
    ("temperature", "value", "norms", "firsts"),
    [
        (0.1, 2.00071769281, [1.02358858676, 1.16201308765], [-0.129207478364, 0.082691022794]),
        (0.2, 1.62723694178, [0.454654001017, 0.513865398158], [-0.030754728248, 0.0276033096679]),
    ],
)
def test_loss_and_gradients_are_those_of_published_code(temperature, value, norms, firsts) -> None:
    """vturrisi/solo-learn (9187ea3), losses/nnclr.py; p = rolled(z), the support set is made of waves too."""
    z1, z2 = waves()
    support = unit(waves(12)[1].detach().flip(1))
    method = NNCLR(nn.Identity(), nn.Identity(), Rolled(), queue_of(support), temperature=temperature)
    found = method(batch({"view/1": z1, "view/2": z2})).loss
    found.backward()
    assert found.item() == pytest.approx(value, abs=1e-10)
    assert [z1.grad.norm().item(), z2.grad.norm().item()] == pytest.approx(norms, abs=1e-9)
    assert [z1.grad[0, 0].item(), z2.grad[0, 0].item()] == pytest.approx(firsts, abs=1e-9)


def test_both_sides_as_negatives_by_loops() -> None:
    a, b = torch.randn(2, 5, 2, dtype=torch.float64)
    support, total = unit(torch.randn(7, 2, dtype=torch.float64)), 0.0
    for one, two in ((a, b), (b, a)):
        friends = [max(support, key=lambda s, row=row: float(row @ s)) for row in one]
        rows = [*friends, *(p / p.norm() for p in two)]
        for i, row in enumerate(rows):
            others = [math.exp(float(row @ other) / 0.3) for j, other in enumerate(rows) if j != i]
            total += (math.log(math.fsum(others)) - float(row @ rows[(i + 5) % 10]) / 0.3) / 20
    method = nnclr(support, temperature=0.3, candidates="both")
    assert method(batch({"view/1": a, "view/2": b})).loss.item() == pytest.approx(total, abs=1e-12)
    assert method.uniform(5) == pytest.approx(math.log(9))


@pytest.mark.parametrize(
    ("temperature", "value", "norms", "firsts"),
    [
        (0.1, 6.31121776947, [1.10324088759, 1.15195360337], [0.0081033587676, 0.0435389318971]),
        (0.2, 3.61823699402, [0.547423885868, 0.557492578022], [-0.000629241363618, 0.0233283045352]),
    ],
)
def test_both_sides_as_negatives_are_those_of_lightly(temperature, value, norms, firsts) -> None:
    """lightly 1.6.0: NTXentLoss of the neighbors and the predictions, as in its NNCLR; waves as above."""
    z1, z2 = waves()
    support = unit(waves(12)[1].detach().flip(1))
    parts = (nn.Identity(), nn.Identity(), Rolled(), queue_of(support))
    found = NNCLR(*parts, temperature=temperature, candidates="both")(batch({"view/1": z1, "view/2": z2})).loss
    found.backward()
    assert found.item() == pytest.approx(value, abs=1e-10)
    assert [z1.grad.norm().item(), z2.grad.norm().item()] == pytest.approx(norms, abs=1e-9)
    assert [z1.grad[0, 0].item(), z2.grad[0, 0].item()] == pytest.approx(firsts, abs=1e-9)


@pytest.mark.parametrize("candidates", ["predictions", "both"])
def test_no_gradient_flows_through_the_neighbor(candidates) -> None:
    """A predictor that ignores its input cuts the only way that is left."""
    deaf = nn.Linear(2, 2, dtype=torch.float64)
    nn.init.zeros_(deaf.weight)
    method = NNCLR(identity(), nn.Identity(), deaf, queue_of(MEMORY), candidates=candidates)
    method(batch({"view/1": E2, "view/2": MEMORY})).loss.backward()
    assert not method.encoder.weight.grad.any()
    assert method.queue.rows().grad is None


def test_outputs_join_the_support_set_after_the_loss_and_only_those_of_view_1() -> None:
    method = nnclr(MEMORY)
    step = method(batch({"view/1": 3 * QUERY, "view/2": KEY}))
    torch.testing.assert_close(method.queue.rows(), MEMORY)  # the loss saw the old rows
    assert not step.keep["keys"].requires_grad
    method.after_update(progress(updated=True), step.keep)
    torch.testing.assert_close(method.queue.rows(), torch.cat([QUERY, MEMORY[1:]]))


def test_permuting_the_support_set_and_scale_and_the_order_of_views_do_not_matter() -> None:
    a, b = torch.randn(2, 5, 2, dtype=torch.float64)
    support = unit(torch.randn(7, 2, dtype=torch.float64))
    expected = nnclr(support)(batch({"view/1": a, "view/2": b})).loss
    for rows, one, two in ((support[torch.randperm(7)], a, b), (support, b, a), (support, 3 * a, 0.1 * b)):
        torch.testing.assert_close(nnclr(rows)(batch({"view/1": one, "view/2": two})).loss, expected)


def test_a_support_set_smaller_than_the_batch_keeps_the_newest_rows() -> None:
    method = nnclr(MEMORY)
    a = unit(torch.randn(5, 2, dtype=torch.float64))
    step = method(batch({"view/1": a, "view/2": a}))
    method.after_update(progress(updated=True), step.keep)
    assert {tuple(row) for row in method.queue.rows().tolist()} == {tuple(row) for row in a[-2:].tolist()}


def test_a_batch_of_one_has_nothing_to_learn() -> None:
    method = nnclr(MEMORY)
    step = method(batch({"view/1": QUERY, "view/2": KEY}))
    step.loss.backward()
    assert step.loss.item() == 0.0
    assert not method.encoder.weight.grad.any()
