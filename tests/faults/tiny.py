"""A run of a few thousand parameters: SCE, with momentum encoder and queue, on 64 samples of 8 x 8 pixels."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contracts.small_world import BATCH, Draws, Net, Samples
from lookalike.functional.collectives import rank, world
from lookalike.functional.schedules import Constant
from lookalike.methods.sce import SCE
from lookalike.modules import Queue, with_batch_statistics
from lookalike.training.checkpoint import Checkpoints
from lookalike.training.journal import Journal
from lookalike.training.loop import Training
from lookalike.training.optimizers import Optimization
from lookalike.training.progress import Line
from lookalike.training.runtime import Runtime
from lookalike.training.saver import Saver
from lookalike.training.streams import Streams

STEPS_AN_EPOCH = 4


def method() -> SCE:
    """The same first weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        made = SCE(
            Net(16), nn.Linear(16, 12), Queue(32, 12, seed=1), keys=("one",), queries=("two",), momentum=Constant(0.9)
        )
    return with_batch_statistics(made, "global")


def training(folder: Path, *, saver: type[Saver] = Saver, **saving: Any) -> Training:
    """Everything that `train` needs; saves every step."""
    return Training(
        method=method(),
        streams=Streams(source=Samples(3, 8, 8), views=Draws(), batch=BATCH, seed=3, rank=rank(), world=world()),
        optimization=Optimization(name="sgd", rate=0.05, weight_decay=1e-4, momentum=0.9),
        runtime=Runtime(),
        saver=saver(**{"checkpoints": Checkpoints(folder, keep=2), "every": 1, **saving}),
        journal=Journal(None, Line(quiet=True), images=BATCH, every=1),
    )


def digest(tensors: Mapping[str, Tensor]) -> bytes:
    """16 bytes that depend on every name, shape and bit."""
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.digest()
