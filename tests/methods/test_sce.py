"""SCE: closed forms, the authors' numbers, its reductions to MoCo and ReSSL, order of its moves, many crops."""

import math

import pytest
import torch
from torch import nn

from lookalike.functional.schedules import Constant
from lookalike.methods.moco import MoCo
from lookalike.methods.sce import SCE
from methods.fixtures import KEY, MEMORY, QUERY, batch, identity, keyed, progress, queue_of

SETTINGS = {"temperature": 0.5, "momentum_temperature": 0.25}


def sce(memory=MEMORY, **settings) -> SCE:
    dim = memory.shape[1]
    return SCE(identity(dim), identity(dim), queue_of(memory), **{**SETTINGS, **settings})


def oracle(q, k, memory, coefficient: float, official: bool) -> float:
    """The mean cross-entropy of w and p by loops (Denize et al. 2023, section 3)."""
    total = 0.0
    for a, b in zip(q, k, strict=True):
        a, b = a / a.norm(), b / b.norm()
        relation = [float(b @ c) / 0.25 for c in memory]
        rest = sum(map(math.exp, relation)) + (1.0 if official else 0.0)
        w = [coefficient + (1 - coefficient) * (1 / rest if official else 0.0)]
        w += [(1 - coefficient) * math.exp(r) / rest for r in relation]
        logits = [float(a @ c) / 0.5 for c in (b, *memory)]
        log_sum = math.log(sum(map(math.exp, logits)))
        total -= sum(weight * (logit - log_sum) for weight, logit in zip(w, logits, strict=True))
    return total / len(q)


@pytest.mark.parametrize(
    ("mask", "coefficient", "expected"),
    [("paper", 0.5, 1.160571), ("official", 0.5, 1.173903), ("paper", 0.0, 0.806837)],
)
def test_the_shared_fixture(mask: str, coefficient: float, expected: float) -> None:
    method = sce(coefficient=coefficient, mask_positive=mask)
    assert method(batch({"strong": QUERY, "weak": KEY})).loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("mask", ["paper", "official"])
@pytest.mark.parametrize("coefficient", [0.0, 0.3, 0.5, 1.0])
def test_loss_by_loops(mask: str, coefficient: float) -> None:
    q, k = torch.randn(2, 6, 4, dtype=torch.float64)
    memory = nn.functional.normalize(torch.randn(9, 4, dtype=torch.float64), dim=1)
    found = sce(memory, coefficient=coefficient, mask_positive=mask)(batch({"strong": q, "weak": k})).loss.item()
    assert found == pytest.approx(oracle(q, k, memory, coefficient, mask == "official"), abs=1e-12)


@pytest.mark.parametrize(
    ("mask", "coefficient", "t", "t_m", "loss", "slope"),
    [
        ("official", 0.5, 0.1, 0.05, 8.79159730223903, 3.6701586121785086),
        ("official", 0.5, 0.2, 0.25, 5.1941905622370665, 1.3803556377544617),
        ("official", 0.2, 0.1, 0.5, 8.221408412543456, 2.225287458735423),
        ("paper", 0.5, 0.1, 0.05, 8.791597289091632, 3.670158588013154),
        ("paper", 0.5, 0.2, 0.25, 5.194250050793886, 1.3774706166612785),
        ("paper", 0.2, 0.1, 0.5, 8.221125280787048, 2.1977704343120044),
    ],
)
def test_the_numbers_of_the_official_code(mask, coefficient, t, t_m, loss, slope) -> None:
    """On the rows of `keyed` in fp64, where lambda 0.2 is rounded to fp32; the slope is the norm of the gradient by q.

    official: CEA-LIST/SCE at 07cbe63, SCEModel.compute_loss. paper: juliendenize/eztorch at d835471, compute_sce_loss
    with the positive masked, one row at a time: the other keys of a batch would be candidates too.
    """
    q, settings = keyed("q", 7).requires_grad_(), {"temperature": t, "momentum_temperature": t_m}
    method = sce(keyed("queue", 35), coefficient=coefficient, mask_positive=mask, **settings)
    found = method(batch({"strong": q, "weak": keyed("k", 7)})).loss
    found.backward()
    exact = 1e-12 if coefficient == 0.5 else 1e-8
    assert found.item() == pytest.approx(loss, rel=exact)
    assert q.grad.norm().item() == pytest.approx(slope, rel=exact)


@pytest.mark.parametrize("mask", ["paper", "official"])
def test_coefficient_one_is_moco(mask: str) -> None:
    q, k = torch.randn(2, 6, 2, dtype=torch.float64)
    moco = MoCo(identity(), identity(), queue_of(MEMORY), temperature=0.5, momentum=Constant(0.99))
    expected = moco(batch({"query": q, "key": k})).loss
    method = sce(coefficient=1.0, mask_positive=mask)
    found = method(batch({"strong": q, "weak": k})).loss
    found.backward()
    expected.backward()
    assert torch.equal(found, expected)
    assert torch.equal(method.encoder.weight.grad, moco.encoder.weight.grad)


def test_three_terms() -> None:
    """lambda InfoNCE + (1 - lambda) (ReSSL + Ceil), with the fixture's 1.514304, 0.558426 and 0.248412."""
    found = sce(coefficient=0.5)(batch({"strong": QUERY, "weak": KEY})).loss.item()
    assert found == pytest.approx(0.5 * 1.514304 + 0.5 * (0.558426 + 0.248412), abs=1e-5)


def test_the_momentum_encoder_moves_after_the_step_and_only_if_it_was_one() -> None:
    method = sce(momentum=Constant(0.99))
    with torch.no_grad():
        method.encoder.weight.zero_()
    step = method(batch({"strong": QUERY, "weak": KEY}))
    weight = method.momentum_encoder.copies[0].weight
    method.before_update(progress())
    method.after_update(progress(updated=False), step.keep)
    torch.testing.assert_close(weight, torch.eye(2, dtype=torch.float64))
    assert torch.equal(method.queue.rows(), torch.cat([KEY, MEMORY[1:]]))
    method.after_update(progress(updated=True), step.keep)
    torch.testing.assert_close(weight, 0.99 * torch.eye(2, dtype=torch.float64))


def test_no_gradient_reaches_keys_or_queue() -> None:
    method = sce()
    q, k = QUERY.clone().requires_grad_(), KEY.clone().requires_grad_()
    method(batch({"strong": q, "weak": k})).loss.backward()
    assert k.grad is None
    assert q.grad is not None
    assert all(parameter.grad is None for parameter in method.momentum_encoder.parameters())


def test_symmetric_is_the_mean_of_both_directions() -> None:
    a, b = torch.randn(2, 5, 2, dtype=torch.float64)
    views = ("global/1", "global/2")
    both = sce(keys=views, queries=views)(batch({"global/1": a, "global/2": b}))
    there = sce()(batch({"strong": a, "weak": b})).loss
    back = sce()(batch({"strong": b, "weak": a})).loss
    assert both.loss.item() == pytest.approx((there + back).item() / 2, abs=1e-12)
    method = sce(torch.cat([MEMORY] * 5), keys=views, queries=views)
    method.after_update(progress(updated=True), both.keep)
    unit = nn.functional.normalize
    torch.testing.assert_close(method.queue.rows(), torch.cat([unit(a, dim=1), unit(b, dim=1)]))


def test_multi_crop_is_the_mean_over_all_pairs() -> None:
    names = ("global/1", "global/2", "local/1", "local/2")
    x = dict(zip(names, torch.randn(4, 5, 2, dtype=torch.float64), strict=True))
    found = sce(keys=names[:2], queries=names)(batch(x)).loss.item()
    pairs = [sce()(batch({"strong": x[q], "weak": x[k]})).loss.item() for k in names[:2] for q in names if q != k]
    assert len(pairs) == 6
    assert found == pytest.approx(sum(pairs) / 6, abs=1e-12)


def test_the_predictor_belongs_to_queries_alone() -> None:
    predictor = identity()
    with torch.no_grad():
        predictor.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    method = SCE(identity(), identity(), queue_of(MEMORY), predictor, **SETTINGS)
    step = method(batch({"strong": QUERY, "weak": KEY}))
    torch.testing.assert_close(step.keep["weak"], KEY)
    torch.testing.assert_close(step.projections["strong"], QUERY.flip(1))
