"""The queue: a ring buffer of the newest rows, exact for any batch size."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NewType

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor, nn

from lookalike.functional.random import generator

Rows = NewType("Rows", int)  # how many rows of earlier images a method keeps in a queue of its own making


@dataclass(frozen=True)
class Column:
    """What a queue keeps of each row: `dim` numbers, or one number where dim is None (a video's id)."""

    dim: int | None = None
    dtype: torch.dtype = torch.float32


class Queue(nn.Module):
    """The newest `size` rows, the oldest overwritten first (He et al., MoCo, 2020, section 3.2).

    >>> queue = Queue(4, 2, init="empty")
    >>> for number in range(3):
    ...     queue.push(torch.full((2, 2), float(number)))
    >>> queue.rows()[:, 0].tolist()                    # K x D, a view; the first two rows were overwritten
    [2.0, 2.0, 1.0, 1.0]

    Several columns with one write position, so that rows cannot drift apart:

        queue = Queue(2048, columns={"rgb": Column(128), "flow": Column(128), "video": Column(dtype=torch.int64)})
        queue.push(rgb=a_BD, flow=b_BD, video=id_B)
        queue.rows("rgb")

    init "normal": full from the start, with random rows of norm 1 (MoCo's and SCE's code; -1 in integer columns).
    init "empty": holds what was pushed. All state is in the state dict. A half-precision column stays so when the
    module is converted.
    """

    position: Tensor
    count: Tensor
    active: Tensor

    def __init__(
        self,
        size: int,
        dim: int | None = None,
        *,
        columns: Mapping[str, Column] | None = None,
        init: Literal["normal", "empty"] = "normal",
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"a queue holds at least 1 row, and size {size} was given")
        if (dim is None) == (columns is None):
            raise ValueError("a queue takes either dim, for one column, or columns: give exactly one of them")
        self.size = size
        self.columns: dict[str, Column] = dict(columns) if columns else {"keys": Column(dim, dtype)}
        for name, column in self.columns.items():
            start = _normal(size, column, seed, name) if init == "normal" else _empty(size, column)
            self.register_buffer(f"rows_{name}", start)
        self.register_buffer("position", torch.tensor(0))
        self.register_buffer("count", torch.tensor(size if init == "normal" else 0))
        self.register_buffer("active", torch.ones(len(self.columns), dtype=torch.bool))
        self._read_state()

    @property
    def filled(self) -> int:
        """Rows held."""
        return self._filled

    @property
    def full(self) -> bool:
        return self._filled == self.size

    def rows(self, column: str | None = None) -> Shaped[Tensor, "K *row"]:
        """The rows held, as a view that later pushes change; they start at row 0, in ring order, not by age.

        The name may be left out where there is one column. Raises ValueError for a column that is not in use.
        """
        if column is None and len(self.columns) == 1:
            (column,) = self.columns
        if column not in self._active:
            raise ValueError(f"this queue has the columns {_listed(self._active)} in use, and {column!r} was asked for")
        return self.get_buffer(f"rows_{column}")[: self._filled]

    @torch.no_grad()
    def push(self, keys: Shaped[Tensor, "..."] | None = None, **columns: Shaped[Tensor, "..."]) -> None:
        """Writes one row per sample, over the oldest; of a batch larger than the queue the last `size` rows stay.

        Fills exactly the columns in use: by name, or unnamed where there is one column called "keys".
        Raises ValueError for other columns, unequal numbers of rows, or rows of another shape.
        """
        given = columns if keys is None else {"keys": keys, **columns}
        total = self._checked(given)
        kept = min(total, self.size)
        start = (self._position + total - kept) % self.size
        before_end = min(kept, self.size - start)
        for name, pushed in given.items():
            store, newest = self.get_buffer(f"rows_{name}"), pushed[total - kept :]
            store[start : start + before_end] = newest[:before_end].to(store.dtype)
            store[: kept - before_end] = newest[before_end:].to(store.dtype)
        self._write_state((self._position + total) % self.size, min(self.size, self._filled + total))

    def clear(self, columns: Iterable[str] | None = None) -> None:
        """Forgets all rows. From now on the given columns are in use, by default all.

        Raises ValueError for a column that the queue does not have.
        """
        use = set(self.columns if columns is None else columns)
        if not use or not use <= self.columns.keys():
            raise ValueError(f"this queue has the columns {_listed(self.columns)}, and {_listed(use)} was to be used")
        for number, name in enumerate(self.columns):
            self.active[number] = name in use
        self._active = tuple(name for name in self.columns if name in use)
        self._write_state(0, 0)

    def extra_repr(self) -> str:
        return f"size={self.size}, filled={self._filled}, columns={_listed(self.columns)}"

    def _checked(self, given: Mapping[str, Tensor]) -> int:
        """The number of rows in a push."""
        if set(given) != set(self._active):
            raise ValueError(
                f"a push into this queue fills exactly {_listed(self._active)}, and {_listed(given)} was given"
            )
        for name, pushed in given.items():
            store = self.get_buffer(f"rows_{name}")
            if pushed.shape[1:] != store.shape[1:] or pushed.is_floating_point() != store.is_floating_point():
                raise ValueError(
                    f"column {name!r} holds {store.dtype} rows of shape {tuple(store.shape[1:])}, and the push has "
                    f"{pushed.dtype} rows of shape {tuple(pushed.shape[1:])}"
                )
        lengths = {name: len(pushed) for name, pushed in given.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns of a push have different numbers of rows: {lengths}")
        return next(iter(lengths.values()))

    # The write position and the number of rows are kept as Python numbers too: reading a buffer on a GPU would wait.

    def _write_state(self, position: int, filled: int) -> None:
        self._position, self._filled = position, filled
        self.position.fill_(position)
        self.count.fill_(filled)

    def _read_state(self) -> None:
        self._position, self._filled = int(self.position), int(self.count)
        self._active = tuple(name for name, used in zip(self.columns, self.active.tolist(), strict=True) if used)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._read_state()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Queue":
        super()._apply(fn, recurse)
        for name, column in self.columns.items():
            if column.dtype in (torch.float16, torch.bfloat16):
                self._buffers[f"rows_{name}"] = self.get_buffer(f"rows_{name}").to(column.dtype)
        return self


def _empty(size: int, column: Column) -> Tensor:
    return torch.zeros((size,) if column.dim is None else (size, column.dim), dtype=column.dtype)


def _normal(size: int, column: Column, seed: int, name: str) -> Tensor:
    rows = _empty(size, column)
    if not column.dtype.is_floating_point:
        return rows.fill_(-1)
    drawn = torch.randn(rows.shape, generator=generator("queue", seed, name))
    return (drawn if column.dim is None else F.normalize(drawn, dim=1)).to(column.dtype)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
