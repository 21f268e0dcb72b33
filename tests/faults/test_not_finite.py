"""NaN and infinity put into a run at seven places, on two processes: all stop, in time, and the last save is good."""

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from counts import note
from tiny import digest, training
from torch import Tensor

from lookalike.functional.collectives import rank
from lookalike.training.checkpoint import CheckpointError, Checkpoints
from lookalike.training.loop import DROPPED, NonFinite, Training, train
from lookalike.training.optimizers import flat_state
from lookalike.training.saver import Saver

START, EPOCHS = 3, 2.0  # the step at which something goes wrong, in a run of 8
VALUES = (float("nan"), float("inf"), -float("inf"))
WORLD = 2


class Watching(Saver):
    """The saver, which also notes the state before each save, and lets others see the optimizer."""

    states: dict[int, bytes]
    optimizer: torch.optim.Optimizer

    def save(self, step, state) -> None:
        self.__dict__["optimizer"] = state.optimizer
        tensors, _ = flat_state(state.optimizer)
        whole = digest(tensors | {f"method/{name}": v for name, v in state.method.state_dict().items()})
        self.__dict__.setdefault("states", {})[step] = whole
        super().save(step, state)


def spoiled(x: Tensor, value: float) -> Tensor:
    """A copy as floating-point numbers whose very first one is the value."""
    x = x.float() if not x.is_floating_point() else x.clone()
    x.view(-1)[0] = value
    return x


class Trouble:
    """Called before every step: from step START on, something of the run is not finite."""

    def __init__(self, run: Training, place: str, value: float) -> None:
        self.run, self.place, self.value, self.done = run, place, value, False
        self.follow = run.method.before_update
        run.method.before_update = self  # type: ignore[method-assign]

    def __call__(self, progress: Any) -> None:
        self.follow(progress)
        if progress.run.step >= START and not self.done:
            self.done = True
            PLACES[self.place](self.run, self.value)


def in_pixels(run: Training, value: float) -> None:
    run.method.encoder.register_forward_pre_hook(lambda module, inputs: (spoiled(inputs[0], value),))


def in_activations(run: Training, value: float) -> None:
    run.method.encoder.register_forward_hook(lambda module, inputs, output: output + spoiled(output * 0, value))


def in_gradients(run: Training, value: float) -> None:
    run.method.encoder.linear.weight.register_hook(lambda gradient: spoiled(gradient, value))


def on_one_rank(run: Training, value: float) -> None:
    if rank() == WORLD - 1:
        in_pixels(run, value)


@torch.no_grad()
def in_the_optimizer(run: Training, value: float) -> None:
    state = next(iter(run.saver.optimizer.state.values()))
    state["momentum_buffer"].view(-1)[0] = value


@torch.no_grad()
def in_the_queue(run: Training, value: float) -> None:
    run.method.queue.rows()[3, 2] = value


@torch.no_grad()
def in_the_momentum_encoder(run: Training, value: float) -> None:
    next(run.method.momentum_encoder.parameters()).view(-1)[0] = value


PLACES: dict[str, Callable[[Training, float], None]] = {
    "pixels": in_pixels,
    "activations": in_activations,
    "gradients": in_gradients,
    "one rank": on_one_rank,
    "optimizer": in_the_optimizer,
    "queue": in_the_queue,
    "momentum encoder": in_the_momentum_encoder,
}


def ended(run: Training) -> tuple[str, str]:
    try:
        train(run, EPOCHS)
    except (NonFinite, CheckpointError) as error:
        return type(error).__name__, str(error)
    return "finished", ""


def all_cases(folder: str) -> dict[tuple[str, float], tuple[str, str, int, int, bool]]:
    """Place and value -> how it ended here, what was said, steps done, the newest save, whether it is as it must be."""
    torch.set_num_threads(1)
    healthy = training(Path(folder) / "healthy", saver=Watching)
    assert ended(healthy) == ("finished", "")
    found = {}
    for place in PLACES:
        for number, value in enumerate(VALUES):
            run = training(Path(folder) / f"{place}-{number}", saver=Watching)
            steps: list[int] = []
            run.stop = lambda steps=steps: bool(steps.append(1))
            Trouble(run, place, value)
            name, text = ended(run)
            newest = Checkpoints(Path(folder) / f"{place}-{number}").load()
            good = digest(newest.tensors) == healthy.saver.states[newest.step] and newest.notes == []
            found[place, number] = (name, text, len(steps), newest.step, good)
    return found


@pytest.fixture(scope="module")
def cases(gloo) -> list[dict]:
    """All 21 cases on each of two processes."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where syncing is quick
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        return gloo.run(WORLD, all_cases, folder, patience=1200.0)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", range(len(VALUES)), ids=["nan", "inf", "-inf"])
def test_a_value_that_is_not_finite_stops_all_and_spoils_no_save(cases, place, number):
    for here, (name, text, steps, newest, good) in enumerate(found[place, number] for found in cases):
        assert name in ("NonFinite", "CheckpointError"), here
        assert START < steps <= START + DROPPED
        assert newest == START
        assert good
        assert "\n" not in text
        assert not re.search(r"[.!?] ", text)
    assert len({found[place, number][0] for found in cases}) == 1
    assert len({found[place, number][2] for found in cases}) == 1  # after the same step
    note(13, f"{VALUES[number]} in {place}, two processes", cases=1, right=1)


def test_a_stop_that_is_asked_for_meanwhile_does_not_save_it_either(tmp_path):
    """SIGTERM between a spoiled queue and the third dropped step: what is saved on the way out must be good."""
    run = training(tmp_path, saver=Watching, every=2)
    Trouble(run, "queue", float("nan"))
    asked: list[int] = []
    run.stop = lambda: bool(asked.append(1)) or len(asked) > START + 1
    with pytest.raises(CheckpointError, match=r"the state after step 5 holds NaN .* in method/queue\.rows_keys and is"):
        train(run, EPOCHS)
    newest = Checkpoints(tmp_path).load()
    assert newest.step == 2
    assert digest(newest.tensors) == run.saver.states[2]


def test_the_sentence_names_what_is_not_finite_and_what_to_do(tmp_path):
    run = training(tmp_path, saver=Watching)
    Trouble(run, "optimizer", float("inf"))
    name, text = ended(run)
    assert name == "CheckpointError"
    assert re.match(r"the state after step 4 holds NaN or infinite values in optimizer/\S+/momentum_buffer, ", text)
    assert "lower the learning rate" in text
    assert text.endswith("the last good save is whole")


def refusing(folder: str) -> tuple[str, str]:
    """Where checkpoints should go there is a file."""
    (Path(folder) / "checkpoints").touch()
    return ended(training(Path(folder)))


def different(folder: str) -> tuple[str, str]:
    """Each process sees a folder of its own, of which one holds a checkpoint: no shared disk."""
    own = Path(folder) / str(rank())
    if rank() == 0:
        Checkpoints(own).save(3, {"a": torch.ones(2)}, {"step": 3})
    return ended(training(own))


def test_what_stops_the_first_process_stops_all(gloo, tmp_path):
    """The others would wait for an hour."""
    first, other = gloo.run(WORLD, refusing, os.fspath(tmp_path), patience=300.0)
    assert first[0] == other[0] == "CheckpointError"
    assert "the checkpoint of step 0 failed: could not" in first[1]
    assert other[1] == "the checkpoint of step 0 failed in another process: that process says why"


def test_processes_that_see_different_checkpoints_stop(gloo, tmp_path):
    first, other = gloo.run(WORLD, different, os.fspath(tmp_path), patience=300.0)
    assert first[0] == other[0] == "CheckpointError"
    assert "(step 3 here, 3 elsewhere)" in first[1]
    assert "(step 0 here, 3 elsewhere)" in other[1]
