"""Negatives of other clusters: the four rules by loops, chances, numbers that do not fit together."""

import pytest
import torch

from lookalike.functional.other_clusters import Sampler, negatives_of_other_clusters
from methods.fixtures import keyed

F64 = torch.float64
LABEL = torch.arange(35) % 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(sampler: Sampler, *, label=LABEL, seed: int = 0, place: float = 0.4) -> torch.Tensor:
    chance = torch.full((7,), place, dtype=F64)
    return negatives_of_other_clusters(
        keyed("x", 7), keyed("bank", 35), label, label[:7], chance, sampler=sampler, generator=seeded(seed)
    )


def by_similarity(row: int) -> list[int]:
    """All rows of the bank, the most similar first."""
    q, bank = keyed("x", 7)[row], keyed("bank", 35)
    return sorted(range(35), key=lambda j: -float(q @ bank[j]))


@pytest.mark.parametrize("rule", ["semi_hard", "hard", "random", "semi_easy"])
def test_rows_of_other_clusters_of_the_pool_each_at_most_once(rule) -> None:
    found = drawn(Sampler(rule, 6, 20))
    assert found.shape == (7, 6)
    for row in range(7):
        order = by_similarity(row)
        pool = {"semi_hard": order[:20], "hard": order, "random": order, "semi_easy": order[-20:]}[rule]
        allowed = [j for j in pool if LABEL[j] != LABEL[row]]
        assert len(set(found[row].tolist())) == 6
        assert set(found[row].tolist()) <= set(allowed)
        if rule == "hard":
            assert found[row].tolist() == allowed[:6]


def test_every_row_of_the_pool_has_the_same_chance() -> None:
    """Over all places of many orders; 8 of the 15 rows of other clusters among the 20 of the pool, or so."""
    counts = torch.zeros(35)
    for seed in range(400):
        counts += drawn(Sampler("semi_hard", 6, 20), seed=seed, place=seed % 20 / 20)[0].bincount(minlength=35)
    allowed = [j for j in by_similarity(0)[:20] if LABEL[j] != LABEL[0]]
    expected = 400 * 6 / len(allowed)
    assert counts.sum() == 2400
    assert (counts[allowed] - expected).abs().max() < 5 * (expected * (1 - 6 / len(allowed))) ** 0.5


def test_queries_have_draws_of_their_own() -> None:
    q, bank = keyed("x", 1).repeat(2, 1), keyed("bank", 35)
    chance = torch.tensor([0.1, 0.6], dtype=F64)
    sampler = Sampler("semi_hard", 6, 20)
    found = negatives_of_other_clusters(
        q, bank, LABEL, LABEL[:1].repeat(2), chance, sampler=sampler, generator=seeded()
    )
    assert set(found[0].tolist()) != set(found[1].tolist())


def test_a_cluster_that_fills_the_pool_leaves_few_negatives_or_none() -> None:
    """The released loop draws again for ever here; missing ones are -1."""
    label = torch.zeros(35, dtype=torch.int64)
    near = by_similarity(0)[:20]
    label[near[3]] = label[near[11]] = 1
    found = drawn(Sampler("semi_hard", 6, 20), label=label)
    assert sorted(found[0].tolist()) == sorted([-1] * 4 + [near[3], near[11]])
    label[:] = 0
    assert (drawn(Sampler("semi_hard", 6, 20), label=label) == -1).all()


@pytest.mark.parametrize("rule", ["semi_hard", "hard", "random", "semi_easy"])
def test_more_than_there_are_stand_for_all(rule) -> None:
    found = drawn(Sampler(rule))  # 16384 of 128000
    for row in range(7):
        others = [j for j in range(35) if LABEL[j] != LABEL[row]]
        assert sorted(found[row].tolist()) == [-1] * (35 - len(others)) + others


def test_numbers_follow_the_data_set_where_none_are_given() -> None:
    assert Sampler(count=None, pool=None).sizes(10000) == (125, 1000)
    assert Sampler("random", None, None).sizes(10000) == (125, 10000)
    assert Sampler(count=None, pool=None).sizes(5) == (1, 1)
    assert Sampler().sizes(1281167) == (16384, 128000)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"pool": 100}, "16384 negatives from a pool of 100: give a count of at most the pool"),
        ({"count": 0}, "0 negatives from a pool of 128000: give numbers of 1 or more"),
        ({"pool": 0}, "give numbers of 1 or more"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(given, words) -> None:
    with pytest.raises(ValueError, match=words):
        Sampler(**given)


def test_the_pool_does_not_matter_to_rules_without_one() -> None:
    assert Sampler("hard", 200, 100).sizes(1000) == (200, 1000)
