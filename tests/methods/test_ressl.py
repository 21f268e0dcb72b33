"""ReSSL: closed forms, the authors' numbers, the absent positive, order of its moves, many crops, the warm-up."""

import math

import pytest
import torch
from torch import nn

from lookalike.functional import relations, soft_contrast
from lookalike.functional.schedules import Constant
from lookalike.methods.moco import MoCo
from lookalike.methods.ressl import ReSSL
from lookalike.methods.sce import SCE
from methods.fixtures import KEY, MEMORY, QUERY, batch, demand_order_of_updates, identity, keyed, progress, queue_of

SETTINGS = {"temperature": 0.5, "momentum_temperature": 0.25}
CROPS = tuple(f"strong/{number}" for number in range(1, 6))


def ressl(memory=MEMORY, **settings) -> ReSSL:
    dim = memory.shape[1]
    return ReSSL(identity(dim), identity(dim), queue_of(memory), **{**SETTINGS, **settings})


def oracle(q, k, memory, t: float, t_m: float) -> float:
    """The mean cross-entropy of both softmaxes over the queue alone, by loops (Zheng et al. 2021, section 3.2)."""
    total = 0.0
    for a, b in zip(q, k, strict=True):
        relation = [math.exp(float(b @ c / b.norm()) / t_m) for c in memory]
        logits = [float(a @ c / a.norm()) / t for c in memory]
        log_sum = math.log(sum(map(math.exp, logits)))
        total -= sum(r / sum(relation) * (logit - log_sum) for r, logit in zip(relation, logits, strict=True))
    return total / len(q)


def test_the_shared_fixture() -> None:
    step = ressl()(batch({"strong": QUERY, "weak": KEY}))
    assert step.loss.item() == pytest.approx(0.558426, abs=1e-6)
    s = [0.0391657, 0.9608343]
    assert step.metrics["target_entropy"].item() == pytest.approx(-sum(p * math.log(p) for p in s), abs=1e-6)


def test_loss_by_loops() -> None:
    q, k = torch.randn(2, 6, 4, dtype=torch.float64)
    memory = nn.functional.normalize(torch.randn(9, 4, dtype=torch.float64), dim=1)
    found = ressl(memory)(batch({"strong": q, "weak": k})).loss.item()
    assert found == pytest.approx(oracle(q, k, memory, 0.5, 0.25), abs=1e-12)


def test_the_numbers_of_the_official_code() -> None:
    """mingkai-zheng/ReSSL at 4d67daa: ressl.py and ressl_multi.py in fp64, on the rows of `keyed`."""
    q, k, memory = keyed("q", 7).requires_grad_(), keyed("k", 7), keyed("queue", 35)
    target = relations(k, memory, temperature=0.04)
    loss = soft_contrast(q, keys=memory, temperature=0.1, target=target, positive_in_denominator=False).loss
    loss.backward()
    assert loss.item() == pytest.approx(9.48019143042048, rel=1e-12)
    assert q.grad.norm().item() == pytest.approx(5.002900290330845, rel=1e-12)
    method = ReSSL(identity(6), nn.Identity(), queue_of(memory))
    assert method(batch({"strong": q, "weak": k})).loss.item() == pytest.approx(loss.item(), rel=1e-12)
    many = ReSSL(identity(6), nn.Identity(), queue_of(memory), queries=CROPS)
    crops = {f"strong/{number}": keyed(f"crop/{number}", 7) for number in range(1, 6)}
    assert many(batch(crops | {"weak": k})).loss.item() == pytest.approx(8.985110461063316, rel=1e-12)


def test_the_positive_is_no_candidate() -> None:
    """SCE with lambda = 0 has it in the denominator, and costs -log(1 - p(positive)) more."""
    q, k = torch.randn(2, 6, 2, dtype=torch.float64)
    views = batch({"strong": q, "weak": k})
    sce = SCE(identity(), identity(), queue_of(MEMORY), coefficient=0.0, **SETTINGS)
    ceil = 0.0
    for a, b in zip(nn.functional.normalize(q, dim=1), nn.functional.normalize(k, dim=1), strict=True):
        logits = [math.exp(float(a @ c) / 0.5) for c in (b, *MEMORY)]
        ceil -= math.log(1 - logits[0] / sum(logits)) / 6
    assert sce(views).loss.item() - ressl()(views).loss.item() == pytest.approx(ceil, abs=1e-12)
    assert ceil > 0.1


def test_the_order_of_the_queue_does_not_matter() -> None:
    q, k = torch.randn(2, 6, 4, dtype=torch.float64)
    memory = nn.functional.normalize(torch.randn(9, 4, dtype=torch.float64), dim=1)
    views = batch({"strong": q, "weak": k})
    found, mixed = ressl(memory)(views).loss.item(), ressl(memory[torch.randperm(9)])(views).loss.item()
    assert mixed == pytest.approx(found, abs=1e-12)


def test_equal_views_and_temperatures_give_the_entropy_and_no_gradient() -> None:
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    memory = nn.functional.normalize(torch.randn(9, 4, dtype=torch.float64), dim=1)
    step = ressl(memory, momentum_temperature=0.5)(batch({"strong": x, "weak": x.detach()}))
    assert step.loss.item() == pytest.approx(step.metrics["target_entropy"].item(), abs=1e-12)
    step.loss.backward()
    assert x.grad.abs().max() < 1e-15


def test_a_very_sharp_target_is_the_nearest_row() -> None:
    q, k = torch.randn(2, 6, 4, dtype=torch.float64)
    memory = nn.functional.normalize(torch.randn(9, 4, dtype=torch.float64), dim=1)
    found = ressl(memory, momentum_temperature=1e-4)(batch({"strong": q, "weak": k})).loss.item()
    logits = nn.functional.normalize(q, dim=1) @ memory.T / 0.5
    expected = nn.functional.cross_entropy(logits, (k @ memory.T).argmax(1)).item()
    assert found == pytest.approx(expected, abs=1e-9)


def test_many_crops_are_the_mean_over_crops() -> None:
    x = dict(zip((*CROPS, "weak"), torch.randn(6, 5, 2, dtype=torch.float64), strict=True))
    found = ressl(queries=CROPS)(batch(x))
    each = [ressl()(batch({"strong": x[crop], "weak": x["weak"]})).loss.item() for crop in CROPS]
    assert found.loss.item() == pytest.approx(sum(each) / 5, abs=1e-12)
    assert tuple(found.features) == CROPS


def test_the_momentum_encoder_moves_before_the_step_and_the_queue_after_it() -> None:
    demand_order_of_updates(ressl(momentum=Constant(0.99)))


def test_no_gradient_reaches_keys_or_queue() -> None:
    method = ressl()
    q, k = QUERY.clone().requires_grad_(), KEY.clone().requires_grad_()
    method(batch({"strong": q, "weak": k})).loss.backward()
    assert q.grad.abs().sum() > 0
    assert k.grad is None
    assert all(parameter.grad is None for parameter in method.momentum_encoder.parameters())
    assert not method.queue.rows().requires_grad


def test_the_warm_up_of_the_journal_version_is_moco() -> None:
    q, k = torch.randn(2, 6, 2, dtype=torch.float64)
    method = ressl(warmup=1.0)
    moco = MoCo(identity(), identity(), queue_of(MEMORY), temperature=0.5)
    first, last, after = (method(batch({"strong": q, "weak": k}, step)).loss.item() for step in (0, 9, 10))
    assert first == last == pytest.approx(moco(batch({"query": q, "key": k})).loss.item(), abs=1e-12)
    assert after == ressl()(batch({"strong": q, "weak": k})).loss.item()


def test_the_predictor_belongs_to_queries_alone() -> None:
    predictor = identity()
    with torch.no_grad():
        predictor.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    step = ReSSL(identity(), identity(), queue_of(MEMORY), predictor)(batch({"strong": QUERY, "weak": KEY}))
    torch.testing.assert_close(step.keep["keys"], KEY)
    torch.testing.assert_close(step.projections["strong"], QUERY.flip(1))


def test_a_batch_of_one_and_one_larger_than_the_queue() -> None:
    assert ressl()(batch({"strong": QUERY, "weak": KEY})).loss.isfinite()
    method, many = ressl(), torch.randn(5, 2, dtype=torch.float64)
    step = method(batch({"strong": many, "weak": many}))
    method.after_update(progress(updated=True), step.keep)
    assert torch.equal(method.queue.rows().sort(0).values, step.keep["keys"][-2:].sort(0).values)  # the newest stay


@pytest.mark.parametrize("queries", [(), ("weak",), ("strong", "weak")])
def test_views_that_make_no_pair_are_refused(queries) -> None:
    with pytest.raises(ValueError, match="name one or more strong views"):
        ressl(queries=queries)
