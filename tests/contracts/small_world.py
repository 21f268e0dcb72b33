"""Sixty-four samples, five crude methods, and a function that trains one of them and may die on the way."""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from contracts.pages import PIC, SCE, SLIC, QKIteration, SimCLR, WithCuration, WithRotation
from lookalike.functional import random
from lookalike.functional.collectives import rank, world
from lookalike.functional.schedules import Warmup
from lookalike.methods.method import Method
from lookalike.modules import Bank, Queue, with_batch_statistics
from lookalike.training.checkpoint import Checkpoints
from lookalike.training.journal import Journal
from lookalike.training.loop import Training, train
from lookalike.training.metrics import Metrics
from lookalike.training.optimizers import Optimization
from lookalike.training.progress import Line
from lookalike.training.runtime import Runtime
from lookalike.training.saver import Saver
from lookalike.training.streams import Streams

SIZE, BATCH, DIM = 64, 16, 12


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, nothing is saved on the way out."""


class Samples:
    """Images (3, 8, 8) or clips (3, 6, 8, 8) of random pixels."""

    def __init__(self, *shape: int) -> None:
        self.pixels = torch.randint(256, (SIZE, *shape), generator=random.generator("samples"), dtype=torch.uint8)

    def __len__(self) -> int:
        return SIZE

    def read(self, index: int) -> Tensor:
        return self.pixels[index]

    def name(self, index: int) -> str:
        return str(index)


class Draws:
    """Random shift, flip and brightness per view; for clips a random start of four frames: the same for all frames."""

    def draw(self, index, *, seed, epoch, attempt, names):
        return {n: random.uniform(random.key("view", seed, *epoch, n, attempt), index, 4) for n in names}

    def render(self, images, parameters, names):
        return {
            n: torch.stack([self.one(x, *u) for x, u in zip(images, parameters[n].tolist(), strict=True)])
            for n in names
        }

    def one(self, x: Tensor, shift: float, flip: float, light: float, start: float) -> Tensor:
        if x.dim() == 4:
            x = x[:, int(start * 3) :][:, :4]
        x = x.roll(int(shift * 5), -1)
        x = x.flip(-1) if flip < 0.5 else x
        return (x.float() * (0.6 + 0.4 * light)).round().to(torch.uint8)

    def boxes(self, parameters, sizes):
        return {n: torch.zeros(len(u), 4) for n, u in parameters.items()}


class Net(nn.Module):
    """A convolution, BatchNorm and a linear layer; uint8 in, (B, dim) out."""

    def __init__(self, dim: int, clips: bool = False) -> None:
        super().__init__()
        kind = (nn.Conv3d, nn.BatchNorm3d) if clips else (nn.Conv2d, nn.BatchNorm2d)
        self.conv, self.norm, self.linear = kind[0](3, 8, 3), kind[1](8), nn.Linear(8, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x.to(self.linear.weight.dtype) / 255))
        return self.linear(x.relu().flatten(2).mean(2))


def build(name: str) -> Method:
    """One of the five methods, with the same first weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        method = {
            "sce": lambda: SCE(Net(16), nn.Linear(16, DIM), Queue(40, DIM, seed=1)),
            "qk": lambda: QKIteration(Net(DIM), Net(DIM), Bank(SIZE, DIM, derived=True)),
            "pic": lambda: PIC(Net(DIM), SIZE, DIM),
            "slic": lambda: SLIC(Net(DIM, clips=True), SIZE),
            "simclr": lambda: WithRotation(WithCuration(SimCLR(Net(16), nn.Linear(16, DIM)), 0.9), 16),
        }[name]()
    return with_batch_statistics(method, "global")


def run(
    name: str,
    folder: Path,
    *,
    accumulate: int = 1,
    epochs: float = 2.0,
    die_after: int | None = None,
    every: int = 1,
):
    """Trains in fp64, or goes on where the folder stands; returns the final state and the losses by step."""
    method, images = build(name), Samples(3, 6, 8, 8) if name == "slic" else Samples(3, 8, 8)
    streams = Streams(
        source=images, views=Draws(), batch=BATCH, accumulate=accumulate, seed=3, rank=rank(), world=world()
    )
    metrics = Metrics(folder / "metrics.jsonl") if rank() == 0 else None
    training = Training(
        method=method,
        streams=streams,
        optimization=Optimization(
            name="sgd", rate=0.05, schedule=Warmup(epochs=0.5), weight_decay=1e-4, momentum=0.9, clip=5.0
        ),
        runtime=Runtime(precision="fp64"),
        saver=Saver(checkpoints=Checkpoints(folder, keep=2), every=every),
        journal=Journal(metrics, Line(quiet=True), images=BATCH, every=1),
        stop=Death(die_after),
    )
    train(training, epochs)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    state = {key: value.clone() for key, value in method.state_dict().items()}
    return state, {row["step"]: row["loss"] for row in rows if "loss" in row}


class Death:
    """Asked once a step whether to stop; dies when its step is done, before anything of it is saved."""

    def __init__(self, after: int | None) -> None:
        self.after, self.asked = after, 0

    def __call__(self) -> bool:
        self.asked += 1
        if self.after is not None and self.asked > self.after:
            raise Killed
        return False
