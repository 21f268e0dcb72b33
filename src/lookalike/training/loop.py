"""The training loop, for every method: phases, steps, checkpoints. It names no method, no model and no data set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from lookalike.functional import random
from lookalike.methods.method import Batch, Method, Progress, Step
from lookalike.modules import running_statistics, synchronize_
from lookalike.training.corpus import WholeDataSet
from lookalike.training.journal import Journal
from lookalike.training.metrics import Value
from lookalike.training.optimizers import Optimization, hide_frozen
from lookalike.training.runtime import Runtime, freeze
from lookalike.training.saver import Saver, State
from lookalike.training.streams import Streams
from lookalike.training.timeline import schedule_clock, timeline

DROPPED, DROPPED_FP16 = 3, 30  # non-finite steps in a row at which training stops; fp16 settles its loss scale


class NonFinite(RuntimeError):  # noqa: N818
    """Loss or gradients are NaN or infinite, several steps in a row."""


class Stopped(Exception):  # noqa: N818
    """Training was asked to stop, and has saved where it stands. signal: the number of the one that asked, or 0."""

    signal = 0


@runtime_checkable
class Probe(Protocol):
    """Something that looks at training without changing it, at steps it chooses."""

    def due(self, progress: Progress) -> bool: ...

    def look(self, method: Method, steps: Sequence[Step], progress: Progress) -> Mapping[str, Value]: ...


@dataclass(kw_only=True)
class Training:
    """The cast of one run. `train` drives it; `stop` may be set at any time and is obeyed after the current step."""

    method: Method
    streams: Streams
    optimization: Optimization
    runtime: Runtime
    saver: Saver
    journal: Journal
    probes: Sequence[Probe] = ()
    stop: Callable[[], bool] = lambda: False


def train(run: Training, epochs: float) -> None:
    """Trains to the end of the plan, going on where the newest checkpoint stands.

    Raises NonFinite after three non-finite steps in a row (thirty with fp16), Stopped where `run.stop` asked for it;
    in both cases the newest checkpoint is whole and good.
    """
    with torch.random.fork_rng([run.runtime.device] if run.runtime.device.type == "cuda" else []):
        _train(run, epochs)  # the global random numbers are the caller's again afterwards


def _train(run: Training, epochs: float) -> None:
    run.runtime.place(run.method)
    stretches = timeline(run.method.plan(epochs), size=run.streams.size, batch=run.streams.batch)
    learnable = {name: p for name, p in run.method.named_parameters() if p.requires_grad}
    optimizer = run.optimization.build(learnable, run.method)
    state = State(method=run.method, optimizer=optimizer, scaler=run.runtime.scaler(), streams=run.streams)
    step, notes = run.saver.load(state)
    run.journal.start(step, stretches[-1].stop, notes)
    for stretch in stretches:
        if step >= stretch.stop:
            continue
        trained = freeze(run.method, stretch.phase, set(learnable))
        corpus = WholeDataSet(run.streams, stretch, run.runtime)
        if step == stretch.start:
            run.saver.save(step, state)
            if stretch.phase.restart:
                state.optimizer = run.optimization.build(learnable, run.method)
            run.method.enter(stretch.phase, corpus)
        run.method.prepare(stretch.phase, corpus)
        attempt = Attempt(run, state, trained, run.runtime.wrap(run.method, stretch.phase))
        run.journal.phase(stretch.phase.name)
        for batches in run.journal.waiting(run.streams.batches(stretch, step, run.runtime.device)):
            clock = schedule_clock(stretches, stretch, step)
            progress = stretch.progress(step, run.streams.seed)
            rate = run.optimization.set_rates(state.optimizer, clock, progress.run)
            attempt(batches, replace(progress, rate=rate))
            step += 1
            if attempt.stop or (step < stretch.stop and run.saver.due(step) and not state.dropped):
                run.saver.save(step, state)
            if attempt.stop:
                raise Stopped(f"stopped after step {step} of {stretches[-1].stop}")
    run.saver.save(step, state)
    run.journal.finish(step)


@dataclass
class Attempt:
    """One step of a phase, again and again: forward, backward, clip, update, what moves without gradient, log."""

    run: Training
    state: State
    trained: list[nn.Parameter]
    forward: Callable[[Batch, bool], Step]
    stop: bool = False

    def __post_init__(self) -> None:
        self.statistics = running_statistics(self.run.method)
        self.before = [buffer.clone() for buffer in self.statistics]

    def __call__(self, batches: Sequence[Batch], progress: Progress) -> None:
        run, runtime = self.run, self.run.runtime
        for kept, buffer in zip(self.before, self.statistics, strict=True):
            kept.copy_(buffer)
        run.method.before_update(progress)
        steps = [self.micro(batch, progress, number, len(batches)) for number, batch in enumerate(batches)]
        synchronize_(run.method)
        filling = steps[0].loss is None
        norm = None if filling else self.gradient_norm(progress)
        all_good = all_finite(norm, *(step.loss for step in steps))
        finite, go_on, calm = runtime.consensus(all_good, not run.stop(), not run.streams.news)
        if norm is not None:
            if finite:
                with record_function("optimizer"):
                    run.optimization.clip_(self.trained, norm)
                    self.state.scaler.step(self.state.optimizer)
            self.state.scaler.update()
        self.state.optimizer.zero_grad(set_to_none=True)
        self.count(finite, progress.run.step)
        if not calm:
            run.streams.settle(runtime.union([record.index for record in run.streams.news]))
        progress, self.stop = replace(progress, updated=finite and not filling), not go_on
        if finite:
            with record_function("after update"):
                run.method.after_update(progress, runtime.join(steps))
        else:
            for kept, buffer in zip(self.before, self.statistics, strict=True):
                buffer.copy_(kept)  # one NaN would stay in a running mean for good
        run.journal.step(progress, steps, norm)
        for probe in run.probes:
            if probe.due(progress):
                run.journal.probe(progress, probe.look(run.method, steps, progress))

    def micro(self, batch: Batch, progress: Progress, number: int, count: int) -> Step:
        """Forward and backward of one micro-batch; its share of the step's gradient is 1 / count."""
        place = (progress.seed, progress.run.step, number, self.run.runtime.rank)
        torch.manual_seed(random.key("forward", *place))  # dropout in a backbone: also a function of the step
        with record_function("forward"):
            step = self.forward(replace(batch, progress=progress), number == count - 1)
        if step.loss is not None:
            with record_function("backward"):
                self.state.scaler.scale(step.loss / count).backward()
        return detached(step)

    def gradient_norm(self, progress: Progress) -> Tensor:
        """The norm over all parameters the optimizer sees in this step."""
        hide_frozen(self.state.optimizer, progress.run)
        self.state.scaler.unscale_(self.state.optimizer)
        return torch.nn.utils.get_total_norm([p.grad for p in self.trained if p.grad is not None])

    def count(self, finite: bool, step: int) -> None:
        """Counts dropped steps in a row; fp16 may drop more while its loss scale settles."""
        self.state.dropped = 0 if finite else self.state.dropped + 1
        dropped = self.state.dropped
        if dropped >= (DROPPED_FP16 if self.state.scaler.is_enabled() else DROPPED):
            raise NonFinite(
                f"loss or gradients were NaN or infinite in {dropped} steps in a row, up to step {step + 1}: "
                "lower the learning rate (optimizer.rate) or use runtime.precision=fp32; the last good save is whole"
            )


def all_finite(*values: Tensor | None) -> bool:
    """Whether none of the values is NaN or infinite; None counts as finite."""
    there = [value.detach().double().reshape(()) for value in values if value is not None]
    return not there or bool(torch.isfinite(torch.stack(there)).all())


def detached(step: Step) -> Step:
    """The step without its graph, so that its memory is free before the next one."""

    def free(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.detach() for name, tensor in tensors.items()}

    return Step(
        loss=None if step.loss is None else step.loss.detach(),
        metrics=free(step.metrics),
        keep=free(step.keep),
        features=free(step.features),
        projections=free(step.projections),
    )
