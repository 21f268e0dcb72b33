"""Where and how tensors are computed: device, precision, memory format, processes; a method frozen and wrapped."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lookalike.functional import collectives
from lookalike.methods.method import Batch, Method, Phase, Step
from lookalike.modules import MomentumEncoder, sharded_buffers

Precision = Literal["fp64", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One process's way to compute. Precision fp64 is for proofs; bf16 and fp16 are autocast over fp32 weights."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "fp32"
    channels_last: bool = False
    compile: bool = False

    @property
    def rank(self) -> int:
        return collectives.rank()

    @property
    def world(self) -> int:
        return collectives.world()

    def place(self, method: Method) -> None:
        """Moves the method to the device, in the chosen memory format."""
        method.to(self.device, torch.float64 if self.precision == "fp64" else torch.float32)
        if self.channels_last:
            method.to(memory_format=torch.channels_last)

    @property
    def half(self) -> torch.dtype | None:
        """The dtype of autocast, if there is one."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)

    def autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, self.half) if self.half else nullcontext()

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which only fp16 needs."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def wrap(self, method: Method, phase: Phase) -> Callable[[Batch, bool], Step]:
        """The method's forward for a phase: under autocast, averaging gradients over processes if there are several."""
        if self.compile:
            for name in phase.trains:
                if isinstance(part := _part(method, name), nn.Module):
                    part.compile()
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(method, list(sharded_buffers(method)))
        spread = _averaging(method) if self.world > 1 else None

        def forward(batch: Batch, last: bool) -> Step:
            # gradients are averaged once, after the last micro-batch
            apart = spread.no_sync() if spread is not None and not last else nullcontext()
            with self.autocast(), apart:
                return method(batch) if spread is None else spread(batch)

        return forward

    def join(self, steps: Sequence[Step]) -> dict[str, Tensor]:
        """`Step.keep` over the global batch: ranks and micro-batches in order of global position."""
        return {
            name: torch.cat([collectives.gather_rows(step.keep[name].detach()) for step in steps])
            for name in steps[0].keep
        }

    def spread(self, rows: Tensor | None, owner: int) -> Tensor:
        """The owner's rows, on every rank."""
        if self.world == 1:
            assert rows is not None
            return rows
        kinds = [torch.float32, torch.float64]
        facts = torch.zeros(8, dtype=torch.int64, device=self.device)  # dtype, dimensions, shape
        if rows is not None:
            facts[:2] = torch.tensor([kinds.index(rows.dtype), rows.dim()])
            facts[2 : 2 + rows.dim()] = torch.tensor(rows.shape)
        dist.broadcast(facts, owner)
        kind, dims, *shape = facts.tolist()
        if rows is None:
            rows = torch.empty(shape[:dims], dtype=kinds[kind], device=self.device)
        rows = rows.to(self.device).contiguous()
        dist.broadcast(rows, owner)
        return rows

    def union(self, numbers: Sequence[int]) -> list[int]:
        """The numbers (0 or more) that any rank has, in order."""
        count = torch.tensor(float(len(numbers)), dtype=torch.float64, device=self.device)
        padded = torch.full((int(collectives.all_max(count)),), -1, dtype=torch.int64, device=self.device)
        padded[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
        return sorted(set(collectives.gather_rows(padded).tolist()) - {-1})

    def consensus(self, *flags: bool) -> list[bool]:
        """Each flag, true if it is true on every rank."""
        if self.world == 1:
            return list(flags)
        votes = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(votes, dist.ReduceOp.MIN)
        return [bool(vote) for vote in votes.tolist()]


def freeze(method: Method, phase: Phase, learnable: set[str]) -> list[nn.Parameter]:
    """Leaves gradient and training mode only to what the phase trains; returns those parameters.

    `learnable` names the parameters that may ever learn: what a module has fixed for good stays fixed.

    A momentum encoder keeps the method's mode: its own BatchNorm policy decides (modules.momentum).
    """
    inside = set[nn.Module]()
    for name in phase.trains:
        if isinstance(part := _part(method, name), nn.Module):
            inside.update(part.modules())
    method.train()
    momentum = {child for m in method.modules() if isinstance(m, MomentumEncoder) for child in m.modules()}
    for child in method.modules():
        if child not in inside and child not in momentum and not inside.intersection(child.modules()):
            child.training = False
    trained = []
    for name, parameter in method.named_parameters():
        learns = name in learnable and any(f"{name}.".startswith(f"{part}.") for part in phase.trains)
        parameter.requires_grad_(learns)
        parameter.grad = None
        trained += [parameter] if learns else []
    if not trained:
        raise ValueError(f"phase {phase.name!r} trains {phase.trains}, which have no parameters")
    return trained


def _averaging(method: Method) -> DistributedDataParallel:
    """Buffers stay what each process has. Torch 2.14 says that the argument is old, and has no other that does it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(method, broadcast_buffers=False)


def _part(method: Method, name: str) -> nn.Module | Tensor:
    """The submodule or parameter of that name; AttributeError names what is missing."""
    owner, _, leaf = name.rpartition(".")
    return getattr(method.get_submodule(owner), leaf)
