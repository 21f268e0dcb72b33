"""What a run saves and takes up again: the step, weights and buffers, optimizer, loss scale, partner tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lookalike.functional.collectives import agree, rank
from lookalike.training.checkpoint import CheckpointError, Checkpoints
from lookalike.training.optimizers import flat_state, load_flat_state
from lookalike.training.runtime import Runtime
from lookalike.training.streams import Pairs, Streams


@dataclass(frozen=True, kw_only=True)
class Saver:
    """Saves every `every` steps through `checkpoints`; None keeps nothing (a trial run).

    All ranks hold the same state, so rank 0 writes, and every rank reads. `facts` go into each checkpoint:
    the resolved recipe, the data's identity, versions.
    """

    checkpoints: Checkpoints | None
    every: int = 1000
    facts: dict = field(default_factory=dict)

    def due(self, step: int) -> bool:
        return step % self.every == 0

    def save(
        self,
        step: int,
        method: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        streams: Streams,
        runtime: Runtime,
    ) -> None:
        """Writes a checkpoint of run step `step` (that many steps are done)."""
        if self.checkpoints is None:
            return
        if runtime.rank == 0:
            tensors, optimizer_facts = flat_state(optimizer)
            tensors |= {f"method/{name}": value for name, value in method.state_dict().items()}
            for view, pairs in streams.pairs.items():
                tensors[f"pairs/{view}"] = pairs.group
                tensors[f"own/{view}"] = torch.tensor(pairs.own, dtype=torch.float64)
            facts = {"step": step, "optimizer": optimizer_facts, "scaler": scaler.state_dict(), **self.facts}
            self.checkpoints.save(step, tensors, facts)
        agree(True)  # nobody goes on before the checkpoint is whole

    def load(
        self,
        method: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        streams: Streams,
    ) -> tuple[int, list[str]]:
        """Takes up the newest whole checkpoint: the step to go on with (0 without one), and notes about torn ones."""
        if self.checkpoints is None:
            return 0, []
        if rank() == 0:
            self.checkpoints.sweep()
        agree(True)  # nobody reads while a killed process's leftovers go
        found = self.checkpoints.load()
        if found is None:
            return 0, []
        weights = _under("method/", found.tensors)
        missing, unexpected = method.load_state_dict(weights, strict=False)
        if missing or unexpected:
            raise CheckpointError(
                f"{found.path} belongs to another method or backbone: it lacks {missing[:3]} and holds {unexpected[:3]}"
                "; resume with the recipe of the run"
            )
        own, theirs = (_what_counts(facts) for facts in (self.facts, found.facts))
        if own != theirs:
            raise CheckpointError(
                f"{found.path} was saved by a run with another recipe: remove it, or give the folder of that run"
            )
        load_flat_state(optimizer, found.tensors, found.facts["optimizer"])
        if scaler.is_enabled() and found.facts["scaler"]:
            scaler.load_state_dict(found.facts["scaler"])
        streams.pairs.clear()
        for view, group in _under("pairs/", found.tensors).items():
            streams.pairs[view] = Pairs(group, found.tensors[f"own/{view}"].item())
        return found.facts["step"], found.notes


def _what_counts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the recipe that makes the weights what they are."""
    free = ("runtime", "saving", "watching", "data")
    return {key: value for key, value in facts.get("recipe", {}).items() if key not in free}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
