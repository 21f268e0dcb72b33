"""The whole data set as a method sees it in `enter` and `prepare`: encoded rows, partner tables, random numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lookalike.functional import random
from lookalike.training.runtime import Runtime
from lookalike.training.streams import Pairs, Streams
from lookalike.training.timeline import Stretch

CHUNK = 256  # samples encoded at once: fixed, so that rows have the same bits for any number of processes


@dataclass(frozen=True)
class WholeDataSet:
    """The `Corpus` of one phase (methods.method.Corpus says what it promises)."""

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
        starts = range(0, self.size, self.chunk)
        for number, start in enumerate(starts):
            index = torch.arange(start, min(start + self.chunk, self.size))
            owner = number % self.runtime.world
            if mode == "train" or owner == self.runtime.rank:  # train: alike on every rank, as global statistics need
                with left_as_it_was(module, mode), torch.no_grad(), self.runtime.autocast():
                    rows = module(self.pixels(index, view))
                rows = rows.float() if rows.dtype in (torch.bfloat16, torch.float16) else rows
            else:
                rows = None
            yield index.to(self.runtime.device), rows if mode == "train" else self.runtime.spread(rows, owner)

    def pixels(self, index: Tensor, view: str) -> Tensor:
        """One view of the samples, drawn by (seed, phase, sample)."""
        stretch = self.stretch.reading(view)
        part = self.streams.render(stretch, round=-1, order=index, place=torch.arange(len(index)), position=index, attempt=0)
        return part.views[view].to(self.runtime.device)

    def pair(self, view: str, table: Tensor, own: float = 0.0) -> None:
        if view not in self.stretch.phase.partners:
            raise ValueError(f"view {view!r} is not among the partners {self.stretch.phase.partners} of its phase")
        self.streams.pairs[view] = Pairs(table.long().cpu(), own)

    def generator(self, name: str) -> torch.Generator:
        return random.generator("corpus", self.streams.seed, self.stretch.number, name)


@contextmanager
def left_as_it_was(module: nn.Module, mode: Literal["eval", "train"]) -> Iterator[None]:
    """The module in the given mode; afterwards every submodule's mode and every buffer is as before."""
    modes = {child: child.training for child in module.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()] if mode == "train" else []
    module.train(mode == "train")
    try:
        yield
    finally:
        for child, training in modes.items():
            child.training = training
        for buffer, before in buffers:
            buffer.copy_(before)
