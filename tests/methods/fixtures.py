"""A batch made by hand, and networks that pass through what they are given: closed forms can be read off a method."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lookalike.functional import random
from lookalike.functional.schedules import Clock
from lookalike.methods.method import Batch, Method, Progress
from lookalike.modules import Queue

QUERY = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
KEY = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
MEMORY = torch.tensor([[0.0, 1.0], [0.8, 0.6]], dtype=torch.float64)


class Redraws:
    """There is nothing to draw from again."""

    def again(self, batch: Batch, attempt: int) -> Batch:
        raise AssertionError("no method of this file draws again")

    def reserve(self, batch: Batch, offset: int) -> Batch:
        raise AssertionError("no method of this file takes new samples")


def progress(step: int = 0, steps: int = 100, updated: bool = False, rate: float = 0.0) -> Progress:
    clock = Clock(step=step, steps=steps, epoch=step / 10, epochs=steps / 10)
    return Progress(phase=clock, run=clock, seed=0, updated=updated, rate=rate)


def batch(views: Mapping[str, Tensor], step: int = 0, labels: Tensor | None = None) -> Batch:
    rows = len(next(iter(views.values())))
    order = torch.arange(rows)
    return Batch(views=views, index=order, position=order, progress=progress(step), redraw=Redraws(), labels=labels)


def identity(dim: int = 2) -> nn.Linear:
    """A linear layer that starts as the identity: something that can learn and follow."""
    layer = nn.Linear(dim, dim, bias=False, dtype=torch.float64)
    nn.init.eye_(layer.weight)
    return layer


def waves(rows: int = 8, dim: int = 5) -> tuple[Tensor, Tensor]:
    """Two views by a formula that any program can evaluate: what official losses made of them is written in tests."""
    i, j = torch.arange(rows, dtype=torch.float64)[:, None], torch.arange(dim, dtype=torch.float64)[None]
    one = torch.sin(1 + 3 * i + 5 * j + 0.1 * i * j)
    return one.clone().requires_grad_(), (one + 0.5 * torch.cos(1 + 2 * i * j + i)).requires_grad_()


def rolled(x_BD: Tensor) -> Tensor:
    """A prediction that differs from its input, by a formula: the neighboring column, and a little of its own."""
    return x_BD.roll(1, 1) + 0.3 * x_BD


def keyed(name: str, rows: int) -> Tensor:
    """Unit rows of six numbers, the same on every machine: what the authors' code was run on too."""
    return nn.functional.normalize(random.normal(random.key("reference", name), torch.arange(rows), 6), dim=1)


def queue_of(rows: Tensor) -> Queue:
    queue = Queue(len(rows), rows.shape[1]).double()
    queue.push(rows)
    return queue


def demand_order_of_updates(method: Method) -> None:
    """With momentum 0.99: the momentum encoder moves before the step, the queue after it, forward moves nothing."""
    with torch.no_grad():
        method.encoder.weight.zero_()
    method.before_update(progress())
    torch.testing.assert_close(method.momentum_encoder.copies[0].weight, 0.99 * torch.eye(2, dtype=torch.float64))
    step = method(batch({"strong": QUERY, "weak": KEY}))
    assert torch.equal(method.queue.rows(), MEMORY)
    method.after_update(progress(updated=True), step.keep)
    assert torch.equal(method.queue.rows(), torch.cat([KEY, MEMORY[1:]]))
