"""Brace patterns, which name many files in one word: shards-{0000..0009}.tar, {cats,dogs}.tar."""

import re
from collections.abc import Sequence
from itertools import product

MOST = 1_000_000  # names of one pattern
_GROUP = re.compile(r"\{([^{}]*(?:,|\.\.)[^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_pattern(text: str) -> bool:
    """Whether `text` holds braces with a range or a list in them."""
    return _GROUP.search(text) is not None


def expanded(pattern: str) -> list[str]:
    """All names of a pattern, the last braces counting fastest; numbers are as wide as the wider end of their range.

    Raises ValueError for a range that is none, and for more than a million names.
    """
    pieces = _GROUP.split(pattern)  # text, inside of braces, text ...
    groups = [_choices(inside, pattern) for inside in pieces[1::2]]
    count = 1
    for group in groups:
        count *= len(group)
    if count > MOST:
        raise ValueError(f"the pattern {pattern} names {count:,} files, more than {MOST:,}: narrow its range")
    return [_joined(pieces[::2], choice) for choice in product(*groups)]


def _choices(inside: str, pattern: str) -> Sequence[str]:
    if ".." not in inside:
        return inside.split(",")
    found = _RANGE.fullmatch(inside)
    if found is None:
        raise ValueError(
            f"the pattern {pattern} has {{{inside}}}, which is no range: write two numbers, as {{0000..0009}}"
        )
    first, last, width = int(found[1]), int(found[2]), max(map(len, found.groups()))
    if abs(last - first) >= MOST:
        raise ValueError(f"the pattern {pattern} names more than {MOST:,} files: narrow its range")
    padded = any(end.startswith("0") and len(end) > 1 for end in found.groups())
    step = 1 if last >= first else -1
    return [f"{number:0{width if padded else 1}}" for number in range(first, last + step, step)]


def _joined(texts: Sequence[str], choice: Sequence[str]) -> str:
    return "".join(text + chosen for text, chosen in zip(texts, [*choice, ""], strict=True))
