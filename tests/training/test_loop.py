"""The loop around what goes wrong: steps that are not finite, foreign checkpoints, filling steps."""

import pytest
import torch
from torch import nn

from contracts.small_world import BATCH, Draws, Net, Samples
from lookalike.functional.collectives import global_mean
from lookalike.methods.method import Batch, Method, Phase, Step
from lookalike.training.checkpoint import CheckpointError, Checkpoints
from lookalike.training.journal import Journal
from lookalike.training.loop import NonFinite, Stopped, Training, train
from lookalike.training.optimizers import Optimization
from lookalike.training.progress import Line
from lookalike.training.runtime import Runtime
from lookalike.training.saver import Saver
from lookalike.training.streams import Streams


class Fragile(Method):
    """Squares its outputs; at the steps in `broken` its pixels are NaN, at those in `filling` there is no loss."""

    def __init__(self, broken: tuple[int, ...] = (), filling: tuple[int, ...] = (), constant: float = 0.0) -> None:
        super().__init__()
        self.net, self.broken, self.filling, self.constant = Net(4), broken, filling, constant
        self.calls: list[tuple[int, bool]] = []
        self.weights: dict[int, torch.Tensor] = {}

    def plan(self, epochs: float):
        return [Phase(name="train", epochs=epochs, trains=("net",), reads=("one",))]

    def forward(self, batch: Batch) -> Step:
        step = batch.progress.run.step
        self.weights[step] = self.net.linear.weight.detach().clone()
        x = batch.views["one"].float()
        rows = self.net(x * float("nan") if step in self.broken else x)
        loss = None if step in self.filling else global_mean(rows.square().sum(1)) + self.constant
        return Step(loss=loss, keep={"rows": rows})

    def after_update(self, progress, kept):
        self.calls.append((progress.run.step, progress.updated))
        assert len(kept["rows"]) == BATCH

    def exports(self):
        return {"encoder": self.net}


def go(method: Method, folder=None, identity: dict | None = None, epochs: float = 2.0, stop_after: int = 99) -> None:
    steps = iter(range(1, 100))
    saver = Saver(checkpoints=Checkpoints(folder) if folder else None, every=1, identity=identity or {})
    train(
        Training(
            method=method,
            streams=Streams(source=Samples(3, 8, 8), views=Draws(), batch=BATCH),
            optimization=Optimization(name="sgd", rate=0.1),
            runtime=Runtime(),
            saver=saver,
            journal=Journal(None, Line(quiet=True), images=BATCH, every=1),
            stop=lambda: next(steps) >= stop_after,
        ),
        epochs,
    )


def test_the_random_numbers_of_the_caller_stay_as_they_are() -> None:
    method = Fragile()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    go(method)
    assert torch.equal(torch.rand(3), expected)


def test_a_step_that_is_not_finite_is_dropped_without_a_trace() -> None:
    method = Fragile(broken=(2, 3))
    go(method)
    assert method.calls == [(step, True) for step in (0, 1, 4, 5, 6, 7)]  # after_update never hears of a dropped step
    assert torch.equal(method.weights[2], method.weights[4])  # neither weights nor momentum moved
    assert not torch.equal(method.weights[4], method.weights[5])
    assert all(torch.isfinite(buffer).all() for buffer in method.buffers())  # BatchNorm forgot the NaN
    assert int(method.net.norm.num_batches_tracked) == 6


def test_a_stop_between_dropped_steps_does_not_forget_them(tmp_path) -> None:
    with pytest.raises(Stopped, match="after step 5"):
        go(Fragile(broken=(3, 4, 5)), tmp_path, stop_after=5)
    with pytest.raises(NonFinite, match="3 steps in a row, up to step 6"):
        go(Fragile(broken=(3, 4, 5)), tmp_path)


def test_three_in_a_row_stop_training_and_the_last_checkpoint_is_good(tmp_path) -> None:
    method = Fragile(broken=(3, 4, 5))
    with pytest.raises(NonFinite, match="3 steps in a row, up to step 6: lower the learning rate"):
        go(method, tmp_path)
    found = Checkpoints(tmp_path).load()
    assert found is not None
    assert found.step == 3
    assert all(torch.isfinite(tensor).all() for tensor in found.tensors.values())


def test_an_infinite_loss_with_a_finite_gradient_is_not_finite() -> None:
    with pytest.raises(NonFinite):
        go(Fragile(constant=float("inf")))


def test_a_filling_step_counts_and_moves_nothing() -> None:
    method = Fragile(filling=(0, 1))
    go(method)
    assert method.calls[:3] == [(0, False), (1, False), (2, True)]
    assert torch.equal(method.weights[0], method.weights[2])


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path) -> None:
    go(Fragile(), tmp_path, {"method": "this"}, epochs=1.0)
    with pytest.raises(CheckpointError, match="was saved by a run with another recipe"):
        go(Fragile(), tmp_path, {"method": "that"})
    go(Fragile(), tmp_path, {"method": "this"})


def test_what_a_module_has_fixed_for_good_stays_fixed() -> None:
    method = Fragile()
    method.net.conv.weight.requires_grad_(False)
    before = method.net.conv.weight.clone()
    go(method)
    assert torch.equal(method.net.conv.weight, before)
    assert not method.net.conv.weight.requires_grad


def test_a_phase_that_trains_nothing_is_a_mistake() -> None:
    class Idle(Fragile):
        def plan(self, epochs: float):
            return [Phase(name="idle", epochs=epochs, trains=("net.nothing",), reads=("one",))]

    method = Idle()
    method.net.nothing = nn.Identity()
    with pytest.raises(ValueError, match="phase 'idle' trains"):
        go(method)
