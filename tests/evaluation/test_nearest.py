"""Exact neighbors against a plain sort, with ties, duplicates and any tile size."""

import numpy as np
import pytest
import torch

from lookalike.evaluation import nearest, neighbors


def plain(query: np.ndarray, bank: np.ndarray, k: int, own: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows sorted by (similarity down, row up), in double precision."""
    query = query / np.linalg.norm(query, axis=1, keepdims=True)
    bank = bank / np.linalg.norm(bank, axis=1, keepdims=True)
    rows, values = [], []
    for i, q in enumerate(query):
        similarity = [round(float(q @ b) * 2**20) / 2**20 for b in bank]
        order = sorted(range(len(bank)), key=lambda j: (-similarity[j], j))
        order = [j for j in order if own is None or j != own[i]][:k]
        rows.append(order)
        values.append([similarity[j] for j in order])
    return np.array(rows), np.array(values)


@pytest.mark.parametrize("k", [1, 3, 17])
@pytest.mark.parametrize("tile", [1, 4, 1000])
def test_equals_a_plain_sort_where_similarities_tie(monkeypatch, k, tile):
    # Coordinates are small powers of two: products are exact, and many of them are equal.
    monkeypatch.setattr(neighbors, "BANK_TILE", tile)
    values = torch.tensor([-1.0, 0.0, 1.0])
    bank = values[torch.randint(0, 3, (40, 4))]
    bank[bank.abs().sum(1) == 0] = 1
    query = bank[torch.randperm(40)[:11]]
    rows, similarity = nearest(query, bank, k, exclude_self=False, chunk=4)
    expected_rows, expected = plain(query.numpy().astype(float), bank.numpy().astype(float), k, None)
    np.testing.assert_allclose(similarity, expected, atol=1e-6)
    assert np.array_equal(rows, expected_rows)


def test_a_row_is_not_its_own_neighbor_but_its_duplicate_is():
    bank = torch.tensor([[1.0, 0], [0, 1], [1, 0], [1, 1]])
    rows, similarity = nearest(bank, bank, 2)
    assert rows.tolist() == [[2, 3], [3, 0], [0, 3], [0, 1]]
    torch.testing.assert_close(similarity[0], torch.tensor([1.0, 0.5**0.5]), atol=1e-6, rtol=0)


def test_own_says_which_bank_row_a_query_is():
    bank = torch.randn(30, 8)
    some = torch.tensor([4, 29, 0])
    rows, similarity = nearest(bank[some], bank, 5, own=some)
    everything = nearest(bank, bank, 5)
    assert torch.equal(rows, everything.rows[some])
    assert torch.equal(similarity, everything.similarity[some])
    assert not (rows == some[:, None]).any()


def test_norms_do_not_matter_and_k_is_limited_by_what_there_is():
    bank = torch.randn(6, 4)
    scaled = bank * torch.tensor([1.0, 2, 4, 8, 16, 32])[:, None]
    assert torch.equal(nearest(bank, bank, 99).rows, nearest(scaled, scaled, 99).rows)
    assert nearest(bank, bank, 99).rows.shape == (6, 5)
    assert nearest(bank, bank, 99, exclude_self=False).rows.shape == (6, 6)
    assert nearest(bank[:0], bank, 3, exclude_self=False).rows.shape == (0, 3)


def test_mistakes_are_sentences():
    bank = torch.randn(6, 4)
    with pytest.raises(ValueError, match="k is 0"):
        nearest(bank, bank, 0)
    with pytest.raises(ValueError, match=r"2 queries cannot be matched with 6 bank rows"):
        nearest(bank[:2], bank, 1)
