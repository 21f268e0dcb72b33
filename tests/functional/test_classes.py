"""The softmax over class weights: closed forms, dense matrices with torch's gradients, tiles, subsets, shards."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from lookalike.functional import classes
from lookalike.functional.classes import ClassTarget, class_contrast, class_gradients, sweep_classes
from lookalike.functional.collectives import rank, world

F64 = torch.float64


@pytest.fixture(params=[None, 1, 7])
def tile(request, monkeypatch):
    """Tiles of all classes, of one, of seven."""
    if request.param is not None:
        monkeypatch.setattr(classes, "_tile", lambda x_BD: request.param)


def problem(samples: int = 5, views: int = 2, count: int = 23, dim: int = 6, others: int = 3):
    """Unit views, weights of any length, and a target with `others` further classes of each sample."""
    x_BVD = normalize(torch.randn(samples, views, dim, dtype=F64), dim=2)
    orders = torch.stack([torch.randperm(count) for _ in range(samples)])
    target = ClassTarget(orders[:, 0], orders[:, 1 : 1 + others], 0.2)
    return x_BVD, torch.randn(count, dim, dtype=F64) * torch.rand(count, 1, dtype=F64), target


def dense(x_BVD: Tensor, weights_ND: Tensor, target: ClassTarget, temperature: float, rows: Tensor | None = None):
    """Loss, its gradients, log-sums: full matrices and torch's own backward."""
    x_BVD, weights_ND = x_BVD.clone().requires_grad_(), weights_ND.clone().requires_grad_()
    logits_BVN = x_BVD @ normalize(weights_ND, dim=1).T / temperature
    if rows is not None:
        absent = torch.ones(len(weights_ND), dtype=torch.bool).index_fill_(0, rows, False)
        logits_BVN = logits_BVN.masked_fill(absent, -torch.inf)
    y_BN = torch.zeros(len(x_BVD), len(weights_ND), dtype=F64)
    y_BN[torch.arange(len(y_BN)), target.own] = 1 - (target.smoothing if target.others is not None else 0.0)
    if target.others is not None:
        y_BN.scatter_(1, target.others, target.smoothing / target.others.shape[1])
    log_p = logits_BVN.log_softmax(2)
    loss = -torch.where(y_BN[:, None] > 0, y_BN[:, None] * log_p, 0.0).sum(2).mean()
    loss.backward()
    return loss.detach(), x_BVD.grad, weights_ND.grad, logits_BVN.logsumexp(2).detach()


def engine(x_bVD, weights_nD, target, temperature=0.1, keep=False, rows=None, sharded=False, all_x=None, whole=None):
    """The same of the engine; all_x and whole are views and target of all ranks."""
    all_x, whole = x_bVD if all_x is None else all_x, target if whole is None else whole
    count = len(weights_nD) if rows is None else len(rows)
    queries = all_x if sharded else x_bVD
    logits = weights_nD.new_empty(count, queries.shape[0] * queries.shape[1]) if keep else None
    x = x_bVD.clone().requires_grad_()
    shared = {"temperature": temperature, "rows": rows, "logits": logits, "sharded": sharded}
    found = class_contrast(x, weights_nD, target, **shared)
    found.loss.backward()
    log_sum = classes.gather_rows(found.log_sum) if sharded else found.log_sum
    gradient = torch.zeros_like(weights_nD)
    for part, gradient_TD in class_gradients(queries, log_sum, weights_nD, whole, **shared):
        gradient[part] = gradient_TD
    return found.loss.detach(), x.grad, gradient, log_sum


def same(found, expected, tolerance: float = 1e-12) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


class TestClosedForms:
    @pytest.mark.parametrize(("own", "expected"), [(0, 0.00676044), (1, 5.00676044)])
    def test_three_classes_whose_lengths_do_not_matter(self, own, expected):
        x, weights = torch.tensor([[[1.0, 0.0]]], dtype=F64), torch.tensor([[2.0, 0], [0, 5], [-3, 0]], dtype=F64)
        loss = class_contrast(x, weights, ClassTarget(torch.tensor([own])), temperature=0.2).loss
        assert loss.item() == pytest.approx(expected, abs=1e-8)

    def test_orthonormal_classes(self):
        weights = torch.eye(5, dtype=F64)
        found = class_contrast(weights[:1, None], weights, ClassTarget(torch.tensor([0])), temperature=0.2)
        assert found.loss.item() == pytest.approx(math.log(1 + 4 * math.exp(-5)), abs=1e-12)
        assert found.loss.item() == pytest.approx(0.026595, abs=1e-6)
        assert found.confidence.item() == pytest.approx(1 / (1 + 4 * math.exp(-5)), abs=1e-12)

    @pytest.mark.parametrize(("others", "expected"), [(None, 0.787339), ([[1, 2]], 0.937339)])
    def test_smoothing_over_the_hardest(self, others, expected):
        """Logits 1, 1/2, 0, -1/2: cosines of unit weights against a unit view, at temperature 1."""
        angles = torch.tensor([1.0, 0.5, 0.0, -0.5], dtype=F64).arccos()
        weights, x = torch.stack([angles.cos(), angles.sin()], 1), torch.tensor([[[1.0, 0.0]]], dtype=F64)
        target = ClassTarget(torch.tensor([0]), None if others is None else torch.tensor(others), 0.2)
        loss = class_contrast(x, weights, target, temperature=1.0).loss
        assert loss.item() == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("smoothing", [0.0, 0.2, 0.9])
    def test_all_alike_is_log_of_the_classes(self, smoothing):
        x, weights = torch.ones(3, 1, 4, dtype=F64) / 2, torch.ones(50, 4, dtype=F64)
        others = torch.tensor([[5, 6], [6, 7], [7, 8]])
        loss = class_contrast(x, weights, ClassTarget(torch.arange(3), others, smoothing), temperature=0.15).loss
        assert loss.item() == pytest.approx(math.log(50), abs=1e-12)

    def test_a_high_temperature_is_log_of_the_classes(self):
        x, weights, target = problem()
        found = class_contrast(x, weights, target, temperature=1e6)
        assert found.loss.item() == pytest.approx(math.log(23), abs=1e-5)


@pytest.mark.usefixtures("tile")
class TestDenseMatrices:
    @pytest.mark.parametrize("keep", [False, True])
    @pytest.mark.parametrize("temperature", [0.005, 0.15, 3.0])
    def test_loss_and_both_gradients(self, keep, temperature):
        x, weights, target = problem()
        same(engine(x, weights, target, temperature, keep), dense(x, weights, target, temperature))

    @pytest.mark.parametrize("keep", [False, True])
    def test_of_some_classes(self, keep):
        x, weights, target = problem()
        rows = torch.cat([target.own, target.others.flatten(), torch.tensor([0, 22])]).unique()
        same(engine(x, weights, target, keep=keep, rows=rows), dense(x, weights, target, 0.1, rows))

    def test_gradient_along_a_weight_is_zero(self):
        x, weights, target = problem()
        gradient = engine(x, weights, target)[2]
        torch.testing.assert_close((gradient * weights).sum(1), torch.zeros(23, dtype=F64), rtol=0, atol=1e-14)


def test_smoothing_zero_is_the_hard_target():
    x, weights, target = problem()
    hard, soft = target._replace(others=None), target._replace(smoothing=0.0)
    expected = dense(x, weights, hard, 0.1)
    for one in (hard, soft, target._replace(others=target.others[:, :0])):
        same(engine(x, weights, one), expected)
    logits = x[:, 0] @ normalize(weights, dim=1).T / 0.1
    loss = class_contrast(x[:, :1], weights, hard, temperature=0.1).loss
    assert loss.item() == pytest.approx(cross_entropy(logits, target.own).item(), abs=1e-12)


def test_smoothing_over_all_other_classes():
    """K = N - 1: the own class has 1 - smoothing, not 1 - smoothing + smoothing / N."""
    x, weights, _ = problem(samples=1, count=5)
    target = ClassTarget(torch.tensor([2]), torch.tensor([[0, 1, 3, 4]]), 0.2)
    log_p = (x[0] @ normalize(weights, dim=1).T / 0.1).log_softmax(1)
    expected = -(0.8 * log_p[:, 2] + 0.05 * (log_p.sum(1) - log_p[:, 2])).mean()
    found = class_contrast(x, weights, target, temperature=0.1)
    assert found.loss.item() == pytest.approx(expected.item(), abs=1e-12)


def test_many_pairs_of_a_target(monkeypatch):
    x, weights, target = problem()
    expected = engine(x, weights, target)
    monkeypatch.setattr(classes, "PAIRS", 4)
    same(engine(x, weights, target), expected)


def test_a_share_of_the_loss():
    x, weights, target = problem()
    log_sum = class_contrast(x, weights, target, temperature=0.1).log_sum
    whole = [g.clone() for _, g in class_gradients(x, log_sum, weights, target, temperature=0.1)]
    third = [g.clone() for _, g in class_gradients(x, log_sum, weights, target, temperature=0.1, share=1 / 3)]
    same(third, [g / 3 for g in whole], 1e-15)


def test_single_precision_and_autocast():
    x, weights, target = problem(samples=16, count=3000, dim=32)
    expected, narrow = dense(x, weights, target, 0.1), (x.float(), weights.float())
    plain = engine(*narrow, target)
    same([one.double() for one in plain], expected, 3e-5)
    with torch.autocast("cpu", torch.bfloat16):
        for one, other in zip(engine(*narrow, target), plain, strict=True):
            assert torch.equal(one, other)


def test_a_step_on_the_weights_lowers_the_loss():
    """The yielded rows may be changed at once: later tiles do not see it."""
    x, weights, target = problem(count=3000)
    expected, at_once = dense(x, weights, target, 0.1), weights.clone()
    log_sum = class_contrast(x, at_once, target, temperature=0.1).log_sum
    for part, gradient_TD in class_gradients(x, log_sum, at_once, target, temperature=0.1):
        at_once[part] -= 0.5 * gradient_TD
    torch.testing.assert_close(at_once, weights - 0.5 * expected[2], rtol=1e-12, atol=1e-12)
    assert class_contrast(x, at_once, target, temperature=0.1).loss < expected[0]


def test_no_class_at_all():
    found = sweep_classes(torch.randn(3, 4), torch.zeros(0, 4))
    assert found.log_sum.tolist() == [-math.inf] * 3
    assert not found.mean.any()


@pytest.mark.parametrize(("change", "message"), [({"temperature": 0.0}, "temperature is 0"), ({}, "smoothing is 1.0")])
def test_mistakes_are_sentences(change, message):
    x, weights, target = problem()
    with pytest.raises(ValueError, match=message):
        class_contrast(x, weights, target._replace(smoothing=1.0), **{"temperature": 0.1, **change})


def on_a_shard(x_BVD: Tensor, weights_ND: Tensor, target: ClassTarget, keep: bool) -> list[Tensor]:
    mine = slice(rank(), None, world())
    others = None if target.others is None else target.others[mine]
    own = ClassTarget(target.own[mine], others, target.smoothing)
    arguments = {"keep": keep, "sharded": True, "all_x": x_BVD, "whole": target}
    return list(engine(x_BVD[mine], weights_ND[mine], own, **arguments))


def on_a_rank(x_BVD: Tensor, weights_ND: Tensor, target: ClassTarget) -> list[Tensor]:
    mine = slice(rank(), None, world())
    own = ClassTarget(target.own[mine], target.others[mine], target.smoothing)
    return list(engine(x_BVD[mine], weights_ND, own))


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("samples", [7, 6, 1])
class TestSeveralProcesses:
    @pytest.mark.parametrize("keep", [False, True])
    def test_classes_dealt_over_ranks(self, gloo, processes, samples, keep):
        """Losses and gradients are those of one process: of x after DDP's average, of own weights as they are."""
        x, weights, target = problem(samples, count=23)
        loss, dx, dw, log_sum = dense(x, weights, target, 0.1)
        answers = gloo.run(processes, on_a_shard, x, weights, target, keep)
        for r, (loss_r, dx_r, dw_r, log_sum_r) in enumerate(answers):
            mine = slice(r, None, processes)
            same([loss_r, dx_r / processes, dw_r, log_sum_r], [loss, dx[mine], dw[mine], log_sum], 1e-10)

    def test_classes_on_every_rank(self, gloo, processes, samples):
        """Each rank has the gradient of its own samples' mean: weighted by their number they add up."""
        x, weights, target = problem(samples, count=23)
        loss, dx, dw, _ = dense(x, weights, target, 0.1)
        answers = gloo.run(processes, on_a_rank, x, weights, target)
        total = sum(dw_r * len(x[r::processes]) for r, (_, _, dw_r, _) in enumerate(answers)) / len(x)
        for r, (loss_r, dx_r, _, _) in enumerate(answers):
            same([loss_r, dx_r / processes, total], [loss, dx[r::processes], dw], 1e-10)


def test_fewer_classes_than_ranks(gloo):
    x, weights, target = problem(samples=3, count=2, others=1)
    loss, dx, dw, _ = dense(x, weights, target, 0.1)
    for r, (loss_r, dx_r, dw_r, _) in enumerate(gloo.run(4, on_a_shard, x, weights, target, False)):
        same([loss_r, dx_r / 4, dw_r], [loss, dx[r::4], dw[r::4]], 1e-10)
