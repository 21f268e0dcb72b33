"""NPID: closed forms, the authors' numbers, the bank's moves, the constant Z, what is refused."""

import math

import pytest
import torch
from torch import nn

from lookalike.methods.method import Phase
from lookalike.methods.npid import NPID
from lookalike.modules import Bank
from methods.fixtures import batch, identity, keyed, progress


def npid(rows: torch.Tensor, **settings) -> NPID:
    bank = Bank(*rows.shape, dtype=torch.float64)
    bank.fill([(torch.arange(len(rows)), rows)])
    return NPID(identity(rows.shape[1]), nn.Identity(), bank, **settings).double()


def loss_by_loops(x, memory, drawn, t: float, z: float | None, proximal: float = 0.0) -> float:
    """NCE with a known Z, or the cross-entropy where it is None; image i is row i."""
    total, count = 0.0, len(memory)
    for i, row in enumerate(x / x.norm(dim=1, keepdim=True)):
        values = [math.exp(float(row @ memory[j]) / t) for j in (i, *drawn[i])]
        total += proximal * float((row - memory[i]).square().sum())
        if z is None:
            total -= math.log(values[0] / sum(values))
        else:
            noise, p = len(drawn[i]) / count, [value / z for value in values]
            total -= math.log(p[0] / (p[0] + noise)) + sum(math.log(noise / (other + noise)) for other in p[1:])
    return total / len(x)


@pytest.mark.parametrize("objective", ["nce", "cross_entropy"])
def test_loss_by_loops(objective: str) -> None:
    x, memory = torch.randn(6, 6, dtype=torch.float64), keyed("bank", 20)
    views = batch({"view": x})
    drawn = (views.draw("negatives", 9) * 20).long()
    method = npid(memory, temperature=0.3, objective=objective, negatives=9, proximal=0.7)
    step, z = method(views), None
    if objective == "nce":  # the first step: N times the mean of all exponentials
        rows = torch.cat([torch.arange(6)[:, None], drawn], 1)
        unit = nn.functional.normalize(x, dim=1)
        z = 20 * sum(math.exp(float(unit[i] @ memory[j]) / 0.3) for i in range(6) for j in rows[i]) / 60
        assert step.keep["normalizer"].mean().item() == pytest.approx(z, rel=1e-12)
    assert step.loss.item() == pytest.approx(loss_by_loops(x, memory, drawn.tolist(), 0.3, z, 0.7), abs=1e-11)


def test_all_images_as_classes_have_the_numbers_of_the_official_code() -> None:
    """zhirongw/lemniscate.pytorch at f7cfe29: LinearAverage with torch's cross-entropy in fp64, and its bank after."""
    index = torch.tensor([3, 0, 34, 12, 7, 21, 5])
    method = npid(keyed("bank", 35), temperature=0.1, objective="cross_entropy", negatives=None)
    views = batch({"view": keyed("x", 7)})
    object.__setattr__(views, "index", index)
    step = method(views)
    assert step.loss.item() == pytest.approx(11.248677918716249, rel=1e-12)
    method.after_update(progress(updated=True), step.keep)
    numbers = (method.bank.rows() * torch.arange(1.0, 7.0, dtype=torch.float64)).sum()
    assert numbers.item() == pytest.approx(-6.249043423038932, rel=1e-12)
    official = [0.1500374953200923, -0.624916040921375, 0.3512512500972257]
    assert method.bank.rows()[3][:3].tolist() == pytest.approx(official, rel=1e-12)


def test_a_row_becomes_the_unit_vector_between_itself_and_the_feature() -> None:
    method = npid(torch.eye(2, dtype=torch.float64), objective="cross_entropy", negatives=None)
    step = method(batch({"view": torch.tensor([[0.0, 3.0]], dtype=torch.float64)}))
    assert torch.equal(method.bank.rows(), torch.eye(2, dtype=torch.float64))  # forward changes no state
    method.after_update(progress(updated=True), step.keep)
    half = 0.5**0.5
    torch.testing.assert_close(method.bank.rows(), torch.tensor([[half, half], [0.0, 1.0]], dtype=torch.float64))


def test_z_is_that_of_the_first_step_from_then_on() -> None:
    method = npid(keyed("bank", 20), temperature=0.3, negatives=5)
    first = method(batch({"view": torch.randn(6, 6, dtype=torch.float64)}))
    assert method.normalizer == 0
    method.after_update(progress(updated=True), first.keep)
    assert method.normalizer.item() == first.keep["normalizer"].mean().item()
    known = method.normalizer.clone()
    second = method(batch({"view": torch.randn(6, 6, dtype=torch.float64)}))
    method.after_update(progress(updated=True), second.keep)
    assert "normalizer" not in second.keep
    assert torch.equal(method.normalizer, known)
    assert "normalizer" in method.state_dict()


class Images:
    """A corpus of which only its random numbers are asked."""

    size = 200

    def encode(self, module: nn.Module, view: str, mode: str = "eval"):
        raise AssertionError("the bank starts without images")

    def pair(self, view: str, table: torch.Tensor, own: float = 0.0) -> None:
        raise AssertionError("there are no partners")

    def generator(self, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(len(name))


def test_the_bank_starts_with_rows_of_about_length_one() -> None:
    method = NPID(identity(64), nn.Identity(), Bank(200, 64))
    method.enter(Phase(name="train", epochs=1.0, trains=(), reads=()), Images())
    rows = method.bank.rows()
    assert rows.abs().max() <= math.sqrt(3 / 64)
    assert rows.square().sum(1).mean().item() == pytest.approx(1.0, abs=0.02)
    assert rows.mean().abs() < 0.01


def test_no_gradient_reaches_the_bank() -> None:
    for settings in ({"negatives": 5}, {"objective": "cross_entropy", "negatives": None}):
        x = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)
        method = npid(keyed("bank", 20), proximal=1.0, **settings)
        method(batch({"view": x})).loss.backward()
        assert x.grad.abs().sum() > 0
        assert not method.bank.rows().requires_grad


def test_a_batch_of_one_and_more_drawn_than_images() -> None:
    method = npid(torch.eye(2, dtype=torch.float64), negatives=50)
    assert method(batch({"view": torch.ones(1, 2, dtype=torch.float64)})).loss.isfinite()


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"negatives": None}, "nce draws its negatives"), ({"negatives": 0}, "negatives is 0: give 1 or more")],
)
def test_what_makes_no_sense_is_refused(settings, words) -> None:
    with pytest.raises(ValueError, match=words):
        npid(torch.eye(2, dtype=torch.float64), **settings)
