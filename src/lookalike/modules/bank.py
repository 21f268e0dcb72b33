"""The bank: one row per sample of the data set, in memory or in a memory-mapped file."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NewType

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor, nn


class Bank(nn.Module):
    """N x D rows, addressed by sample index.

    With derived=True the rows are a function of something frozen: they are left out of the state dict, and `fill`
    must run before they are read. Otherwise they start at zero and are saved. A half-precision bank stays so when
    the module is converted.

    folder: the rows of a derived bank lie in a file there instead of in memory, on the disk as far as memory does not
    suffice. The file has no name, so that nothing is left of it however the process ends. Such a bank stays on the CPU,
    in its own precision.

    >>> bank = Bank(3, 2)
    >>> bank.fill(iter([(torch.tensor([2, 0]), torch.ones(2, 2)), (torch.tensor([1]), torch.zeros(1, 2))]))
    >>> bank.rows().tolist()
    [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]
    """

    table: Tensor

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        dtype: torch.dtype = torch.float32,
        derived: bool = False,
        folder: Path | None = None,
    ) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"a bank has at least 1 row of at least 1 number, and {size} x {dim} was given")
        if folder is not None and not derived:
            raise ValueError("only a derived bank may lie in a file: its rows are not saved (derived=True)")
        table = torch.zeros(size, dim, dtype=dtype) if folder is None else _mapped(folder, size, dim, dtype)
        self.register_buffer("table", table, persistent=not derived)
        self.dtype, self.derived, self.mapped = dtype, derived, folder is not None
        self._readable = not derived

    @staticmethod
    def bytes(size: int, dim: int, dtype: torch.dtype = torch.float32) -> int:
        """What so many rows take, in memory or on the disk."""
        return size * dim * dtype.itemsize

    def rows(self) -> Shaped[Tensor, "N D"]:
        """All rows, as a view that later writes change. Raises RuntimeError for a derived bank not yet filled."""
        if not self._readable:
            raise RuntimeError("this bank is derived and has not been filled since the start: fill it in prepare")
        return self.table

    @torch.no_grad()
    def fill(self, pairs: Iterable[tuple[Int64[Tensor, "B"], Shaped[Tensor, "B D"]]]) -> None:
        """Writes every row from (index, rows) pairs in any order; an index may come again.

        Raises ValueError if a row was not among them.
        """
        seen = torch.zeros(len(self.table), dtype=torch.bool, device=self.table.device)
        for index, rows in pairs:
            self.write(index, rows)
            seen[index.to(seen.device)] = True
        missing = (~seen).nonzero().flatten()
        if len(missing):
            raise ValueError(
                f"{len(missing)} of the bank's {len(seen)} rows were not filled, the first is {int(missing[0])}: "
                "fill it from the whole data set"
            )
        self._readable = True

    @torch.no_grad()
    def write(self, index: Int64[Tensor, "B"], rows: Shaped[Tensor, "B D"]) -> None:
        """Replaces the rows at `index`, which should not hold a number twice.

        Raises ValueError for rows of another width, IndexError for an index outside the bank.
        """
        if rows.shape != (len(index), self.table.shape[1]):
            raise ValueError(
                f"{len(index)} rows of {self.table.shape[1]} numbers were expected for this bank, "
                f"and the shape {tuple(rows.shape)} was given"
            )
        self.table.index_copy_(0, index.to(self.table.device), rows.to(self.table))

    def extra_repr(self) -> str:
        size, dim = self.table.shape
        return f"size={size}, dim={dim}, derived={self.derived}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Bank":
        if self.mapped:
            return self
        super()._apply(fn, recurse)
        if self.dtype in (torch.float16, torch.bfloat16):
            self.table = self.table.to(self.dtype)
        return self


DerivedBank = NewType("DerivedBank", Bank)  # what a method fills in `prepare`: built with derived=True


def _mapped(folder: Path, size: int, dim: int, dtype: torch.dtype) -> Tensor:
    """Zeros in a file that has no name any more. Raises OSError where the folder has no room for them."""
    needed, free = Bank.bytes(size, dim, dtype), shutil.disk_usage(folder).free
    if free < needed:  # a full disk would end the process when a page is first written
        raise OSError(
            errno.ENOSPC, f"a bank needs {needed / 1e9:,.1f} GB and {free / 1e9:,.1f} GB are free", str(folder)
        )
    handle, path = tempfile.mkstemp(dir=folder, prefix="bank-")
    try:
        return torch.from_file(path, shared=True, size=size * dim, dtype=dtype).view(size, dim)
    finally:
        os.close(handle)
        os.unlink(path)
