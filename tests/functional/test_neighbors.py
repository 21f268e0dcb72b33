"""The nearest keys: those of the whole matrix, for any tile, with and without a mask."""

import pytest
import torch

from lookalike.functional.neighbors import nearest_keys
from methods.fixtures import keyed


@pytest.mark.parametrize("entries", [1, 40, 2**22])
@pytest.mark.parametrize("k", [1, 4, 35])
def test_they_are_those_of_the_whole_matrix(k: int, entries: int, monkeypatch) -> None:
    monkeypatch.setattr("lookalike.functional.neighbors.ENTRIES", entries)
    q, keys = keyed("q", 7), keyed("queue", 35)
    found, whole = nearest_keys(q, keys, k), (q @ keys.T).sort(1, descending=True)
    assert torch.equal(found.rows, whole.indices[:, :k])
    torch.testing.assert_close(found.similarity, whole.values[:, :k], rtol=1e-12, atol=1e-12)


def test_masked_keys_come_last() -> None:
    q, keys, mask = keyed("q", 7), keyed("queue", 35), torch.zeros(7, 35, dtype=torch.bool)
    first = nearest_keys(q, keys, 2).rows
    mask.scatter_(1, first[:, :1], True)
    assert torch.equal(nearest_keys(q, keys, 1, mask=mask).rows, first[:, 1:])
    last = nearest_keys(q, keys, 35, mask=mask)
    assert torch.equal(last.rows[:, -1:], first[:, :1])
    assert last.similarity[:, -1].isneginf().all()


@pytest.mark.parametrize("k", [0, 36])
def test_another_number_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"the {k} nearest of 35 keys"):
        nearest_keys(keyed("q", 7), keyed("queue", 35), k)
