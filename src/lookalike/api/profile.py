"""profile: where the time of a training step goes, measured on this machine, and what to change about it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from lookalike.api.assembly import Job
from lookalike.api.pretrain import chosen
from lookalike.api.preview import Countdown, rehearse
from lookalike.recipes import Recipe
from lookalike.training.processes import pick

PARTS = ("views", "forward", "backward", "optimizer", "after update")  # as the loop and the journal mark them
WARM = 3  # steps before the profiler looks: the first ones allocate
LOADED = 0.1  # of a step; above it waiting for views is worth a change


@dataclass(frozen=True)
class Cost:
    """A part of a step: its share of the time, its milliseconds, and the operators that take most of it."""

    part: str
    share: float
    milliseconds: float
    operators: tuple[str, ...]


@dataclass(frozen=True)
class Profile:
    """Parts of a training step by cost, images per second, and advice in sentences."""

    costs: tuple[Cost, ...]
    images_per_second: float
    advice: tuple[str, ...]


def profile(
    data: Any,
    *,
    method: str | None = None,
    recipe: str | None = None,
    overrides: Sequence[str] = (),
    init: str | None = None,
    label_spec: str | None = None,
    steps: int = 20,
) -> Profile:
    """Trains a few steps, keeps nothing, and tells where the time went. One process. Raises as `pretrain` does.

    Time inside views, forward, backward, optimizer and after update is that of the training process; "the rest" is the
    log, checks for finite numbers, and Python between them. The profiler itself makes small networks slower.
    """
    settled, source, _ = chosen(data, method, recipe, overrides)
    device = pick(settled.runtime.device)
    job = Job(folder=None, recipe=settled, source=source, init=init, label_spec=label_spec)
    watched = Watched(steps, device)
    return watched.told(rehearse(job, device, watched))


class Watched(Countdown):
    """Lets the profiler look at the steps after the first few, and stops training after the last."""

    def __init__(self, steps: int, device: torch.device) -> None:
        super().__init__(WARM + steps)
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it speaks of its own start and of missing devices otherwise
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
        self.profiler, self.count = torch.profiler.profile(activities=kinds), steps

    def __call__(self) -> bool:
        last = super().__call__()
        if len(self.times) == WARM:
            self.profiler.start()
        elif last:
            self.profiler.stop()
        return last

    def told(self, recipe: Recipe) -> Profile:
        """Parts by cost; what is in none of them is "the rest". Raises ValueError if training ended too early."""
        if WARM <= len(self.times) < WARM + self.count:
            self.profiler.stop()  # one that runs on ends the process at its exit
        if len(self.times) <= WARM:
            raise ValueError(f"training ends after {len(self.times)} steps, too few to measure: set more epochs")
        self.count = len(self.times) - WARM
        step = 1e3 * (self.times[-1] - self.times[WARM - 1]) / self.count
        events = self.profiler.events() or []
        costs = []
        for part in PARTS:
            inside = [event for event in events if event.name == part]
            milliseconds = sum(event.time_range.elapsed_us() for event in inside) / 1e3 / self.count
            costs.append(Cost(part, milliseconds / step, milliseconds, _operators(inside, events)))
        rest = max(0.0, step - sum(cost.milliseconds for cost in costs))
        costs.append(Cost("the rest", rest / step, rest, ()))
        costs.sort(key=lambda cost: -cost.milliseconds)
        return Profile(tuple(costs), 1e3 * recipe.batch / step, tuple(_advice(costs, recipe)))


def _operators(inside: Sequence[Any], events: Sequence[Any], most: int = 3) -> tuple[str, ...]:
    """Names of the operators with the most time of their own while one of `inside` ran, on whatever thread."""
    spans = sorted((event.time_range.start, event.time_range.end) for event in inside)
    times: dict[str, float] = {}
    place = 0
    for event in sorted(events, key=lambda event: event.time_range.start):
        while place < len(spans) and spans[place][1] < event.time_range.start:
            place += 1
        if place < len(spans) and spans[place][0] <= event.time_range.start and event.name.startswith("aten::"):
            times[event.name] = times.get(event.name, 0.0) + event.self_cpu_time_total
    return tuple(sorted(times, key=lambda name: -times[name])[:most])


def _advice(costs: Sequence[Cost], recipe: Recipe) -> list[str]:
    """What the settings could change, by what was measured."""
    share = {cost.part: cost.share for cost in costs}
    runtime, advice = recipe.runtime, []
    if share["views"] > LOADED:
        workers = int(runtime.workers) if runtime.workers != "auto" else 0
        advice.append(
            f"training waits for views {share['views']:.0%} of the time: try runtime.workers={workers + 2}"
            + ("" if recipe.data.cache is not False else ", and data.cache=auto, which decodes once")
        )
    if share["forward"] + share["backward"] > 0.5 and runtime.precision in ("fp32", "fp64"):
        advice.append(f"the network computes in {runtime.precision}: runtime.precision=auto may find a faster one")
    if share["after update"] > LOADED or share["the rest"] > 2 * LOADED:
        advice.append("much time goes into small operations: a larger batch spreads them over more images")
    return advice or ["the network itself takes the time: a smaller backbone or smaller views are what is left"]
