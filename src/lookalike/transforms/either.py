"""One of two sequences of changes, chosen per sample; and a change of some rows of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

Pixels = Shaped[Tensor, "B C H W"]
Values = Mapping[str, Shaped[Tensor, "B ..."]]


@runtime_checkable
class Change(Protocol):
    """What a chain's changes have: uniform numbers become values, and values change pixels where "applies"."""

    @property
    def columns(self) -> int: ...
    def draw(self, u_BK: Tensor) -> Values: ...
    def change(self, x_BCHW: Pixels, values: Values) -> Pixels: ...


@dataclass(frozen=True)
class Either:
    """All of `first` with probability p, otherwise all of `second`.

    Values: "applies" (B,), true; those of each change under its number over both, "0/applies", "0/sigma" ...
    """

    first: tuple[Change, ...]
    second: tuple[Change, ...]
    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"Either takes a probability p from 0 to 1, got {self.p}")

    @property
    def columns(self) -> int:
        return 1 + sum(change.columns for change in (*self.first, *self.second))

    def draw(self, u_BK: Float64[Tensor, "B K"]) -> dict[str, Shaped[Tensor, "B ..."]]:
        changes = (*self.first, *self.second)
        choice_B1, *pieces = u_BK.split([1, *(change.columns for change in changes)], dim=1)
        first_B = choice_B1[:, 0] < self.p
        values = {"applies": torch.ones_like(first_B)}
        for number, (change, piece) in enumerate(zip(changes, pieces, strict=True)):
            drawn = {f"{number}/{name}": value for name, value in change.draw(piece).items()}
            drawn[f"{number}/applies"] &= first_B if number < len(self.first) else ~first_B
            values |= drawn
        return values

    def change(self, x_BCHW: Pixels, values: Values) -> Pixels:
        """May write into its argument, like `changed_rows`."""
        for number, change in enumerate((*self.first, *self.second)):
            own = {n.removeprefix(f"{number}/"): v for n, v in values.items() if n.startswith(f"{number}/")}
            x_BCHW = changed_rows(x_BCHW, change, own)
        return x_BCHW


def changed_rows(x_BCHW: Pixels, change: Change, values: Values) -> Pixels:
    """The change on the rows where it applies; may write into its argument."""
    rows = [row for row, applies in enumerate(values["applies"].tolist()) if applies]
    if len(rows) == len(x_BCHW):
        return change.change(x_BCHW, values)
    if rows:
        at = torch.tensor(rows, device=x_BCHW.device)
        x_BCHW[at] = change.change(x_BCHW[at], {name: value[at] for name, value in values.items()})
    return x_BCHW
