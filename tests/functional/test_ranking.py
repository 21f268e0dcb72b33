"""uAP, recall at a precision and ranks: hand cases, a plain loop in double precision, and scikit-learn."""

import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from torch import Tensor

from lookalike.functional.ranking import (
    NOT_FOUND,
    Predictions,
    micro_average_precision,
    ranking,
    recall_at_precision,
    resampled_average_precision,
    true_ranks,
)

Triple = tuple[int, int, float]


def predicted(triples: list[Triple]) -> Predictions:
    columns = list(zip(*triples, strict=True)) or [(), (), ()]
    return Predictions(
        torch.tensor(columns[0], dtype=torch.int64),
        torch.tensor(columns[1], dtype=torch.int64),
        torch.tensor(columns[2], dtype=torch.float64),
    )


def pairs(*found: tuple[int, int]) -> Tensor:
    return torch.tensor(found, dtype=torch.int64).view(-1, 2)


def plain(triples: list[Triple], truth: list[tuple[int, int]]) -> tuple[float, float | None, list[int]]:
    """uAP, recall at a precision of 0.9 and the ranks of the true pairs, by loops."""
    order = sorted(triples, key=lambda t: (-t[2], (t[0], t[1]) in truth))
    total, hits, recall_before, best = 0.0, 0, 0.0, None
    for i, (query, reference, _) in enumerate(order, start=1):
        hits += (query, reference) in truth
        recall, precision = hits / len(truth), hits / i
        total += (recall - recall_before) * precision
        recall_before = recall
        if precision >= 0.9:
            best = max(best or 0.0, recall)
    ranks = []
    for query, reference in truth:
        own = [score for q, r, score in triples if (q, r) == (query, reference)]
        ranks.append(sum(q == query and s >= own[0] for q, _, s in triples) - 1 if own else NOT_FOUND)
    return total, best, ranks


def test_a_hit_a_miss_a_hit_of_three_pairs():
    found = predicted([(0, 0, 0.9), (1, 7, 0.8), (2, 2, 0.7)])
    assert micro_average_precision(ranking(found, pairs((0, 0), (1, 1), (2, 2)))) == pytest.approx(0.555556, abs=5e-7)


@pytest.mark.parametrize("triples", [[(0, 0, 0.5), (0, 1, 0.5)], [(0, 1, 0.5), (0, 0, 0.5)]])
def test_of_equal_scores_the_false_one_comes_first(triples):
    ranked = ranking(predicted(triples), pairs((0, 0)))
    assert micro_average_precision(ranked) == 0.5
    assert ranked.true.tolist() == [False, True]
    assert true_ranks(predicted(triples), pairs((0, 0))).tolist() == [1]


def test_nothing_predicted_is_nothing_found():
    ranked = ranking(predicted([]), pairs((0, 0)))
    assert micro_average_precision(ranked) == 0
    assert recall_at_precision(ranked) is None
    assert true_ranks(predicted([]), pairs((0, 0))).tolist() == [NOT_FOUND]


def test_recall_at_a_precision_is_the_largest_with_the_score_that_reaches_it():
    triples = [(i, i, 1 - i / 100) for i in range(9)] + [(9, 99, 0.5), (10, 10, 0.4), (11, 98, 0.3)]
    ranked = ranking(predicted(triples), pairs(*((i, i) for i in range(20))))
    assert recall_at_precision(ranked) == (10 / 20, pytest.approx(0.4))  # 10 of 11
    assert recall_at_precision(ranked, 0.95) == (9 / 20, pytest.approx(0.92))
    assert recall_at_precision(ranking(predicted([(0, 1, 1.0), (0, 0, 0.5)]), pairs((0, 0)))) is None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_equals_a_plain_loop_with_ties_lost_pairs_and_several_originals(data):
    every = [(q, r) for q in range(6) for r in range(5)]
    chosen = data.draw(st.lists(st.sampled_from(every), unique=True, max_size=30))
    triples = [(q, r, data.draw(st.integers(0, 6)) / 8) for q, r in chosen]
    truth = data.draw(st.lists(st.sampled_from(every), unique=True, min_size=1, max_size=12))
    found, ranked = predicted(triples), ranking(predicted(triples), pairs(*truth))
    uap, recall, ranks = plain(triples, truth)
    assert micro_average_precision(ranked) == pytest.approx(uap, rel=1e-12)
    point = recall_at_precision(ranked)
    assert (point and point.recall) == (None if recall is None else pytest.approx(recall))
    assert true_ranks(found, pairs(*truth)).tolist() == ranks
    # the order in which predictions and pairs are given does not matter
    mixed = predicted(data.draw(st.permutations(triples)))
    again = ranking(mixed, pairs(*reversed(truth)))
    assert micro_average_precision(again) == micro_average_precision(ranked)
    assert recall_at_precision(again) == point


def test_is_scikit_learns_average_precision_where_nothing_ties_and_all_pairs_are_found():
    score, true = torch.randn(500, dtype=torch.float64), torch.rand(500) < 0.1
    query, reference = torch.arange(500) // 20, torch.arange(500) % 20
    truth = torch.stack([query, reference], dim=1)[true]
    ranked = ranking(Predictions(query, reference, score), truth)
    assert micro_average_precision(ranked) == pytest.approx(average_precision_score(true, score), rel=1e-12)


@pytest.mark.parametrize("cells", [1, 11, 2**22])
def test_a_query_that_counts_n_times_is_n_queries(monkeypatch, cells):
    monkeypatch.setattr(sys.modules[ranking.__module__], "CELLS", cells)
    generator = torch.Generator().manual_seed(1)
    triples = [(q, r, float(torch.randint(8, (), generator=generator))) for q in range(5) for r in range(4)]
    truth, times = [(0, 1), (1, 0), (1, 3), (3, 2), (4, 9)], [3, 2, 1, 0, 2]
    copies = [(q + 5 * n, r, s) for q, r, s in triples for n in range(times[q])]
    true_copies = [(q + 5 * n, r) for q, r in truth for n in range(times[q])]
    expected, *_ = plain(copies, true_copies)
    ranked = ranking(predicted(triples), pairs(*truth))
    several = torch.tensor([times, [1] * 5, [0, 0, 4, 0, 0]])
    one, same, nothing = resampled_average_precision(ranked, several).tolist()
    assert one == pytest.approx(expected, rel=1e-12)
    assert same == pytest.approx(micro_average_precision(ranked), rel=1e-12)
    assert math.isnan(nothing)


def test_what_does_not_count_is_refused():
    one = predicted([(0, 0, 0.5)])
    with pytest.raises(ValueError, match="the ground truth names no pair"):
        ranking(one, pairs())
    with pytest.raises(ValueError, match="1 of 2 pairs in predictions occur twice: give each pair once"):
        ranking(predicted([(3, 4, 0.5), (3, 4, 0.1)]), pairs((0, 0)))
    with pytest.raises(ValueError, match="1 of 3 pairs in the ground truth occur twice"):
        ranking(one, pairs((0, 0), (1, 1), (0, 0)))
    with pytest.raises(ValueError, match="1 predictions have a score that is no number"):
        ranking(predicted([(0, 0, math.nan)]), pairs((0, 0)))
    with pytest.raises(ValueError, match="2 predictions are more than the 1 that count"):
        ranking(predicted([(0, 0, 0.5), (0, 1, 0.5)]), pairs((0, 0)), most=1)
    full = Predictions(torch.arange(500_001), torch.zeros(500_001, dtype=torch.int64), torch.zeros(500_001))
    with pytest.raises(ValueError, match="500,001 predictions are more than the 500,000 that count"):
        ranking(full, pairs((0, 0)))
