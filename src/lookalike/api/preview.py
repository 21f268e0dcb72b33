"""dry_run: what a run would need, measured on a few steps of it."""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from lookalike.api.assembly import Job, assemble, demand_possible, settle
from lookalike.api.pretrain import chosen
from lookalike.recipes import Recipe, dump
from lookalike.training.loop import Stopped, train
from lookalike.training.processes import pick
from lookalike.training.progress import Line

MEGABYTE = 2**20


@dataclass(frozen=True)
class Preview:
    """What a run would be: its resolved recipe, what it would say, peak memory, images per second, hours.

    reasons: the rule's, and what becomes of numbers of the recipe that cannot be had.
    """

    recipe: str
    reasons: tuple[str, ...]
    megabytes: float
    images_per_second: float
    hours: float


def dry_run(
    data: Any,
    *,
    method: str | None = None,
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    init: str | None = None,
    label_spec: str | None = None,
    steps: int = 4,
) -> Preview:
    """Trains `steps` steps and keeps nothing: what the run would need. Arguments and errors are those of `pretrain`."""
    settled, source, notes = chosen(data, method, recipe, overrides)
    asked, device = Countdown(steps), pick(settled.runtime.device)
    job = Job(folder=None, recipe=settled, source=source, init=init, label_spec=label_spec)
    whole = rehearse(job, device, asked, notes.append)
    speed = whole.batch / asked.seconds()
    hours = whole.epochs * len(source) / speed / 3600
    return Preview(dump(whole), tuple(notes), _most_memory(device) / MEGABYTE, speed, hours)


def rehearse(
    job: Job, device: torch.device, stop: Callable[[], bool], say: Callable[[str], None] = lambda note: None
) -> Recipe:
    """Trains a job without a folder until `stop`, and returns its settled recipe."""
    demand_possible(job, device, say)
    with Line(quiet=True) as line:
        whole = settle(job, device, line)
        with suppress(Stopped):
            train(assemble(job, whole, device, line, stop=stop), whole.epochs)
    return whole


def _most_memory(device: torch.device) -> int:
    """Bytes in use at the most so far: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Countdown:
    """Asks to stop after some steps, and knows how long all but the first took."""

    def __init__(self, steps: int) -> None:
        self.steps, self.times = steps, list[float]()

    def __call__(self) -> bool:
        self.times.append(time.perf_counter())
        return len(self.times) >= self.steps

    def seconds(self) -> float:
        """Per step; the first one is slow for reasons of its own."""
        return (self.times[-1] - self.times[0]) / max(1, len(self.times) - 1) or 1e-3
