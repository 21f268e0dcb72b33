"""A run in Python: what `pretrain` returns, and what a run folder can be opened as."""

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from lookalike.api.embed import Embedded, embed
from lookalike.api.evaluate import Report, evaluate
from lookalike.api.export import Exported, export
from lookalike.api.folder import RunFolder
from lookalike.modules import Descriptor, Encoder
from lookalike.recipes import Recipe


class Run:
    """A run folder. `encoder` maps (B, C, H, W) pixels, uint8 or floats in [0, 1], to features (B, D)."""

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = RunFolder(Path(folder))
        self.recipe: Recipe = self.folder.recipe()

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def encoder(self) -> Encoder | Descriptor:
        """The trained network, in eval mode. Raises ValueError while training has not finished, or if it left two."""
        return self.folder.encoder()

    def network(self, role: str) -> Encoder | Descriptor:
        """The trained network of a role, for instance "query". Raises ValueError as `encoder`."""
        return self.folder.encoder(role)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl. Raises ValueError where there is none."""
        if not self.folder.metrics.is_file():
            raise ValueError(f"{self.folder.metrics} is missing: no step was trained yet, or restore it from a copy")
        return [json.loads(line) for line in self.folder.metrics.read_text().splitlines()]

    def evaluate(
        self,
        data: str | PathLike[str],
        protocols: str | Sequence[str] = ("knn",),
        *,
        others: Sequence[str] = (),
        role: str = "encoder",
    ) -> Report:
        """Scores on labelled images, beside raw pixels, random weights and `others`: see `lookalike.evaluate`."""
        return evaluate(self.path, data, protocols=protocols, others=others, role=role)

    def embed(self, data: Any, out: str | PathLike[str], role: str = "encoder") -> Embedded:
        """Features of all images of `data` in FILE.parquet or FILE.npy: see `lookalike.embed`."""
        return embed(self.path, data, out=out, role=role)

    def export(self, to: str, out: str | PathLike[str] | None = None, role: str = "encoder") -> Exported:
        """The encoder as a file for other software: see `lookalike.export`."""
        return export(self.path, to=to, out=out, role=role)

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"
