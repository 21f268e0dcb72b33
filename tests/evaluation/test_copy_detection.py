"""Copy detection from rows to uAP: a loop in double precision, any order of rows, ties, edits, and what is refused."""

import math
import sys

import pytest
import torch
from torch import Tensor

from lookalike.evaluation import CopyResult, by_edit, copy_detection, nearest_pairs
from lookalike.evaluation.worth import percentiles
from lookalike.functional.normalization import ISC2021, SSCD, Normalization

STEP = 2.0**-20


def world(queries: int = 30, references: int = 40, pairs: int = 10) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries of which the first `pairs` come from references, with noise; references; true pairs; a background."""
    reference, background = torch.randn(references, 8), torch.randn(25, 8)
    query = torch.randn(queries, 8)
    sources = torch.randperm(references)[:pairs]
    query[:pairs] = reference[sources] + 0.8 * torch.randn(pairs, 8)
    return query, reference, torch.stack([torch.arange(pairs), sources], dim=1), background


def plain_scores(query: Tensor, reference: Tensor, background: Tensor, form: Normalization | None) -> list[list[float]]:
    """Scores by loops in double precision, in steps of 2^-20."""

    def cosine(a: Tensor, b: Tensor) -> float:
        a, b = a.double(), b.double()
        return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))

    scores = []
    for q in query:
        level = 0.0
        if form is not None:
            others = sorted((cosine(q, b) for b in background), reverse=True)[form.first : form.last + 1]
            level = form.weight * sum(others) / len(others)
        scores.append([cosine(q, r) - level for r in reference])
    return scores


def plain_uap(scores: list[list[float]], truth: Tensor, most: int = 10**9) -> float:
    true = {tuple(pair) for pair in truth.tolist()}
    triples = [(s, q, r) for q, row in enumerate(scores) for r, s in enumerate(row)]
    order = sorted(triples, key=lambda t: (-t[0], (t[1], t[2]) in true))[:most]
    hits, total = 0, 0.0
    for i, (_, q, r) in enumerate(order, start=1):
        if (q, r) in true:
            hits += 1
            total += hits / i
    return total / len(true)


@pytest.mark.parametrize("form", [None, SSCD, ISC2021])
def test_equals_a_loop_in_double_precision(form):
    query, reference, truth, background = world()
    scores = plain_scores(query, reference, background, form)
    result = copy_detection(query, reference, truth, background_rows=background, normalization=form)
    assert result.uap == pytest.approx(plain_uap(scores, truth), rel=1e-9)
    assert 0 < result.uap < 1
    order = sorted((s for row in scores for s in row), reverse=True)
    torch.testing.assert_close(result.ranked.score.double(), torch.tensor(order).double(), rtol=0, atol=3 * STEP)
    ranks = [sum(s >= scores[q][r] for s in scores[q]) - 1 for q, r in truth.tolist()]
    assert result.ranks.tolist() == ranks
    assert result.recall(1) == pytest.approx(sum(rank < 1 for rank in ranks) / len(ranks))
    assert result.recall(10) == pytest.approx(sum(rank < 10 for rank in ranks) / len(ranks))


def test_normalization_changes_which_pairs_come_first_but_no_querys_own_order():
    query, reference, truth, background = world()
    plain = copy_detection(query, reference, truth)
    lowered = copy_detection(query, reference, truth, background_rows=background, normalization=SSCD)
    assert plain.uap != lowered.uap
    assert torch.equal(plain.ranks, lowered.ranks)
    assert (plain.normalization, lowered.normalization) == ("", "1[0,2]")


def test_the_order_and_the_length_of_rows_do_not_matter():
    query, reference, truth, background = world()
    expected = copy_detection(query, reference, truth, background_rows=background, normalization=SSCD)
    rows, columns = torch.randperm(len(query)), torch.randperm(len(reference))
    moved = torch.stack([rows.argsort()[truth[:, 0]], columns.argsort()[truth[:, 1]]], dim=1)
    again = copy_detection(
        3 * query[rows], reference[columns] / 7, moved.flip(0), background_rows=background.flip(0), normalization=SSCD
    )
    assert again.uap == expected.uap
    assert again.point == expected.point
    assert torch.equal(again.ranks.flip(0), expected.ranks)
    assert again.false_positives(0.5) == expected.false_positives(0.5)


def test_only_the_best_pairs_count_and_lost_ones_lower_the_recall():
    query, reference, truth, background = world()
    scores = plain_scores(query, reference, background, None)
    for most in (1, 7, 40):
        result = copy_detection(query, reference, truth, most=most)
        assert len(result.ranked.score) == most
        assert result.uap == pytest.approx(plain_uap(scores, truth, most), rel=1e-9)


def test_some_neighbors_of_each_query_or_all_of_them():
    query, reference, truth, _ = world()
    every, some = copy_detection(query, reference, truth), copy_detection(query, reference, truth, neighbors=40)
    assert some.uap == every.uap
    few = copy_detection(query, reference, truth, neighbors=2)
    assert len(few.ranked.score) == 60
    assert (few.ranks < 2).sum() == (every.ranks < 2).sum()
    assert (few.ranks >= 10).sum() == (every.ranks >= 2).sum()


@pytest.mark.parametrize("cells", [1, 7, 100, 2**22])
@pytest.mark.parametrize("most", [1, 13, 1000])
def test_the_best_pairs_are_those_of_a_sort_for_any_tile(monkeypatch, cells, most):
    monkeypatch.setattr(sys.modules[nearest_pairs.__module__], "CELLS", cells)
    query, bank = torch.randint(-2, 3, (12, 3)).float(), torch.randint(-2, 3, (9, 3)).float()  # many are equal
    heard: list[int] = []
    found = nearest_pairs(query, bank, most, on_progress=heard.append)
    order = sorted((-float(query[q] @ bank[r]), q, r) for q in range(12) for r in range(9))[:most]
    assert list(zip(found.query.tolist(), found.row.tolist(), strict=True)) == [(q, r) for _, q, r in order]
    assert found.similarity.tolist() == [-s for s, *_ in order]
    assert heard[-1] == 12


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_refused(wrong):
    query, reference, truth, _ = world()
    broken = reference.clone()
    broken[[3, 5], 1] = wrong
    with pytest.raises(ValueError, match="2 of 40 bank rows are not finite, and cannot be compared: look at the model"):
        nearest_pairs(query, broken, 10)
    with pytest.raises(ValueError, match="2 of 40 references are not finite"):
        copy_detection(query, broken, truth)
    with pytest.raises(ValueError, match="2 of 40 references are not finite"):
        copy_detection(query, broken, truth, neighbors=5)
    with pytest.raises(ValueError, match="2 of 40 queries are not finite"):
        copy_detection(broken, reference, truth)


def test_two_encoders_may_describe_the_two_sides():
    truth = torch.stack([torch.arange(6), torch.arange(6)], dim=1)
    turn = torch.linalg.qr(torch.randn(6, 6)).Q
    result = copy_detection(torch.eye(6), torch.eye(6) @ turn, truth)
    assert result.uap == pytest.approx(plain_uap(plain_scores(torch.eye(6), turn, turn, None), truth))
    assert copy_detection(torch.eye(6) @ turn, torch.eye(6) @ turn, truth).uap == 1


def test_bootstrap_samples_are_those_of_resampled_queries(monkeypatch):
    query, reference, truth, _ = world()
    result = copy_detection(query, reference, truth)
    heard: list[int] = []
    values = result.resampled(draws=50)
    monkeypatch.setattr(sys.modules[copy_detection.__module__], "CELLS", 20 * 30)  # 20 samples of all queries
    assert torch.equal(values, result.resampled(draws=50, on_progress=heard.append))
    assert heard == [20, 40, 50]
    assert not torch.equal(values, result.resampled(draws=50, seed=1))
    low, high = percentiles(values)
    assert low < result.uap < high
    assert (low, high) == pytest.approx(tuple(values.sort().values[[1, 48]].tolist()), abs=0.05)


def test_bootstrap_samples_without_an_original_do_not_count():
    result = copy_detection(torch.eye(3), torch.eye(3)[:1], torch.tensor([[0, 0]]))
    values = result.resampled(draws=40)
    assert values.isnan().any()
    assert percentiles(values) == (1.0, 1.0)


def edited() -> CopyResult:
    """Queries 0 to 3 have the originals 0 to 3, 4 and 5 none; query 2 finds another first, query 5 is a false alarm."""
    reference = torch.eye(8)
    query = torch.stack([*(0.5 * reference[:4] + 0.1 * reference[7]), 0.3 * reference[6] + reference[5], reference[4]])
    query[2] = 0.4 * reference[2] + 0.9 * reference[3]
    return copy_detection(query, reference, torch.tensor([[0, 0], [1, 1], [2, 2], [3, 3]]))


def test_queries_without_an_original_are_counted_by_their_best_score():
    result = edited()
    assert result.without.tolist() == [False] * 4 + [True] * 2
    assert (result.false_positives(0.99), result.false_positives(0.5)) == (0.5, 1.0)
    assert result.false_positives(1.1) == 0
    every = copy_detection(torch.eye(2), torch.eye(2), torch.tensor([[0, 0], [1, 1]]))
    assert math.isnan(every.false_positives(0.5))


def test_a_row_for_each_edit_at_each_strength_and_at_all():
    result = edited()
    crop, blur = ("crop", 1), ("blur", 2)
    rows = by_edit(result, [[crop], [("crop", 3)], [blur, crop], [blur], [crop], []])
    found = {(row.family, row.strength): row for row in rows}
    assert list(found) == [("blur", None), ("blur", 2), ("crop", None), ("crop", 1), ("crop", 3)]
    # crop at 1 is on queries 0, 2 and, without an original, 4; 5 is in every haystack, and scores 1 where 0 scores 0.98
    row = found["crop", 1]
    assert (row.pairs, row.recall_1) == (2, 0.5)
    order = result.ranked
    kept = [(int(q), bool(t)) for q, t in zip(order.query, order.true, strict=True) if q in (0, 2, 4, 5)]
    hits = [i for i, (_, true) in enumerate(kept, start=1) if true]
    assert row.uap == pytest.approx((1 / hits[0] + 2 / hits[1]) / 2)
    assert kept[:2] == [(5, False), (0, True)]
    assert found["crop", 3].uap == pytest.approx(1 / 2)
    every, one = ({**vars(found["blur", at]), "strength": None} for at in (None, 2))
    assert str(every) == str(one)  # NaN for no query without an original


def test_false_alarms_of_an_edit_are_those_of_its_queries_without_an_original():
    query, reference, truth, _ = world(queries=40, pairs=20)
    query[:15] = reference[truth[:15, 1]]  # exact copies: there is a threshold
    query[30:33] = reference[:3] + 0.05
    result = copy_detection(query, reference, truth[:20])
    assert result.point is not None
    edits = [[("noise", 1)] if q % 2 else [] for q in range(40)]
    (every, _) = by_edit(result, edits)
    above = {int(q) for q, s in zip(result.ranked.query, result.ranked.score, strict=True) if s >= result.point[1]}
    odd = [q for q in range(20, 40) if q % 2]
    assert every.false_positives == pytest.approx(sum(q in above for q in odd) / len(odd))
    alone = by_edit(result, [[("clean", 1)] if q == 30 else [] for q in range(40)])[0]
    assert alone.pairs == 0
    assert math.isnan(alone.uap)
    assert alone.false_positives in (0, 1)


def test_what_cannot_be_judged_is_refused():
    query, reference, truth, background = world()
    with pytest.raises(ValueError, match="score normalization needs a background set"):
        copy_detection(query, reference, truth, normalization=SSCD)
    with pytest.raises(ValueError, match="score normalization reads 3 neighbors"):
        copy_detection(query, reference, truth, normalization=SSCD, background_rows=background[:2])
    with pytest.raises(ValueError, match="the ground truth names no pair"):
        copy_detection(query, reference, truth[:0])
    with pytest.raises(ValueError, match="the ground truth names rows beyond the 30 queries or 40 references"):
        copy_detection(query, reference, truth + torch.tensor([0, 40]))
    with pytest.raises(ValueError, match="0 queries cannot look for 40 references"):
        copy_detection(query[:0], reference, truth)
    with pytest.raises(ValueError, match="edits of 1 queries are given, and 30 were ranked"):
        by_edit(copy_detection(query, reference, truth), [[]])
    with pytest.raises(ValueError, match="0 pairs were asked for"):
        nearest_pairs(query, reference, 0)
