"""The contract between a method and everything that trains it: Method, Phase, Batch, Step, Group.

The training loop calls, for each phase of `plan`:

    enter(phase, corpus)                 once, at step 0 of the phase
    prepare(phase, corpus)               at every start and resume
    for each batch:
        before_update(progress)
        forward(batch) -> Step           per micro-batch; then backward and the optimizer's step
        after_update(progress, kept)

Whatever a method changes in these hooks lives in parameters and buffers, so that it is saved; docs/decisions/0001
says how that was proved.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from lookalike.functional import random
from lookalike.functional.order import Order, Shuffle
from lookalike.functional.schedules import Clock, Schedule


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training in which the same parameters learn from the same views.

    `epochs` may be a fraction. `trains` names submodules that get gradient, `reads` the views that forward sees.
    A view in `partners` is made from another sample: `corpus.pair` set from which. With `restart` the learning-rate
    schedule and the optimizer's state start anew.
    """

    name: str
    epochs: float
    trains: tuple[str, ...]
    reads: tuple[str, ...]
    order: Order = field(default_factory=Shuffle)
    partners: tuple[str, ...] = ()
    restart: bool = False


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training is: within the phase, within the run, whether this step moved weights, the base learning rate."""

    phase: Clock
    run: Clock
    seed: int
    rate: float = 0.0
    updated: bool = False

    def generator(self, name: str) -> torch.Generator:
        """Random numbers outside forward: keyed by (seed, run step, name), equal on all ranks."""
        return random.generator("progress", self.seed, self.run.step, name)


class Redraw(Protocol):
    """What the data layer puts behind `Batch.again` and `Batch.reserve`."""

    def again(self, batch: "Batch", attempt: int) -> "Batch": ...

    def reserve(self, batch: "Batch", offset: int) -> "Batch": ...


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What forward sees: B rows of one micro-batch, held by this rank.

    views: name -> pixels (B, C, H, W); index: (B,) samples; position: (B,) places in the global batch;
    group: (B,) or None, samples of one source (clips of a video) share it; labels: (B,) only if the user asked;
    aux: what the views know ("<view>/box" (B, 4) as fractions left, top, right, bottom; "<view>/partner" (B,) ...).
    """

    views: Mapping[str, Tensor]
    index: Tensor
    position: Tensor
    progress: Progress
    group: Tensor | None = None
    labels: Tensor | None = None
    aux: Mapping[str, Tensor] = field(default_factory=dict)
    redraw: Redraw | None = None

    def draw(self, name: str, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), (B, *shape): keyed by (seed, run step, sample, name), equal for any number of ranks."""
        key = random.key("batch", self.progress.seed, self.progress.run.step, name)
        columns = int(torch.Size(shape).numel())
        return random.uniform(key, self.index.cpu(), columns).view(-1, *shape).to(self.index.device)

    def again(self, attempt: int) -> "Batch":
        """The same samples, their views drawn anew; attempt 0 is this batch."""
        return self if attempt == 0 else self._redraw().again(self, attempt)

    def reserve(self, offset: int) -> "Batch":
        """New samples, one per row, from the reserve order: row at global position p gets place offset + p of it."""
        return self._redraw().reserve(self, offset)

    def with_views(self, views: Mapping[str, Tensor]) -> "Batch":
        return replace(self, views=views)

    def _redraw(self) -> Redraw:
        if self.redraw is None:
            raise RuntimeError("this batch was made by hand and has no source to draw from again")
        return self.redraw


@dataclass(frozen=True, kw_only=True)
class Step:
    """What forward returns.

    loss: of the global batch (see functional.collectives), or None while filling: the step counts, nothing is updated;
    metrics: detached scalars for the log; keep: one row per sample, joined over micro-batches and ranks for
    after_update; features: view -> backbone features with graph; projections: view -> what the loss compared.
    """

    loss: Tensor | None
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    keep: Mapping[str, Tensor] = field(default_factory=dict)
    features: Mapping[str, Tensor] = field(default_factory=dict)
    projections: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Group:
    """What is special about the optimization of a submodule or parameter; None and defaults mean the recipe's.

    lr_scale multiplies the base rate; lr replaces it by a schedule of its own; adapt=False: no LARS trust ratio;
    frozen_until, in steps of the run: until then the optimizer does not see the group.
    """

    lr_scale: float = 1.0
    lr: Schedule | None = None
    weight_decay: Schedule | float | None = None
    adapt: bool = True
    frozen_until: int = 0


class Corpus(Protocol):
    """The whole data set, for `enter` and `prepare`."""

    size: int

    def encode(
        self, module: nn.Module, view: str, mode: Literal["eval", "train"] = "eval"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(index, rows) for every sample, in index order, equal on every rank; modes and buffers are left as they were.

        The view is drawn by (seed, phase, sample). mode="train" only in `enter`: batch statistics of each chunk.
        """
        ...

    def pair(self, view: str, table: Tensor, own: float = 0.0) -> None:
        """View `view` is made from a random sample of the same group, table (N,) of group numbers.

        With probability `own`, and for singletons, it is made from the sample itself. Saved with the run.
        """
        ...

    def generator(self, name: str) -> torch.Generator:
        """Random numbers keyed by (seed, phase number, name)."""
        ...


class Method(nn.Module, ABC):
    """The only base class. No state and no constructor of its own beyond nn.Module's."""

    @abstractmethod
    def plan(self, epochs: float) -> Sequence[Phase]:
        """The phases; an ordinary method has one."""

    @abstractmethod
    def forward(self, batch: Batch) -> Step:
        """The objective. Changes no state but BatchNorm's buffers; safe to run twice."""

    @abstractmethod
    def exports(self) -> Mapping[str, nn.Module]:
        """What outlives pretraining, by role: "encoder", or "query" and "key" ..."""

    def groups(self) -> Mapping[str, Group]:
        """Submodule or parameter name -> its special optimization."""
        return {}

    def enter(self, phase: Phase, corpus: Corpus) -> None:
        """Once, at step 0 of a phase; may read the whole corpus; all it sets is saved."""

    def prepare(self, phase: Phase, corpus: Corpus) -> None:
        """At every start and resume; only rebuilds what is a function of parameters frozen in this phase."""

    def before_update(self, progress: Progress) -> None:
        """Once per attempted step, before the first micro-batch; harmless if the step is then dropped."""

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        """Once per attempted step, a filling one too (then progress.updated is False); never for a dropped one."""


