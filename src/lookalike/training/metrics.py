"""metrics.jsonl: one JSON object per line, only ever appended to, cut back to the step that a run resumes from."""

import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lookalike.training.files import explained, write_atomic
from lookalike.training.mirror import Mirror

Value: TypeAlias = Tensor | float | int | bool | str | None


class Metrics:
    """The lines of one file. A line with "step" s is written when s steps are done; each is on its way at once.

    JSON knows no NaN: such a value is written as null, and the line lists its name under "nonfinite". mirror: hears
    each line, too.
    """

    def __init__(self, path: Path, mirror: Mirror | None = None) -> None:
        self.path, self.mirror = path, mirror

    def truncate(self, step: int) -> None:
        """Drops lines past `step` and torn ones, so that no step appears twice. At step 0 nothing stays."""
        if self.path.exists():
            with explained(f"read {self.path}"):
                lines = self.path.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if step > 0 and _reached(line, step)]
            if kept != lines:
                write_atomic(self.path, b"".join(kept))
        if self.mirror:
            self.mirror.restart(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """The lines, in order; torn ones are left out."""
        if not self.path.exists():
            return []
        with explained(f"read {self.path}"):
            lines = self.path.read_bytes().splitlines(keepends=True)
        return [row for row in map(_whole, lines) if row is not None]

    def write(self, row: Mapping[str, Value]) -> dict[str, Any]:
        """Appends a line and returns it; scalar tensors are fetched together, with one wait for the device."""
        plain = fetch(row)
        wrong = [name for name, value in plain.items() if isinstance(value, float) and not math.isfinite(value)]
        plain |= dict.fromkeys(wrong)
        if wrong:
            plain["nonfinite"] = wrong
        line = json.dumps(plain, allow_nan=False).encode() + b"\n"
        with explained(f"write {self.path}"), open(self.path, "ab", buffering=0) as file:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.mirror:
            self.mirror.add(plain)
        return plain


def fetch(row: Mapping[str, Value]) -> dict[str, Any]:
    """The row with plain numbers for its scalar tensors, of any dtype, copied from each device at once."""
    scalars = {name: value.detach().reshape(()) for name, value in row.items() if isinstance(value, Tensor)}
    plain: dict[str, Any] = dict(row)
    for kind in {(value.device, value.dtype) for value in scalars.values()}:
        names = [name for name, value in scalars.items() if (value.device, value.dtype) == kind]
        plain |= zip(names, torch.stack([scalars[name] for name in names]).tolist(), strict=True)
    return plain


def _reached(line: bytes, step: int) -> bool:
    """Whether a line is whole and not past the step."""
    row = _whole(line)
    return row is not None and row["step"] <= step


def _whole(line: bytes) -> dict[str, Any] | None:
    """The row that a line holds, with a step; None if it was torn or is something else."""
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None
