"""Rows of many images on the way to one file: parts that are whole or not there, joined in order at the end."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from torch import Tensor

from lookalike.data import Skipped
from lookalike.training.checkpoint import write_atomic
from lookalike.training.files import explained, remove, replacing

SCHEMA = pa.schema([("id", pa.string()), ("embedding", pa.list_(pa.float32()))])
KINDS = (".parquet", ".npy")


@dataclass(frozen=True)
class Part:
    """Ids and rows of some images in order, and those that could not be read."""

    ids: list[str]
    rows: Float[Tensor, "N D"]
    skipped: Sequence[Skipped]


class Parts:
    """The folder OUT.parts. facts: what the rows depend on; parts of anything else are refused.

    Raises ValueError where `out` cannot be written, or is there already.
    """

    def __init__(self, out: Path, facts: Mapping[str, Any]) -> None:
        if out.suffix not in KINDS:
            raise ValueError(f"--out {out} ends neither in .parquet nor in .npy: name the file that is wanted")
        taken = [path for path in self.files(out) if path.exists()]
        if taken:
            raise ValueError(f"{taken[0]} is there already: remove it, or choose another --out")
        self.out, self.facts = out, dict(facts)
        self.folder = out.with_name(out.name + ".parts")

    @staticmethod
    def files(out: Path) -> list[Path]:
        """What is there at the end."""
        return [out] if out.suffix == ".parquet" else [out, out.with_suffix(".ids.json")]

    def begin(self) -> None:
        """Makes the folder, or takes up one whose parts belong to the same rows."""
        card = self.folder / "of.json"
        if not card.exists():
            with explained(f"make {self.folder}"):
                self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(card, json.dumps(self.facts).encode())
        try:
            earlier = json.loads(card.read_text())
        except (OSError, ValueError):
            earlier = None
        if earlier != self.facts:
            raise ValueError(
                f"{self.folder} holds rows of another encoder, of other images, or of another batch: remove it, or "
                "choose another --out"
            )

    def read(self, number: int) -> Part | None:
        """A finished part, or None; one that cannot be read any more is computed again."""
        try:
            table = pq.read_table(self.path(number))
        except (OSError, pa.ArrowInvalid):
            return None
        skipped = [Skipped(**one) for one in json.loads(table.schema.metadata[b"skipped"])]
        return Part(table["id"].to_pylist(), _rows(table), skipped)

    def write(self, number: int, part: Part) -> Part:
        """Keeps a part, whole or not at all."""
        skipped = json.dumps([asdict(one) for one in part.skipped])
        with replacing(self.path(number)) as temporary:
            pq.write_table(_table(part).replace_schema_metadata({"skipped": skipped}), temporary)
        return part

    def join(self, numbers: Sequence[int]) -> tuple[int, int]:
        """Writes the file from its parts, removes them, and returns rows and numbers in each.

        Raises ValueError where no image could be read.
        """
        shapes = [part.rows.shape for part in self._all(numbers) if part.ids]
        if not shapes:
            raise ValueError(f"none of the images could be read, so there is nothing to write into {self.out}")
        total, dim = sum(count for count, _ in shapes), shapes[0][1]
        (self._as_parquet if self.out.suffix == ".parquet" else self._as_array)(numbers, total, dim)
        remove(self.folder)
        return total, dim

    def path(self, number: int) -> Path:
        return self.folder / f"{number:06}.parquet"

    def _as_parquet(self, numbers: Sequence[int], total: int, dim: int) -> None:
        told = {"lookalike": json.dumps({"encoder": self.facts["encoder"], "dim": dim})}
        with replacing(self.out) as temporary, pq.ParquetWriter(temporary, SCHEMA.with_metadata(told)) as writer:
            for part in self._all(numbers):
                if part.ids:
                    writer.write_table(_table(part).replace_schema_metadata(told))

    def _as_array(self, numbers: Sequence[int], total: int, dim: int) -> None:
        rows, ids = self.files(self.out)
        names: list[str] = []
        with replacing(rows) as temporary:
            array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=(total, dim))
            for part in self._all(numbers):
                array[len(names) : len(names) + len(part.ids)] = part.rows.numpy()
                names += part.ids
            array.flush()
            write_atomic(ids, json.dumps(names).encode())  # before the rows have their name

    def _all(self, numbers: Sequence[int]) -> Iterator[Part]:
        for number in numbers:
            part = self.read(number)
            if part is None:
                raise ValueError(f"{self.path(number)} has gone while its file was written: run the same command again")
            yield part


def _table(part: Part) -> pa.Table:
    count, dim = part.rows.shape
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * dim)
    lists = pa.ListArray.from_arrays(offsets, pa.array(part.rows.contiguous().numpy().reshape(-1)))
    return pa.Table.from_arrays([pa.array(part.ids, pa.string()), lists.cast(pa.list_(pa.float32()))], schema=SCHEMA)


def _rows(table: pa.Table) -> Tensor:
    column = table["embedding"].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return torch.from_numpy(flat.reshape(len(table), -1).copy()) if len(table) else torch.empty(0, 0)
