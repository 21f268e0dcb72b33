"""MoCo: closed forms, order of its moves, no gradient into keys, the symmetric form."""

import math

import pytest
import torch
from torch import nn

from lookalike.functional.margin import Margin
from lookalike.functional.schedules import Constant
from lookalike.methods.moco import MoCo
from lookalike.modules import with_batch_statistics
from methods.fixtures import KEY, MEMORY, QUERY, batch, identity, progress, queue_of


def moco(memory=MEMORY, **settings) -> MoCo:
    dim = memory.shape[1]
    return MoCo(identity(dim), identity(dim), queue_of(memory), **{"momentum": Constant(0.99), **settings})


def test_the_shared_fixture() -> None:
    step = moco(temperature=0.5)(batch({"query": QUERY, "key": KEY}))
    assert step.loss.item() == pytest.approx(1.514304, abs=1e-6)
    assert step.metrics["confidence"].item() == pytest.approx(0.219961, abs=1e-6)


@pytest.mark.parametrize(("temperature", "expected"), [(0.2, 0.00676044), (0.1, 4.540e-5), (0.07, 6.249e-7)])
def test_query_equals_key(temperature: float, expected: float) -> None:
    memory = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    loss = moco(memory, temperature=temperature)(batch({"query": KEY, "key": KEY})).loss.item()
    assert loss == pytest.approx(expected, rel=2e-4)
    assert loss == pytest.approx(math.log1p(math.exp(-1 / temperature) + math.exp(-2 / temperature)), rel=1e-9)


def test_loss_by_loops() -> None:
    q, k = torch.randn(2, 6, 4, dtype=torch.float64)
    memory = nn.functional.normalize(torch.randn(9, 4, dtype=torch.float64), dim=1)
    found = moco(memory, temperature=0.2, shuffle=False)(batch({"query": q, "key": k})).loss.item()
    total = 0.0
    for a, b in zip(nn.functional.normalize(q, dim=1), nn.functional.normalize(k, dim=1), strict=True):
        logits = [float(a @ c) / 0.2 for c in (b, *memory)]
        total -= logits[0] - math.log(sum(map(math.exp, logits)))
    assert found == pytest.approx(total / 6, abs=1e-12)


def test_margin_and_mask_by_loops() -> None:
    """A handicap of the positive; keys of the queue that resemble the key are no negatives."""
    q, k = torch.randn(2, 6, 4, dtype=torch.float64)
    memory = nn.functional.normalize(torch.randn(9, 4, dtype=torch.float64), dim=1)
    method = moco(memory, temperature=0.2, margin=Margin(-0.3), mask_above=0.2)
    found = method(batch({"query": q, "key": k})).loss.item()
    total, left_out = 0.0, 0
    for a, b in zip(nn.functional.normalize(q, dim=1), nn.functional.normalize(k, dim=1), strict=True):
        others = [c for c in memory if float(b @ c) <= 0.2]
        left_out += len(memory) - len(others)
        logits = [(float(a @ b) + 0.3) / 0.2, *(float(a @ c) / 0.2 for c in others)]
        total -= logits[0] - math.log(sum(map(math.exp, logits)))
    assert 0 < left_out < 54
    assert found == pytest.approx(total / 6, abs=1e-12)


def test_a_mask_above_one_and_no_margin_is_moco_to_the_bit() -> None:
    views = batch({"query": QUERY, "key": KEY})
    plain = moco(temperature=0.5)(views)
    assert torch.equal(moco(temperature=0.5, margin=Margin(0.0))(views).loss, plain.loss)
    assert moco(temperature=0.5, mask_above=1.0)(views).loss.item() == pytest.approx(plain.loss.item(), rel=1e-15)


def test_a_mask_of_all_keys_leaves_nothing_to_learn() -> None:
    q = QUERY.clone().requires_grad_()
    step = moco(temperature=0.5, mask_above=-1.0)(batch({"query": q, "key": KEY}))
    step.loss.backward()
    assert step.loss == 0
    assert q.grad.abs().sum() == 0
    assert moco(mask_above=0.9).uniform(4) is None
    assert moco(margin=Margin(0.1)).uniform(4) is None


def test_the_momentum_encoder_moves_before_the_step_and_the_queue_after_it() -> None:
    method = moco(temperature=0.5)
    with torch.no_grad():
        method.encoder.weight.zero_()
    method.before_update(progress())
    copy = method.momentum_encoder.copies[0]
    torch.testing.assert_close(copy.weight, 0.99 * torch.eye(2, dtype=torch.float64))
    before = method.queue.rows().clone()
    step = method(batch({"query": QUERY, "key": KEY}))
    assert torch.equal(method.queue.rows(), before)  # forward changes no state
    method.after_update(progress(updated=True), step.keep)
    assert torch.equal(method.queue.rows(), torch.cat([KEY, MEMORY[1:]]))  # the oldest row made place


def test_no_gradient_reaches_keys_or_queue() -> None:
    method = moco(temperature=0.5)
    q, k = QUERY.clone().requires_grad_(), KEY.clone().requires_grad_()
    method(batch({"query": q, "key": k})).loss.backward()
    assert q.grad is not None
    assert k.grad is None
    assert method.encoder.weight.grad is not None
    assert all(parameter.grad is None for parameter in method.momentum_encoder.parameters())
    assert not method.queue.rows().requires_grad


def test_symmetric_is_the_sum_and_keeps_both_keys() -> None:
    a, b = torch.randn(2, 5, 2, dtype=torch.float64)
    there = moco(temperature=0.5)(batch({"query": a, "key": b})).loss
    back = moco(temperature=0.5)(batch({"query": b, "key": a})).loss
    method = moco(torch.randn(10, 2, dtype=torch.float64).renorm(2, 0, 1.0), temperature=0.5, symmetric=True)
    method.queue.push(torch.cat([MEMORY] * 5))
    both = moco(temperature=0.5, symmetric=True)(batch({"query": a, "key": b}))
    assert both.loss.item() == pytest.approx((there + back).item(), abs=1e-12)
    method.after_update(progress(updated=True), both.keep)
    unit = nn.functional.normalize
    torch.testing.assert_close(method.queue.rows(), torch.cat([unit(a, dim=1), unit(b, dim=1)]))  # keys of view 1 first


def test_shuffling_changes_who_shares_statistics_and_nothing_else() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(3, 4, dtype=torch.float64), nn.BatchNorm1d(4, dtype=torch.float64))
    x = torch.randn(8, 3, dtype=torch.float64)
    memory = nn.functional.normalize(torch.randn(6, 4, dtype=torch.float64), dim=1)

    def keys(shuffle: bool, policy: str) -> torch.Tensor:
        method = MoCo(with_batch_statistics(net, policy), nn.Identity(), queue_of(memory), shuffle=shuffle)
        return method(batch({"query": x, "key": x})).keep["key"]

    torch.testing.assert_close(keys(True, "global"), keys(False, "global"))  # rows come back in order
    assert not torch.allclose(keys(True, "split:4"), keys(False, "split:4"))
