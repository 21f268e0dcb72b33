"""ASCL: the written example, its reductions to MoCo and BYOL, order of its moves, both forms, what is refused."""

import math

import pytest
import torch
from torch import nn

from lookalike.functional import byol_distance
from lookalike.functional.schedules import Constant
from lookalike.methods.ascl import ASCL
from lookalike.methods.moco import MoCo
from methods.fixtures import KEY, MEMORY, QUERY, batch, demand_order_of_updates, identity, keyed, progress, queue_of

SETTINGS = {"temperature": 0.5, "momentum_temperature": 0.25}


def ascl(memory=MEMORY, **settings) -> ASCL:
    dim = memory.shape[1]
    return ASCL(identity(dim), identity(dim), queue_of(memory), **{**SETTINGS, **settings})


@pytest.mark.parametrize(
    ("rule", "neighbors", "expected"),
    [("soft", 1, 1.208455), ("soft", 2, 1.153146), ("hard", 1, 1.154304), ("adaptive", 1, 1.203036)],
)
def test_the_shared_fixture(rule: str, neighbors: int, expected: float) -> None:
    method = ascl(rule=rule, neighbors=neighbors)
    assert method(batch({"strong": QUERY, "weak": KEY})).loss.item() == pytest.approx(expected, abs=1e-6)


def test_loss_by_loops() -> None:
    q, k = torch.randn(2, 6, 6, dtype=torch.float64)
    memory, total = keyed("queue", 35), 0.0
    for a, b in zip(q / q.norm(dim=1, keepdim=True), k / k.norm(dim=1, keepdim=True), strict=True):
        d = [math.exp(float(b @ key) / 0.25) for key in memory]
        p = [one / sum(d) for one in d]
        c = 1 + sum(one * math.log(one) for one in p) / math.log(35)
        y = [1.0] + [min(1.0, 3 * c * one) for one in p]
        logits = [float(a @ key) / 0.5 for key in (b, *memory)]
        log_sum = math.log(sum(map(math.exp, logits)))
        total -= sum(weight / sum(y) * (logit - log_sum) for weight, logit in zip(y, logits, strict=True))
    found = ascl(memory, neighbors=3)(batch({"strong": q, "weak": k})).loss.item()
    assert found == pytest.approx(total / 6, abs=1e-12)


@pytest.mark.parametrize("rule", ["soft", "hard", "adaptive"])
def test_no_neighbors_is_moco(rule: str) -> None:
    q, k = torch.randn(2, 6, 2, dtype=torch.float64)
    moco, method = MoCo(identity(), identity(), queue_of(MEMORY), temperature=0.5), ascl(rule=rule, neighbors=0)
    found, expected = method(batch({"strong": q, "weak": k})).loss, moco(batch({"query": q, "key": k})).loss
    found.backward()
    expected.backward()
    assert torch.equal(found, expected)
    assert torch.equal(method.encoder.weight.grad, moco.encoder.weight.grad)


def test_a_memory_without_structure_is_moco() -> None:
    """Uniform q': no confidence."""
    q, k = torch.randn(2, 6, 2, dtype=torch.float64)
    alike = KEY.repeat(9, 1)
    moco = MoCo(identity(), identity(), queue_of(alike), temperature=0.5)
    found = ascl(alike, neighbors=4)(batch({"strong": q, "weak": k})).loss.item()
    assert found == pytest.approx(moco(batch({"query": q, "key": k})).loss.item(), abs=1e-12)


def test_the_form_of_byol_is_byol_without_neighbors_and_more_with_them() -> None:
    p, k = torch.randn(2, 6, 4, dtype=torch.float64)
    views = batch({"strong": p, "weak": k})
    bare = ASCL(identity(4), nn.Identity(), predictor=identity(4), neighbors=0)
    expected = byol_distance(p, k).mean().item()
    assert bare(views).loss.item() == pytest.approx(expected, abs=1e-12)
    for rule in ("soft", "hard", "adaptive"):
        method = ASCL(identity(4), nn.Identity(), predictor=identity(4), rule=rule, neighbors=2)
        assert abs(method(views).loss.item() - expected) > 1e-3
    method.after_update(progress(updated=True), method(views).keep)  # there is no queue


def test_the_momentum_encoder_moves_before_the_step_and_the_queue_after_it() -> None:
    demand_order_of_updates(ascl(momentum=Constant(0.99)))


@pytest.mark.parametrize("form", ["moco", "byol"])
def test_no_gradient_reaches_keys_or_queue(form: str) -> None:
    method = ascl(neighbors=2) if form == "moco" else ASCL(identity(), identity(), predictor=identity(), neighbors=2)
    q, k = torch.randn(2, 5, 2, dtype=torch.float64).unbind()
    q.requires_grad_(), k.requires_grad_()
    method(batch({"strong": q, "weak": k})).loss.backward()
    assert q.grad.abs().sum() > 0
    assert k.grad is None
    assert all(parameter.grad is None for parameter in method.momentum_encoder.parameters())


def test_a_batch_of_one() -> None:
    assert ascl()(batch({"strong": QUERY, "weak": KEY})).loss.isfinite()
    method = ASCL(identity(), identity(), predictor=identity(), neighbors=3)
    assert method(batch({"strong": QUERY, "weak": KEY})).loss.item() == pytest.approx(0.8, abs=1e-12)  # BYOL's


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"neighbors": 3}, "neighbors is 3: give a number from 0 to 2, the rows of the queue"),
        ({"neighbors": -1}, "neighbors is -1"),
        ({"predictor": nn.Identity()}, "give one of them"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, words) -> None:
    with pytest.raises(ValueError, match=words):
        ascl(**settings)
    with pytest.raises(ValueError, match="give one of them"):
        ASCL(identity(), identity())
