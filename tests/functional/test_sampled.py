"""Contrast with drawn rows: closed forms, slow oracles, the authors' numbers, exact gradients, several processes."""

import math

import pytest
import torch

from lookalike.functional import contrast
from lookalike.functional.collectives import rank, world
from lookalike.functional.sampled import drawn_contrast, mean_exponential, nce
from methods.fixtures import keyed

F64 = torch.float64
INDEX = torch.tensor([3, 0, 34, 12, 7, 21, 5])
DRAWN = torch.arange(84).reshape(7, 12)[:, 1:] * 11 % 35


def slow_nce(q, bank, index, drawn, t: float, z: float) -> float:
    """Wu et al. 2018, equations 4 to 7, by loops."""
    total, noise = 0.0, drawn.shape[1] / len(bank)
    for row, own, others in zip(q, index.tolist(), drawn.tolist(), strict=True):
        p = [math.exp(float(row @ bank[j]) / t) / z for j in (own, *others)]
        total -= math.log(p[0] / (p[0] + noise)) + sum(math.log(noise / (other + noise)) for other in p[1:])
    return total / len(q)


def slow_contrast(q, bank, index, drawn, t: float) -> float:
    total = 0.0
    for row, own, others in zip(q, index.tolist(), drawn.tolist(), strict=True):
        values = [math.exp(float(row @ bank[j]) / t) for j in (own, *others)]
        total -= math.log(values[0] / sum(values))
    return total / len(q)


@pytest.mark.parametrize("drawn", [1, 4])
def test_where_all_chances_are_equal(drawn) -> None:
    """P = 1/N: -log 1/(1+K) - K log K/(K+1); with one drawn 1.386294."""
    bank = torch.zeros(8, 3, dtype=F64)
    picks = torch.zeros(2, drawn, dtype=torch.int64)
    q, index, z = torch.ones(2, 3, dtype=F64), torch.tensor([1, 2]), torch.tensor(8.0, dtype=F64)
    found = nce(q, bank, index, picks, temperature=0.07, normalizer=z).item()
    assert found == pytest.approx(math.log(1 + drawn) - drawn * math.log(drawn / (drawn + 1)), abs=1e-12)
    assert drawn > 1 or found == pytest.approx(1.386294, abs=1e-6)


def test_nce_by_loops() -> None:
    q, bank, z = keyed("x", 7), keyed("bank", 35), torch.tensor(50.0, dtype=F64)
    found = nce(q, bank, INDEX, DRAWN, temperature=0.3, normalizer=z).item()
    assert found == pytest.approx(slow_nce(q, bank, INDEX, DRAWN, 0.3, 50.0), abs=1e-11)


def test_the_numbers_of_the_official_code() -> None:
    """zhirongw/lemniscate.pytorch at f7cfe29: NCEFunction and NCECriterion in fp64, on the rows of `keyed`.

    With their 1e-7 in both denominators set to 0, and with it.
    """
    q, bank = keyed("x", 7).requires_grad_(), keyed("bank", 35)
    z = 35 * mean_exponential(q, bank, INDEX, DRAWN, temperature=0.07).mean()
    assert z.item() == pytest.approx(224794.80213548508, rel=1e-12)
    loss = nce(q, bank, INDEX, DRAWN, temperature=0.07, normalizer=z)
    assert loss.item() == pytest.approx(15.323482320764603, rel=1e-12)
    assert loss.item() == pytest.approx(15.323485993145834, rel=1e-6)
    assert torch.autograd.grad(loss, q)[0].norm().item() == pytest.approx(6.391539153341626, rel=1e-12)


def test_drawn_contrast_by_loops_and_with_all_others() -> None:
    q, bank = keyed("x", 7), keyed("bank", 35)
    found = drawn_contrast(q, bank, INDEX, DRAWN, temperature=0.3).item()
    assert found == pytest.approx(slow_contrast(q, bank, INDEX, DRAWN, 0.3), abs=1e-12)
    others = torch.stack([torch.tensor([j for j in range(35) if j != own]) for own in INDEX.tolist()])
    all_of_them = drawn_contrast(q, bank, INDEX, others, temperature=0.3)
    torch.testing.assert_close(all_of_them, contrast(q, bank, INDEX, temperature=0.3).loss, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("objective", ["nce", "contrast"])
def test_the_gradient_is_that_of_the_value(objective) -> None:
    bank, z = keyed("bank", 35), torch.tensor(50.0, dtype=F64)

    def value(q):
        if objective == "nce":
            return nce(q, bank, INDEX, DRAWN, temperature=0.3, normalizer=z)
        return drawn_contrast(q, bank, INDEX, DRAWN, temperature=0.3)

    assert torch.autograd.gradcheck(value, keyed("x", 7).requires_grad_())


def test_no_gradient_reaches_the_bank() -> None:
    bank, z = keyed("bank", 35).requires_grad_(), torch.tensor(50.0, dtype=F64)
    q = keyed("x", 7).requires_grad_()
    loss = nce(q, bank, INDEX, DRAWN, temperature=0.3, normalizer=z)
    (loss + drawn_contrast(q, bank, INDEX, DRAWN, temperature=0.3)).backward()
    assert bank.grad is None
    assert q.grad.abs().sum() > 0


def test_the_order_of_the_drawn_and_chunks_change_nothing(monkeypatch) -> None:
    q, bank, z = keyed("x", 7), keyed("bank", 35), torch.tensor(50.0, dtype=F64)
    whole = nce(q, bank, INDEX, DRAWN, temperature=0.3, normalizer=z).item()
    mixed = nce(q, bank, INDEX, DRAWN[:, torch.randperm(11)], temperature=0.3, normalizer=z).item()
    monkeypatch.setattr("lookalike.functional.sampled.SCRATCH", 2 * 12 * 6 * 8)
    parted = nce(q, bank, INDEX, DRAWN, temperature=0.3, normalizer=z).item()
    assert mixed == pytest.approx(whole, abs=1e-12)
    assert parted == pytest.approx(whole, abs=1e-12)


def test_large_logits_stay_finite() -> None:
    q, bank, z = keyed("x", 7).float(), keyed("bank", 35).float(), torch.tensor(50.0)
    assert nce(q, bank, INDEX, DRAWN, temperature=1e-3, normalizer=z).isfinite()
    assert drawn_contrast(q, bank, INDEX, DRAWN, temperature=1e-3).isfinite()


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the temperature is 0"):
        drawn_contrast(keyed("x", 7), keyed("bank", 35), INDEX, DRAWN, temperature=0.0)


def on_a_rank(q):
    mine = slice(rank(), None, world())
    own = q[mine].clone().requires_grad_()
    bank, z = keyed("bank", 35), torch.tensor(50.0, dtype=F64)
    loss = nce(own, bank, INDEX[mine], DRAWN[mine], temperature=0.3, normalizer=z)
    loss = loss + drawn_contrast(own, bank, INDEX[mine], DRAWN[mine], temperature=0.3)
    loss.backward()
    return loss.detach(), own.grad


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_equal_the_joined_batch(processes, gloo) -> None:
    loss, slope = on_a_rank(keyed("x", 7))
    for r, (mine, own) in enumerate(gloo.run(processes, on_a_rank, keyed("x", 7))):
        torch.testing.assert_close(mine, loss, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(own / processes, slope[r::processes], rtol=1e-10, atol=1e-12)
