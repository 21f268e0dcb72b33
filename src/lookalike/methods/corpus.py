"""The whole data set as a method sees it in `enter` and `prepare`; training/corpus.py is what stands behind it."""

from collections.abc import Iterator
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Corpus(Protocol):
    """The whole data set, for `enter` and `prepare`."""

    @property
    def size(self) -> int: ...

    def encode(
        self, module: nn.Module, view: str, mode: Literal["eval", "train"] = "eval"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(index, rows) of every sample, in index order, equal on every rank; modes and buffers are restored.

        The view is drawn by (seed, phase, sample). mode="train", for networks that have not learned yet: batch
        statistics of each chunk.
        """
        ...

    def pair(self, view: str, table: Tensor, own: float = 0.0) -> None:
        """View `view` is made from a random other sample of the same group; table (N,) holds group numbers.

        With probability `own`, and for singletons, from the sample itself. Saved with the run.
        """
        ...

    def generator(self, name: str) -> torch.Generator:
        """Random numbers keyed by (seed, phase number, name), equal on all ranks."""
        ...
