"""What a run saves and takes up again: step, weights and buffers, optimizer, loss scale, dropped steps, partners."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lookalike.functional.collectives import agree, all_max, rank
from lookalike.training.checkpoint import Checkpoint, CheckpointError, Checkpoints
from lookalike.training.optimizers import flat_state, load_flat_state
from lookalike.training.streams import Pairs, Streams
from lookalike.training.weights import size_in_bytes

MOMENTS = {"SGD": 1, "LARS": 1}  # what an optimizer remembers of each parameter, in numbers; others: 2, as Adam does


@dataclass(kw_only=True)
class State:
    """All that training changes. dropped: non-finite steps in a row, so far."""

    method: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    streams: Streams
    dropped: int = 0


@dataclass(frozen=True, kw_only=True)
class Saver:
    """Saves every `every` steps through `checkpoints`; None keeps nothing (a trial run).

    All ranks hold the same state, so rank 0 writes, and every rank reads. `facts` go into each checkpoint:
    the resolved recipe, the data's identity, versions. A checkpoint is taken up only where its `identity` equals this
    one. check_space: a run starts only where its checkpoints have room.
    """

    checkpoints: Checkpoints | None
    every: int = 1000
    facts: dict = field(default_factory=dict)
    identity: dict = field(default_factory=dict)
    check_space: bool = True

    def due(self, step: int) -> bool:
        return step % self.every == 0

    def save(self, step: int, state: State) -> None:
        """Writes a checkpoint of run step `step` (that many steps are done).

        Raises CheckpointError, on every rank, where a value of the state is NaN or infinite on any of them, or the disk
        refuses: the last good checkpoint stays.
        """
        if self.checkpoints is None:
            return
        tensors, optimizer_facts = _tensors(state)
        for view, pairs in state.streams.pairs.items():
            tensors[f"pairs/{view}"] = pairs.group
            tensors[f"own/{view}"] = torch.tensor(pairs.own, dtype=torch.float64)
        _demand_finite(step, tensors)
        failure = None
        if rank() == 0:
            facts = {"step": step, "optimizer": optimizer_facts, "scaler": state.scaler.state_dict(), **self.facts}
            facts |= {"identity": self.identity, "dropped": state.dropped}
            try:
                self.checkpoints.save(step, tensors, facts)
            except CheckpointError as error:
                failure = error
        _together(failure, f"the checkpoint of step {step} failed in another process")  # whole before anybody goes on

    def load(self, state: State) -> tuple[int, list[str]]:
        """Takes up the newest whole checkpoint: the step to go on with (0 without one), and notes about torn ones.

        Raises CheckpointError, on every rank, where one of them cannot read it, it belongs to another run, or there is
        no room for the next ones.
        """
        if self.checkpoints is None:
            return 0, []
        found = self._found()
        _together_at(0 if found is None else found.step, self.checkpoints, state.method)
        if found is not None:
            self._take_up(found, state)
        self._demand_room(state)
        return (0, []) if found is None else (found.step, found.notes)

    def _found(self) -> Checkpoint | None:
        """The newest whole checkpoint, once nothing half-written is left."""
        assert self.checkpoints is not None
        failure = found = None
        try:
            if rank() == 0:
                self.checkpoints.sweep()
        except CheckpointError as error:
            failure = error
        _together(failure, "the run folder cannot be read by another process")  # nobody reads while leftovers go
        try:
            found = self.checkpoints.load()
        except CheckpointError as error:
            failure = error
        _together(failure, "the checkpoint cannot be read by another process")
        return found

    def _take_up(self, found: Checkpoint, state: State) -> None:
        weights = _under("method/", found.tensors)
        _demand_fit(found, state.method, weights)
        if found.facts.get("identity") != self.identity:
            raise CheckpointError(
                f"{found.path} was saved by a run with another recipe: restore that, or begin a new run"
            )
        pairs = _pairs(found, state.streams)
        if found.facts.get("step") != found.step:
            raise CheckpointError(f"{found.path} says that it is of step {found.facts.get('step')!r}: restore it")
        try:
            load_flat_state(state.optimizer, found.tensors, found.facts["optimizer"])
            if state.scaler.is_enabled() and found.facts["scaler"]:
                state.scaler.load_state_dict(found.facts["scaler"])
            state.dropped = int(found.facts["dropped"])
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise CheckpointError(f"{found.path} is not what training saved ({_short(error)}): restore it") from error
        state.method.load_state_dict(weights)
        state.streams.pairs.clear()
        state.streams.pairs.update(pairs)

    def _demand_room(self, state: State) -> None:
        """Raises CheckpointError, on every rank, where keep + 1 checkpoints have no room, unless that is allowed."""
        if not self.check_space or self.checkpoints is None:
            return
        tensors, _ = _tensors(state)
        size = size_in_bytes(tensors)
        if not state.optimizer.state:
            learning = {n: p for n, p in state.method.named_parameters() if p.requires_grad}
            size += MOMENTS.get(type(state.optimizer).__name__, 2) * size_in_bytes(learning)
        failure = None
        try:
            if rank() == 0:
                self.checkpoints.demand_room(size)
        except CheckpointError as error:
            failure = error
        _together(failure, "there is no room for checkpoints")


def _tensors(state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, facts = flat_state(state.optimizer)
    return tensors | {f"method/{name}": value for name, value in state.method.state_dict().items()}, facts


def _demand_finite(step: int, tensors: Mapping[str, Tensor]) -> None:
    """A state with one NaN is a run that is lost: it must not push the last good one out."""
    wrong = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    where = f"{', '.join(wrong[:3])}{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}"
    trouble = CheckpointError(
        f"the state after step {step} holds NaN or infinite values in {where} and is not saved: lower the learning "
        "rate (optimizer.rate) or use runtime.precision=fp32; the last good save is whole"
    )
    _together(
        trouble if wrong else None, f"the state after step {step} holds NaN or infinite values in another process"
    )


def _together(failure: CheckpointError | None, elsewhere: str) -> None:
    """Raises on every rank what failed on one: the others would wait for it for an hour."""
    if not agree(failure is None):
        raise failure or CheckpointError(f"{elsewhere}: that process says why")


def _together_at(step: int, checkpoints: Checkpoints, method: nn.Module) -> None:
    """Raises CheckpointError, on every rank, where they found different checkpoints."""
    device = next((value.device for value in method.state_dict().values()), torch.device("cpu"))
    newest = int(all_max(torch.tensor(float(step), dtype=torch.float64, device=device)))
    if not agree(step == newest):
        raise CheckpointError(
            f"the processes see different checkpoints in {checkpoints.folder} (step {step} here, {newest} elsewhere): "
            "give them one folder that all of them can read"
        )


def _demand_fit(found: Checkpoint, method: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Raises CheckpointError where names or shapes are not those of the method."""
    own = method.state_dict()
    missing, unexpected = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"{found.path} belongs to another method or backbone: it lacks {missing[:3]} and holds {unexpected[:3]}"
            "; resume with the recipe of the run"
        )
    for name, value in own.items():
        if value.shape != weights[name].shape:
            raise CheckpointError(
                f"{found.path} belongs to another method or backbone: {name} is {tuple(weights[name].shape)} there and "
                f"{tuple(value.shape)} here; resume with the recipe of the run"
            )


def _pairs(found: Checkpoint, streams: Streams) -> dict[str, Pairs]:
    """The partner tables of a checkpoint. Raises CheckpointError where they are not for these images."""
    tables = {}
    for view, group in _under("pairs/", found.tensors).items():
        own = found.tensors.get(f"own/{view}")
        if own is None or own.numel() != 1 or group.dtype != torch.int64 or group.shape != (streams.size,):
            raise CheckpointError(f"{found.path} has partners that do not fit {streams.size} images: restore it")
        tables[view] = Pairs(group, own.item())
    return tables


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
