"""The contract between a method and everything that trains it: Method, Phase, Batch, Step, Group.

For each phase of `plan` the loop calls `enter` once and `prepare` at every start; for each batch `before_update`,
`forward`, `after_update`. They change saved parameters and buffers alone (docs/decisions/0001-contract.md)."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lookalike.functional import random
from lookalike.functional.order import Order, Shuffle
from lookalike.functional.schedules import Clock, Schedule
from lookalike.methods.corpus import Corpus
from lookalike.methods.facts import Facts


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training in which the same parameters learn from the same views."""

    name: str
    epochs: float  # may be a fraction
    trains: tuple[str, ...]  # submodules (or parameters) that get gradient
    reads: tuple[str, ...]  # views that forward sees
    order: Order = field(default_factory=Shuffle)
    scans: tuple[str, ...] = ()  # views that enter and prepare ask the corpus for
    partners: tuple[str, ...] = ()  # views made from another sample, chosen by `corpus.pair`
    restart: bool = False  # learning-rate schedule and optimizer state start anew


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training is, the base learning rate of this step, and whether the step moved weights."""

    phase: Clock
    run: Clock
    seed: int
    rate: float = 0.0
    updated: bool = False

    def generator(self, name: str) -> torch.Generator:
        """Random numbers outside forward: keyed by (seed, run step, name), equal on all ranks."""
        return random.generator("progress", self.seed, self.run.step, name)


@runtime_checkable
class Redraw(Protocol):
    """What the data layer puts behind `Batch.again` and `Batch.reserve`."""

    def again(self, batch: "Batch", attempt: int) -> "Batch": ...
    def reserve(self, batch: "Batch", offset: int) -> "Batch": ...


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What forward sees: this rank's B rows of one micro-batch."""

    views: Mapping[str, Tensor]  # name -> pixels, (B, C, H, W) or (B, C, T, H, W)
    index: Tensor  # (B,) samples
    position: Tensor  # (B,) places in the global batch
    progress: Progress
    redraw: Redraw
    group: Tensor | None = None  # (B,) equal for samples of one source (clips of a video)
    labels: Tensor | None = None  # (B,) only if the user asked for them
    aux: Mapping[str, Tensor] = field(default_factory=dict)  # "<view>/box" (B, 4) fractions, "<view>/partner" (B,)

    def draw(self, name: str, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), (B, *shape), keyed by (seed, run step, sample, name): equal for any ranks."""
        key = random.key("batch", self.progress.seed, self.progress.run.step, name)
        return random.uniform(key, self.index.cpu(), torch.Size(shape).numel()).view(-1, *shape).to(self.index.device)

    def again(self, attempt: int) -> "Batch":
        """The same samples, their views drawn anew; attempt 0 is this batch."""
        return self if attempt == 0 else self.redraw.again(self, attempt)

    def reserve(self, offset: int) -> "Batch":
        """New samples: the row at global position p gets place offset + p of the reserve order."""
        return self.redraw.reserve(self, offset)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What forward returns."""

    loss: Tensor | None  # of the global batch (functional.collectives); None: filling, counts as a step, no update
    metrics: Mapping[str, Tensor] = field(default_factory=dict)  # detached scalars for the log
    keep: Mapping[str, Tensor] = field(default_factory=dict)  # a row per sample, joined for after_update
    features: Mapping[str, Tensor] = field(default_factory=dict)  # view -> backbone features, with graph
    projections: Mapping[str, Tensor] = field(default_factory=dict)  # view -> what the loss compares


@dataclass(frozen=True, kw_only=True)
class Group:
    """What is special about the optimization of a submodule or parameter; the defaults mean the recipe's."""

    lr_scale: float = 1.0
    lr: Schedule | None = None  # replaces the recipe's rate
    schedule: Schedule | None = None  # replaces the recipe's schedule, the factor of its rate
    weight_decay: Schedule | float | None = None
    adapt: bool = True  # False: no LARS trust ratio
    frozen_until: int = 0  # steps of the run before which the optimizer does not see the group
    frozen_epochs: float = 0.0  # the same in epochs of the run; the later end of both counts

    def frozen(self, run: Clock) -> bool:
        return run.step < self.frozen_until or run.epoch < self.frozen_epochs


class Method(nn.Module, ABC):
    """The only base class: no state and no constructor of its own beyond nn.Module's."""

    facts: ClassVar[Facts]  # its row in the list of methods
    reconstruction: ClassVar[str] = ""  # said at the start of a run, where no source says all of how it is done

    @abstractmethod
    def plan(self, epochs: float) -> Sequence[Phase]:
        """The phases; an ordinary method has one."""

    @abstractmethod
    def forward(self, batch: Batch) -> Step:
        """The objective. Changes no state but BatchNorm's buffers; safe to run twice."""

    @abstractmethod
    def exports(self) -> Mapping[str, nn.Module]:
        """What outlives pretraining, by role: "encoder"; "query" and "key"."""

    def groups(self) -> Mapping[str, Group]:
        """Submodule or parameter name -> its special optimization."""
        return {}

    def uniform(self, rows: int) -> float | None:
        """The loss of a batch of `rows` images if all looked alike; None where it says nothing about health."""

    def notes(self, epochs: float) -> Sequence[str] | None:
        """Sentences for the log at the start of a run: what is dear, or not as asked."""

    def enter(self, phase: Phase, corpus: Corpus) -> None:
        """Once, at step 0 of a phase; may read the whole corpus; all it sets is saved."""

    def prepare(self, phase: Phase, corpus: Corpus) -> None:
        """At every start and resume; only rebuilds what is a function of parameters frozen in this phase."""

    def before_update(self, progress: Progress) -> None:
        """Once per attempted step, before the first micro-batch; harmless if the step is then dropped."""

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        """Once per attempted step, a filling one too (progress.updated is False); never for a dropped one."""
