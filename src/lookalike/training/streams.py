"""Batches as a pure function of (seed, phase, round, sample): order, pixels and views, for any workers and ranks.

Rank r of R holds positions r::R of every micro-batch. Nothing here is saved but the partner tables: where a stream
stands follows from the step alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lookalike.data import Skipped, Skips, Source, Unreadable, read_or_next
from lookalike.functional import random
from lookalike.functional.order import Order
from lookalike.methods.method import Batch, Progress
from lookalike.training.timeline import Stretch

RESERVE = -1  # the attempt under which reserve samples draw their views: never equal to a batch's own


@runtime_checkable
class Drawing(Protocol):
    """A view plan: parameters per sample, pixels in batches (transforms.Views, or the same for clips)."""

    def draw(self, index: Tensor, *, seed: int, epoch: tuple[int, int], attempt: int, names: Sequence[str]) -> Any: ...

    def render(
        self, images: Sequence[Tensor] | Tensor, parameters: Any, names: Sequence[str]
    ) -> Mapping[str, Tensor]: ...

    def boxes(self, parameters: Any, sizes: Sequence[tuple[int, int]]) -> Mapping[str, Tensor]: ...


class Pairs:
    """Which samples may stand in for one another in a view: group numbers (N,), and the chance to stay oneself."""

    def __init__(self, group: Tensor, own: float) -> None:
        self.group, self.own = group, own
        _, self.dense, self.count = torch.unique(group, return_inverse=True, return_counts=True)
        self.members = torch.argsort(self.dense, stable=True)  # group after group
        self.start = self.count.cumsum(0) - self.count
        self.place = torch.empty_like(self.members)
        self.place[self.members] = torch.arange(len(group)) - self.start[self.dense[self.members]]

    def choose(self, index: Tensor, key: int) -> Tensor:
        """A random other member of each sample's group, or the sample itself: a function of (key, sample)."""
        stay, pick = random.uniform(key, index, 2).unbind(1)
        group = self.dense[index]
        count = self.count[group]
        step = torch.where(stay < self.own, 0, 1 + (pick * (count - 1)).long())
        return self.members[self.start[group] + (self.place[index] + step) % count]


@dataclass(frozen=True, kw_only=True)
class Streams:
    """A data set seen through a view plan, cut into global batches of `batch` in `accumulate` micro-batches.

    groups (N,): samples of one source share a number; labels (N,): only if the user asked; skips: the ledger of
    unreadable samples; identity: of the images when the run began, None where it is not known; pairs: partner tables,
    view name -> Pairs. news: what this one of several processes could not read and the others do not know yet.
    Raises ValueError where the batch cannot be cut evenly.
    """

    source: Source
    views: Drawing
    batch: int
    accumulate: int = 1
    workers: int = 0
    seed: int = 0
    groups: Tensor | None = None
    labels: Tensor | None = None
    rank: int = 0
    world: int = 1
    skips: Skips | None = None
    identity: str | None = None
    pairs: dict[str, Pairs] = field(default_factory=dict)
    news: list[Skipped] = field(default_factory=list)

    def __post_init__(self) -> None:
        micro, rest = divmod(self.batch, self.accumulate)
        if rest or micro < self.world:
            raise ValueError(
                f"a batch of {self.batch} cannot be cut into {self.accumulate} equal parts for {self.world} "
                f"processes: choose a batch size that is a multiple of {self.accumulate * self.world}"
            )

    @property
    def size(self) -> int:
        return len(self.source)

    def batches(self, stretch: Stretch, start: int, device: torch.device) -> Iterator[list[Batch]]:
        """The micro-batches of each step from run step `start` to the stretch's end."""
        loader = DataLoader(
            _Steps(self, stretch, start),
            batch_size=None,
            num_workers=self.workers,
            generator=torch.Generator(),  # the loader's own random numbers must not touch the global ones
            pin_memory=device.type == "cuda",
            prefetch_factor=4 if self.workers else None,
        )
        for offset, parts in enumerate(loader):
            progress = stretch.progress(start + offset, self.seed)
            yield [self.deliver(part, stretch, progress, device) for part in parts]

    def deliver(self, part: "Part", stretch: Stretch, progress: Progress, device: torch.device) -> Batch:
        """A part of the loader's output as a Batch on the device; its unreadable samples are noted."""
        self.note(part.skipped)

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        index = part.index
        return Batch(
            views={name: move(pixels) for name, pixels in part.views.items()},
            index=move(index),
            position=move(part.position),
            progress=progress,
            redraw=_Again(self, stretch, device),
            group=None if self.groups is None else move(self.groups[index]),
            labels=None if self.labels is None else move(self.labels[index]),
            aux={name: move(values) for name, values in part.aux.items()},
        )

    def note(self, skipped: Sequence[Skipped]) -> None:
        """Counts unreadable samples, or keeps them until all processes hear of them, so that they stop together."""
        if self.world > 1:
            self.news.extend(skipped)
        elif self.skips is not None:
            self.skips.add(skipped)

    def settle(self, indices: Sequence[int]) -> None:
        """Counts the samples that any process could not read: their numbers, equal on all of them."""
        known = {record.index: record for record in self.news}
        self.news.clear()
        if self.skips is not None:
            self.skips.add(known.get(index) or self._read_again(index) for index in indices)

    def _read_again(self, index: int) -> Skipped:
        reason = "another process could not read it"
        try:
            self.source.read(index)
        except Unreadable as error:
            reason = error.reason
        return Skipped(index, self.source.name(index), reason)

    def order(self, stretch: Stretch, round: int) -> Tensor:
        return _order(stretch.phase.order, self.seed, stretch.number, round, self.size)

    def part(self, stretch: Stretch, step: int, micro: int) -> "Part":
        """This rank's rows of micro-batch `micro` of a run step: a pure function of its arguments."""
        round, slot = stretch.round_and_slot(step)
        share = self.batch // self.accumulate
        position = torch.arange(micro * share + self.rank, (micro + 1) * share, self.world)
        order = self.order(stretch, round)
        return self.render(stretch, round, order, slot * self.batch + position, position, attempt=0)

    def render(
        self, stretch: Stretch, round: int, order: Tensor, place: Tensor, position: Tensor, attempt: int
    ) -> "Part":
        """The samples at `place` of an order, with their views; an unreadable one gives way to a later one."""
        images, index, skipped = read_or_next(self.source, order, place, stride=self.batch)
        names, partners = stretch.phase.reads, stretch.phase.partners
        plain = [name for name in names if name not in partners]
        parameters = self.views.draw(index, seed=self.seed, epoch=(stretch.number, round), attempt=attempt, names=names)
        views = dict(self.views.render(images, parameters, names=plain)) if plain else {}
        boxes = self.views.boxes(parameters, _sizes(images))
        aux = {f"{name}/box": boxes[name] for name in plain}
        for name in partners:
            key = random.key("partner", self.seed, stretch.number, round, name, attempt)
            other = self.pairs[name].choose(index, key) if name in self.pairs else index
            pixels, other, missed = self.partners(other, index)
            views |= self.views.render(pixels, parameters, names=[name])
            aux[f"{name}/box"] = self.views.boxes(parameters, _sizes(pixels))[name]
            aux[f"{name}/partner"], skipped = other, [*skipped, *missed]
        return Part(views, index, position, aux, skipped)

    def partners(self, other: Tensor, index: Tensor) -> tuple[Sequence[Tensor] | Tensor, Tensor, list[Skipped]]:
        """The partners' images; where one cannot be read the sample stands for itself, never another row's partner."""
        found = [
            read_or_next(self.source, torch.stack(pair), torch.zeros(1, dtype=torch.int64), stride=1)
            for pair in zip(other, index, strict=True)
        ]
        images = [pixels[0] for pixels, _, _ in found]
        same = len({image.shape for image in images}) == 1
        chosen = torch.cat([one for _, one, _ in found])
        return torch.stack(images) if same else images, chosen, [s for _, _, missed in found for s in missed]


@dataclass(frozen=True)
class Part:
    """What a worker hands over: pixels and facts of some rows, on the CPU."""

    views: dict[str, Tensor]
    index: Tensor
    position: Tensor
    aux: dict[str, Tensor]
    skipped: list[Skipped]

    def pin_memory(self) -> "Part":
        """Called by torch's loader where the batch goes to an accelerator."""
        views = {name: pixels.pin_memory() for name, pixels in self.views.items()}
        return replace(self, views=views)


class _Steps(Dataset):
    """The steps of a stretch, for torch's loader: item i is all micro-batches of step start + i."""

    def __init__(self, streams: Streams, stretch: Stretch, start: int) -> None:
        self.streams, self.stretch, self.start = streams, stretch, start

    def __len__(self) -> int:
        return self.stretch.stop - self.start

    def __getitem__(self, offset: int) -> list[Part]:
        step = self.start + offset
        return [self.streams.part(self.stretch, step, micro) for micro in range(self.streams.accumulate)]


@dataclass(frozen=True)
class _Again:
    """Draws a batch anew from the source: same samples, or samples of the reserve order."""

    streams: Streams
    stretch: Stretch
    device: torch.device

    def again(self, batch: Batch, attempt: int) -> Batch:
        return self._batch(batch, batch.index.cpu(), torch.arange(len(batch.index)), attempt)

    def reserve(self, batch: Batch, offset: int) -> Batch:
        place = offset + batch.position.cpu()
        size = self.streams.size
        # alike for every rank and micro-batch, and one cycle more for what stands in for unreadable samples
        first, last = offset // size, (offset + self.streams.batch - 1) // size + 1
        cycles = [random.generator("reserve", self.streams.seed, cycle) for cycle in range(first, last + 1)]
        order = torch.cat([torch.randperm(size, generator=cycle) for cycle in cycles])
        return self._batch(batch, order, place - first * size, RESERVE)

    def _batch(self, batch: Batch, order: Tensor, place: Tensor, attempt: int) -> Batch:
        round, _ = self.stretch.round_and_slot(batch.progress.run.step)
        part = self.streams.render(self.stretch, round, order, place, batch.position.cpu(), attempt)
        return self.streams.deliver(part, self.stretch, batch.progress, self.device)


@lru_cache(maxsize=2)
def _order(order: Order, seed: int, phase: int, round: int, size: int) -> Tensor:
    return order.indices(seed=seed, phase=phase, round=round, size=size)


def _sizes(images: Sequence[Tensor] | Tensor) -> list[tuple[int, int]]:
    return [tuple(image.shape[-2:]) for image in images]
