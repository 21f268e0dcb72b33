"""The rule that picks a recipe for a bare folder."""

from typing import NamedTuple


class Choice(NamedTuple):
    recipe: str
    overrides: tuple[str, ...]
    reasons: tuple[str, ...]


def choose(method: str | None, *, side: int, images: int, device: str) -> Choice:
    raise ValueError("no rule yet")
