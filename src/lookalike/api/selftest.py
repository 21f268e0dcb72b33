"""selftest: on this machine every loss is what its paper says, in all precisions, on two processes, after a resume."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from lookalike.api.loops import LOOPS
from lookalike.api.tiny import batch, moment, pixels, prepared, reads, tiny
from lookalike.api.two_processes import Alone, difference
from lookalike.methods.method import Method
from lookalike.recipes.tables import METHODS
from lookalike.training.checkpoint import Checkpoint, Checkpoints
from lookalike.training.optimizers import Optimization, flat_state, load_flat_state
from lookalike.training.processes import pick

ROWS = 12
STEPS = 4  # of a rehearsed training: half of them, a stop, the other half
SINGLE, DOUBLE, HALF = 1e-4, 1e-10, 5e-2  # limits: fp32 against fp64, fp64 against fp64, bf16 against fp32


@dataclass(frozen=True)
class Check:
    """error: what was measured, None where it could not be (`note` says why); limit: the largest that passes."""

    what: str
    error: float | None
    limit: float
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.error is None or self.error <= self.limit  # NaN fails


@dataclass(frozen=True)
class Examination:
    """All checks, and the seconds that they took."""

    checks: tuple[Check, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def selftest(
    *,
    device: str = "auto",
    on_check: Callable[[Check], None] = lambda check: None,
    on_wait: Callable[[str], None] = lambda why: None,
) -> Examination:
    """Every method with tiny networks: against loops in fp64, under bf16, saved and resumed, on two processes.

    A method whose loop stands in its test file, and not in LOOPS, is held against itself in fp64 on the CPU: precision
    and device are covered, the formula by the tests alone.
    on_check hears each check as it is done, on_wait what begins before several of them come at once.
    Opens nothing but a temporary folder; under a minute.
    Raises ValueError for a device that is not there.
    """
    start, place, done = time.perf_counter(), pick(device), list[Check]()
    for check in checks(place, on_wait=on_wait):
        done.append(check)
        on_check(check)
    return Examination(tuple(done), time.perf_counter() - start)


def checks(
    place: torch.device,
    names: Iterable[str] = tuple(METHODS),
    on_wait: Callable[[str], None] = lambda why: None,
) -> Iterator[Check]:
    """One after another; what fails to compute at all has an infinite error."""
    for name in names:
        other = "a slow loop" if name in LOOPS else "itself"
        yield tried(f"{name}: fp32 against {other} in fp64", SINGLE, against_loop, name, place)
        yield tried(f"{name}: bf16 against fp32", HALF, against_single, name, place)
        yield tried(f"{name}: saved and resumed against unbroken", 0.0, resumed, name)
    on_wait("starting two processes for every method: their checks come all at once")
    yield from on_two_processes()


def tried(what: str, limit: float, measure: Callable[..., float], *arguments: object) -> Check:
    try:
        return Check(what, measure(*arguments), limit)
    except Exception as reason:
        return Check(what, math.inf, limit, f"{type(reason).__name__}: {reason}")


def against_loop(name: str, place: torch.device) -> float:
    """Relative error of loss and gradients in fp32: against the method's loop, or itself, in fp64 on the CPU."""
    exact, shipped = prepared(tiny(name).double()), prepared(tiny(name).to(place))
    loop = LOOPS.get(name, lambda method, views: method(batch(method, ROWS)).loss)
    loss = loop(exact, {view: pixels(view, ROWS, 0) for view in reads(exact)})
    loss.backward()
    mine = shipped(batch(shipped, ROWS)).loss
    mine.backward()
    return max(error(mine, loss), error(gradients(shipped), gradients(exact)))


def against_single(name: str, place: torch.device) -> float:
    """Relative error of the loss under autocast to bf16; infinite where the gradient is not finite."""
    single, half = (prepared(tiny(name).to(place)) for _ in range(2))
    with torch.autocast(place.type, torch.bfloat16):
        loss = half(batch(half, ROWS)).loss
    loss.backward()
    finite = bool(gradients(half).isfinite().all())
    return error(loss, single(batch(single, ROWS)).loss) if finite else math.inf


def resumed(name: str) -> float:
    """Largest difference in weights, buffers and optimizer after a stop, a checkpoint, and other first weights."""
    unbroken, broken, other = Rehearsal(name), Rehearsal(name), Rehearsal(name, seed=1)
    unbroken.go(range(STEPS))
    broken.go(range(STEPS // 2))
    with TemporaryDirectory(prefix="lookalike-") as folder:
        Checkpoints(Path(folder)).save(STEPS // 2, *broken.state())
        found = Checkpoints(Path(folder)).load()
    assert found is not None
    other.take_up(found)
    other.go(range(STEPS // 2, STEPS))
    mine, theirs = other.state()[0], unbroken.state()[0]
    return max(float((mine[key].double() - value.double()).abs().max()) for key, value in theirs.items())


class Rehearsal:
    """A few steps of training of a tiny method, and its state."""

    def __init__(self, name: str, seed: int = 0) -> None:
        self.method = prepared(tiny(name, seed))
        learnable = {key: value for key, value in self.method.named_parameters() if value.requires_grad}
        self.optimizer = Optimization(name="sgd", rate=0.05).build(learnable, self.method)

    def go(self, steps: Iterable[int]) -> None:
        for step in steps:
            self.method.before_update(moment(step))
            found = self.method(batch(self.method, ROWS, step))
            found.loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            kept = {key: value.detach() for key, value in found.keep.items()}
            self.method.after_update(moment(step, updated=True), kept)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, facts = flat_state(self.optimizer)
        return tensors | {f"method/{key}": value for key, value in self.method.state_dict().items()}, facts

    def take_up(self, found: Checkpoint) -> None:
        load_flat_state(self.optimizer, found.tensors, found.facts)
        weights = {key: value for key, value in found.tensors.items() if key.startswith("method/")}
        self.method.load_state_dict({key.removeprefix("method/"): value for key, value in weights.items()})
        prepared(self.method)


def on_two_processes() -> Iterator[Check]:
    """A check for each method, or one that says why there is none."""
    what = "one process against two, in fp64"
    try:
        found = difference(list(METHODS))
    except Alone as reason:
        yield Check(what, None, DOUBLE, f"{reason}")
    except Exception as reason:
        yield Check(what, math.inf, DOUBLE, f"{type(reason).__name__}: {reason}")
    else:
        yield from (Check(f"{name}: {what}", value, DOUBLE) for name, value in found.items())


def gradients(method: Method) -> Tensor:
    """All gradients, joined, in fp64 on the CPU."""
    return torch.cat([p.grad.double().cpu().flatten() for p in method.parameters() if p.grad is not None])


def error(value: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest expected number."""
    value, expected = value.detach().double().cpu(), expected.detach().double().cpu()
    return float((value - expected).abs().max() / expected.abs().max())
