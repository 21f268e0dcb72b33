"""Rows in chunks that fit into bounded memory."""

from collections.abc import Iterator


def chunks(rows: int, *, bytes_of_a_row: int, scratch: int) -> Iterator[slice]:
    """Slices of `rows` rows, one after another, each of as many as take `scratch` bytes, and at least of one.

    >>> list(chunks(5, bytes_of_a_row=8, scratch=20))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 6, None)]
    """
    size = max(scratch // max(bytes_of_a_row, 1), 1)
    for start in range(0, rows, size):
        yield slice(start, start + size)
