"""Supervised contrast: closed forms, a slow oracle, the authors' numbers, both gradients, several processes."""

import math

import pytest
import torch

from lookalike.functional import nt_xent, sup_con, unit
from lookalike.functional.collectives import rank, world
from methods.fixtures import keyed

F64 = torch.float64
LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3])


def oracle(z1, z2, labels, temperature: float) -> float:
    """L_out by loops (Khosla et al. 2020, equation 2)."""
    z = [row / row.norm() for row in (*z1, *z2)]
    label, total = [*labels.tolist()] * 2, 0.0
    for i in range(len(z)):
        logits = {a: float(z[i] @ z[a]) / temperature for a in range(len(z)) if a != i}
        log_sum = math.log(sum(map(math.exp, logits.values())))
        positives = [a for a in logits if label[a] == label[i]]
        total -= sum(logits[a] - log_sum for a in positives) / len(positives)
    return total / len(z)


@pytest.mark.parametrize("labels", [[0, 0], [0, 1]])
def test_four_views_alike_give_log_three_whatever_the_labels(labels) -> None:
    same = torch.ones(2, 3, dtype=F64)
    assert sup_con(same, same, torch.tensor(labels), temperature=0.1).item() == pytest.approx(1.098612, abs=1e-6)


def test_by_loops() -> None:
    z1, z2 = torch.randn(2, 7, 5, dtype=F64)
    found = sup_con(z1, z2, LABELS, temperature=0.2).item()
    assert found == pytest.approx(oracle(z1, z2, LABELS, 0.2), abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "loss", "slope"),
    [(LABELS, 6.4972680236530485, 5.6811729163553375), (None, 6.515806048537892, 6.856378040815967)],
)
def test_the_numbers_of_the_official_code(labels, loss, slope) -> None:
    """HobbitLong/SupContrast at 66a8fe5: SupConLoss with both temperatures 0.1 in fp64, on the rows of `keyed`.

    The slope is that of the unit rows, which the official loss takes as they are.
    """
    z = torch.cat([keyed("z1", 7), keyed("z2", 7)]).requires_grad_()
    free = torch.arange(7) if labels is None else labels
    found = sup_con(*z.chunk(2), free, temperature=0.1)
    assert found.item() == pytest.approx(loss, rel=1e-12)
    (mine,) = torch.autograd.grad(found, z)
    rows = z.detach().clone().requires_grad_()
    label = free.repeat(2)
    alike = (label[:, None] == label) & ~torch.eye(14, dtype=torch.bool)
    log_p = (rows @ rows.T / 0.1).masked_fill(torch.eye(14, dtype=torch.bool), -torch.inf).log_softmax(1)
    (whole,) = torch.autograd.grad(-(log_p.masked_fill(~alike, 0.0).sum(1) / alike.sum(1)).mean(), rows)
    assert whole.norm().item() == pytest.approx(slope, rel=1e-12)
    along = (whole * z.detach()).sum(1, keepdim=True)
    torch.testing.assert_close(mine, whole - along * z.detach(), rtol=1e-10, atol=1e-12)  # through the norm


def test_a_class_for_each_image_is_nt_xent() -> None:
    z = torch.randn(2, 6, 5, dtype=F64, requires_grad=True)
    found, expected = sup_con(*z, torch.arange(6), temperature=0.2), nt_xent(*z, temperature=0.2)
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
    torch.testing.assert_close(*(torch.autograd.grad(loss, z)[0] for loss in (found, expected)), rtol=1e-10, atol=1e-12)


def test_names_of_classes_order_of_images_views_and_lengths_do_not_matter() -> None:
    z1, z2 = torch.randn(2, 7, 5, dtype=F64)
    found = sup_con(z1, z2, LABELS, temperature=0.2).item()
    order = torch.randperm(7)
    for other in (
        sup_con(z1, z2, 10 - 3 * LABELS, temperature=0.2),
        sup_con(z1[order], z2[order], LABELS[order], temperature=0.2),
        sup_con(z2, z1, LABELS, temperature=0.2),
        sup_con(3 * z1, 0.1 * z2, LABELS, temperature=0.2),
    ):
        assert other.item() == pytest.approx(found, abs=1e-12)


def test_one_class_has_its_least_loss_where_all_are_equally_far() -> None:
    """No negatives: log of the other views, and no gradient, at the corners of a simplex."""
    z = unit(torch.eye(4, dtype=F64) - 0.25).requires_grad_()
    loss = sup_con(*z.chunk(2), torch.zeros(2, dtype=torch.int64), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(3), abs=1e-12)
    assert torch.autograd.grad(loss, z)[0].abs().max() < 1e-12


def test_an_image_alone_has_no_loss() -> None:
    assert sup_con(*torch.randn(2, 1, 5, dtype=F64), torch.tensor([4]), temperature=0.2).item() == 0.0


def test_chunks_change_nothing(monkeypatch) -> None:
    z = torch.randn(2, 9, 5, dtype=F64, requires_grad=True)
    labels = torch.arange(9) % 4
    whole = sup_con(*z, labels, temperature=0.2)
    slope = torch.autograd.grad(whole, z)[0]
    monkeypatch.setattr("lookalike.functional.in_batch.SCRATCH", 2 * 18 * 8)
    parted = sup_con(*z, labels, temperature=0.2)
    assert parted.item() == pytest.approx(whole.item(), abs=1e-12)
    torch.testing.assert_close(torch.autograd.grad(parted, z)[0], slope, rtol=1e-12, atol=1e-12)


def test_half_precision_is_computed_in_single() -> None:
    z = torch.randn(2, 7, 5)
    expected = sup_con(*z.bfloat16().double(), LABELS, temperature=0.1)
    assert sup_con(*z.bfloat16(), LABELS, temperature=0.1).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="the temperature is 0"):
        sup_con(*torch.randn(2, 3, 4), torch.arange(3), temperature=0.0)


def on_a_rank(z, labels):
    own = z[:, rank() :: world()].clone().requires_grad_()
    loss = sup_con(*own, labels[rank() :: world()], temperature=0.2)
    loss.backward()
    return loss.detach(), own.grad


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_equal_the_joined_batch(processes, gloo) -> None:
    z = torch.randn(2, 7, 5, dtype=F64)
    loss, slope = on_a_rank(z, LABELS)
    for r, (mine, own) in enumerate(gloo.run(processes, on_a_rank, z, LABELS)):
        torch.testing.assert_close(mine, loss, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(own / processes, slope[:, r::processes], rtol=1e-10, atol=1e-12)
