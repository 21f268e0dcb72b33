"""Chunks hold every row once, in order, and no more bytes than they may unless one row has more."""

import pytest

from lookalike.functional.chunks import chunks


@pytest.mark.parametrize("rows", [0, 1, 7, 12])
@pytest.mark.parametrize(("bytes_of_a_row", "largest"), [(0, 24), (1, 24), (8, 3), (12, 2), (24, 1), (99, 1)])
def test_every_row_once(rows: int, bytes_of_a_row: int, largest: int) -> None:
    found = [list(range(rows))[part] for part in chunks(rows, bytes_of_a_row=bytes_of_a_row, scratch=24)]
    assert [row for part in found for row in part] == list(range(rows))
    assert all(len(part) == largest for part in found[:-1])
    assert all(1 <= len(part) <= largest for part in found)
