"""Keyed random numbers: Philox's published answers, rows that know only their own index, moments, keys."""

import os

import numpy as np
import pytest
import torch

from gloo import Gloo
from lookalike.functional import random

MANY = torch.arange(50_000)


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [  # Random123, tests/kat_vectors: philox4x32, 10 rounds
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_published_answers(counter: str, key: str, answer: str) -> None:
    low, high = words(key)
    got = random.philox(tuple(np.array([word], np.uint64) for word in words(counter)), low | high << 32)
    assert [int(word[0]) for word in got] == words(answer)


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize("index", [0, 5, 2**32 - 1, 2**32, 2**40 + 5, 2**62 + 1])
def test_a_row_is_the_philox_of_its_index_and_block(index: int) -> None:
    """The counter is (low word, high word, block of four columns, 0): indices beyond 32 bits do not collide."""
    expected = []
    for block in range(3):
        counter = tuple(np.array([word], np.uint64) for word in (index & 0xFFFFFFFF, index >> 32, block, 0))
        expected += [int(word[0]) / 2**32 for word in random.philox(counter, 77)]
    row = random.uniform(77, torch.tensor([index]), 10)[0]
    assert row.tolist() == expected[:10]


@pytest.mark.parametrize("draw", [random.uniform, random.normal])
def test_rows_depend_on_their_own_index_only(draw) -> None:
    whole = draw(9, torch.arange(40), 6)
    for index in ([17], [39, 0, 17], [3, 3], list(range(39, -1, -1))):
        assert torch.equal(draw(9, torch.tensor(index), 6), whole[index])
    assert len(whole.flatten().unique()) == whole.numel()
    assert draw(9, torch.arange(0), 6).shape == (0, 6)


def test_more_columns_keep_the_first_ones() -> None:
    assert torch.equal(random.uniform(4, torch.arange(8), 9)[:, :3], random.uniform(4, torch.arange(8), 3))


def test_another_key_gives_unrelated_numbers() -> None:
    first, second = (random.uniform(random.key("test", seed), MANY, 1)[:, 0] for seed in (1, 2))
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 5 / len(MANY) ** 0.5


def test_uniform_numbers_fill_the_unit_interval_evenly() -> None:
    """Range, mean 1/2, variance 1/12, a flat histogram, columns and neighbors uncorrelated: five standard errors."""
    u = random.uniform(random.key("moments"), MANY, 3)
    n, column = len(u), u[:, 0]
    assert u.min() >= 0
    assert u.max() < 1
    assert ((u.mean(0) - 0.5).abs() < 5 * (1 / 12 / n) ** 0.5).all()
    assert ((u.var(0) - 1 / 12).abs() < 5 * (1 / 180 / n) ** 0.5).all()
    counts = torch.histc(column, 20, 0, 1)
    assert ((counts - n / 20) ** 2 / (n / 20)).sum() < 60  # chi squared, 19 degrees of freedom: p < 1e-5
    bound = 5 / n**0.5
    assert (torch.corrcoef(u.T) - torch.eye(3)).abs().max() < bound
    assert abs(torch.corrcoef(torch.stack([column[1:], column[:-1]]))[0, 1]) < bound


def test_normal_numbers_have_the_moments_of_the_standard_normal() -> None:
    """Mean 0, variance 1, skewness 0, kurtosis 3 and the share within one sigma: five standard errors."""
    x = random.normal(random.key("moments"), MANY, 2)
    n = x.numel()
    assert torch.isfinite(x).all()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((x**power).mean() - moment) < 5 * (variance / n) ** 0.5, power
    within = torch.erf(torch.tensor(0.5).double().sqrt())
    assert abs((x.abs() < 1).double().mean() - within) < 5 * (within * (1 - within) / n) ** 0.5
    assert abs(torch.corrcoef(x.T)[0, 1]) < 5 / len(x) ** 0.5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("crop", 1, 2), ("crop", 2, 1)),
        (("crop", 1), (1, "crop")),
        (("crop", 1), ("crop", "1")),
        (("crop", 12), ("crop", 1, 2)),
        (("ab", "c"), ("a", "bc")),
        (("crop",), ("crop", "")),
        (("crop", 0), ("crop", -1)),
        ((), ("",)),
    ],
)
def test_a_key_depends_on_parts_order_and_type(one: tuple, other: tuple) -> None:
    assert random.key(*one) != random.key(*other)
    assert random.key(*one) == random.key(*one)


def test_keys_have_64_bits_and_no_collisions() -> None:
    keys = {random.key("crop", seed, epoch) for seed in range(60) for epoch in range(60)}
    assert len(keys) == 3600
    assert 2**63 < max(keys) < 2**64
    assert all(0 < sum(key >> bit & 1 for key in keys) < 3600 for bit in range(64))


def named() -> tuple[int, int]:
    return random.key("crop", 3, "flip"), hash("crop")


def test_keys_are_equal_in_another_process(gloo: Gloo) -> None:
    """Python's own hash of strings is not: it is salted per process."""
    answers = [named(), *gloo.run(2, named)]
    assert len({key for key, _ in answers}) == 1
    assert "PYTHONHASHSEED" in os.environ or len({salted for _, salted in answers}) == 3


def test_generators_repeat_and_leave_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (torch.randperm(50, generator=random.generator("order", s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    random.normal(1, torch.arange(4), 4)
    assert torch.equal(torch.get_rng_state(), before)
