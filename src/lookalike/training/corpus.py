"""The whole data set as a method sees it in `enter` and `prepare`: encoded rows, partner tables, random numbers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from lookalike.data import Cached, Files, Images
from lookalike.evaluation import stream
from lookalike.functional import random
from lookalike.modules import evaluating
from lookalike.training.runtime import Runtime
from lookalike.training.streams import Pairs, Streams
from lookalike.training.timeline import Stretch

CHUNK = 256  # samples encoded at once: fixed, so that rows have the same bits for any number of processes


@dataclass(frozen=True)
class WholeDataSet:
    """The `Corpus` of one phase (methods.corpus.Corpus says what it promises)."""

    streams: Streams
    stretch: Stretch
    runtime: Runtime
    chunk: int = CHUNK

    @property
    def size(self) -> int:
        return self.streams.size

    def encode(
        self, module: nn.Module, view: str, mode: Literal["eval", "train"] = "eval"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        self.demand_unchanged()
        encode = self.encode_alike if mode == "train" else self.encode_shared
        for index, rows in encode(module, view):
            yield index.to(self.runtime.device), rows.to(self.runtime.device)

    def demand_unchanged(self) -> None:
        """Raises ValueError where files have changed since the run started: a number would mean another image."""
        source, known = self.streams.source, self.streams.identity
        if known is None or isinstance(source, Cached) or not isinstance(source, Images) or source.identity() == known:
            return
        paths = [source.path(index) for index in range(self.size)] if isinstance(source, Files) else []
        gone = [path for path in paths if not os.path.exists(path)]
        change = f"names or sizes of the {self.size:,} files are not those that the run began with"
        if gone:
            change = f"gone are {len(gone):,} of the {self.size:,} files, the first {gone[0]}"
        raise ValueError(
            f"the images have changed before phase {self.stretch.phase.name!r}: {change}; restore them and resume, or "
            "start a new run with --init"
        )

    def encode_shared(self, module: nn.Module, view: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Chunk c is encoded by rank c mod R, whole, and spread: the same bits for any number of processes."""
        chunks = torch.arange(self.size).split(self.chunk)
        mine = chunks[self.runtime.rank :: self.runtime.world]
        encoded = stream(
            module,
            ((index, self.pixels(index, view)) for index in mine),
            device=self.runtime.device,
            autocast=self.runtime.half,
        )
        for number, index in enumerate(chunks):
            owner = number % self.runtime.world
            rows = next(encoded)[1] if owner == self.runtime.rank else None
            yield index, self.runtime.spread(rows, owner)

    def encode_alike(self, module: nn.Module, view: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Every rank encodes every chunk, as statistics over all ranks need it."""
        for index in torch.arange(self.size).tensor_split(-(-self.size // self.chunk)):  # none of a single sample
            with training_mode(module), self.runtime.autocast():
                rows = module(self.pixels(index, view))
            yield index, rows.to(torch.float64 if rows.dtype == torch.float64 else torch.float32)

    def pixels(self, index: Tensor, view: str) -> Tensor:
        """One view of the samples, drawn by (seed, phase, sample)."""
        stretch = self.stretch.reading(view)
        place = torch.arange(len(index))
        part = self.streams.render(stretch, round=-1, order=index, place=place, position=index, attempt=0)
        self.streams.note(part.skipped)
        return part.views[view].to(self.runtime.device)

    def pair(self, view: str, table: Tensor, own: float = 0.0) -> None:
        if view not in self.stretch.phase.partners:
            raise ValueError(f"view {view!r} is not among the partners {self.stretch.phase.partners} of its phase")
        self.streams.pairs[view] = Pairs(table.long().cpu(), own)

    def generator(self, name: str) -> torch.Generator:
        return random.generator("corpus", self.streams.seed, self.stretch.number, name)


@contextmanager
def training_mode(module: nn.Module) -> Iterator[None]:
    """Batch statistics, without gradient; afterwards every mode and buffer is as before.

    No residual branch is skipped: stochastic depth stays in eval mode, as it draws from the global generator, and rows
    that are kept should not depend on chance.
    """
    with evaluating(module):
        module.train()
        for layer in module.modules():
            if isinstance(layer, DropPath):
                layer.eval()
        yield
