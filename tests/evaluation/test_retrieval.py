"""Retrieval against a plain loop and scikit-learn, with ties, duplicates and queries that have nothing to find."""

import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from lookalike.evaluation import retrieval


def plain(query: Tensor, truth: Tensor, items: Tensor, labels: Tensor, alone: bool) -> list[tuple[float, int] | None]:
    """AP and first rank of each query by loops, in double precision; None where nothing is relevant."""
    answers: list[tuple[float, int] | None] = []
    for i, x in enumerate(query.double().numpy()):
        others = [j for j in range(len(items)) if not (alone and i == j)]
        similarity = {}
        for j in others:
            y = items[j].double().numpy()
            similarity[j] = round(float(x @ y) / (np.linalg.norm(x) * np.linalg.norm(y)) * 2**20)
        ranking = sorted(others, key=lambda j: (-similarity[j], j))
        ranks = [rank for rank, j in enumerate(ranking, start=1) if labels[j] == truth[i]]
        answers.append((np.mean([n / rank for n, rank in enumerate(ranks, 1)]), ranks[0]) if ranks else None)
    return answers


@pytest.mark.parametrize("alone", [True, False])
def test_equals_a_plain_loop_with_duplicates_and_queries_without_relevant_items(alone):
    query, truth = torch.randn(50, 6), torch.randint(0, 5, (50,))
    query[40:] = query[:10]  # equally similar to everything
    truth[7] = 9  # nothing else is of class 9
    items, labels = (query, truth) if alone else (torch.cat([torch.randn(60, 6), query[:20]]), torch.arange(80) % 5)
    answers = plain(query, truth, items, labels, alone)
    result = retrieval(query, truth) if alone else retrieval(query, truth, items, labels)
    found = [answer for answer in answers if answer]
    assert result.without.tolist() == [i for i, answer in enumerate(answers) if answer is None] == [7]
    expected = [answer[0] if answer else np.nan for answer in answers]
    np.testing.assert_allclose(result.precision.numpy(), expected, rtol=1e-12)
    assert result.mean_precision == pytest.approx(np.mean([ap for ap, _ in found]), rel=1e-12)
    for k in (1, 5, 10, 20):
        assert result.recall[k] == pytest.approx(np.mean([first <= k for _, first in found]))
    assert (result.n_query, result.n_gallery) == (50, 49 if alone else 80)
    assert result.note == "1 of 50 queries have no relevant item and count nowhere: rows 7"


def test_precision_is_that_of_scikit_learn_where_nothing_ties():
    query, items, labels = torch.randn(20, 8), torch.randn(200, 8), torch.arange(200) % 7
    truth = torch.arange(20) % 7
    result = retrieval(query, truth, items, labels)
    cosine = (torch.nn.functional.normalize(query) @ torch.nn.functional.normalize(items).T).numpy()
    for i in range(20):
        theirs = average_precision_score((labels == truth[i]).numpy(), cosine[i])
        assert float(result.precision[i]) == pytest.approx(theirs, rel=1e-9)


def test_by_hand():
    query, truth = torch.tensor([[1.0, 0.0]]), torch.tensor([1])
    items = torch.tensor([[1.0, 0.1], [1.0, 0.2], [1.0, 0.3], [1.0, 0.4]])
    result = retrieval(query, truth, items, torch.tensor([0, 1, 0, 1]))
    assert result.mean_precision == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert result.cmc[:4].tolist() == [0, 1, 1, 1]
    assert retrieval(query, truth, items, torch.tensor([1, 1, 0, 0])).mean_precision == 1
    assert retrieval(query, truth, items, torch.tensor([0, 0, 0, 1])).mean_precision == 0.25


def test_of_equally_similar_items_the_lowest_row_comes_first():
    query, items = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0]] * 3)
    for label, precision in ((0, 1), (1, 1 / 2), (2, 1 / 3)):
        result = retrieval(query, torch.tensor([label]), items, torch.arange(3))
        assert result.mean_precision == pytest.approx(precision)


def test_a_query_is_left_out_of_its_own_ranking_but_its_duplicates_are_not():
    rows, labels = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0.1, 1]]), torch.tensor([0, 0, 1, 1])
    result = retrieval(rows, labels)
    assert result.mean_precision == 1
    assert retrieval(rows, torch.tensor([0, 1, 0, 1])).recall[1] == 0


def test_does_not_depend_on_how_many_queries_are_ranked_at_a_time(monkeypatch):
    rows, labels = torch.randn(90, 5), torch.randint(0, 4, (90,))
    whole = retrieval(rows, labels)
    monkeypatch.setattr(sys.modules[retrieval.__module__], "CELLS", 7 * 90)
    heard: list[int] = []
    parts = retrieval(rows, labels, on_progress=heard.append)
    assert heard == [*range(7, 90, 7), 90]
    assert torch.equal(whole.precision, parts.precision)
    assert torch.equal(whole.cmc, parts.cmc)


def test_what_cannot_be_ranked_is_refused():
    rows, labels = torch.randn(3, 2), torch.arange(3)
    with pytest.raises(ValueError, match="no query has a relevant item"):
        retrieval(rows, labels)
    with pytest.raises(ValueError, match="a gallery is rows and labels"):
        retrieval(rows, labels, rows)
    with pytest.raises(ValueError, match="1 queries cannot be ranked in a gallery of 1"):
        retrieval(rows[:1], labels[:1])
    with pytest.raises(ValueError, match="0 queries cannot be ranked"):
        retrieval(rows[:0], labels[:0], rows, labels)
