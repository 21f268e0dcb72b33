"""Each method with tiny networks on vectors of six numbers, and batches for it: what the self-test runs."""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lookalike.functional import random
from lookalike.functional.collectives import rank, world
from lookalike.functional.schedules import Clock
from lookalike.methods.method import Batch, Method, Progress
from lookalike.modules import (
    Bank,
    Clusters,
    InstanceClasses,
    NormedPrototypes,
    Prototypes,
    Queue,
    mlp,
    with_batch_statistics,
)
from lookalike.recipes.build import seeded
from lookalike.recipes.tables import METHODS

PIXELS, FEATURES, OUT, HIDDEN, KEYS, DIRECTIONS = 6, 5, 4, 8, 20, 7
CLASSES, IMAGES = 3, 64
CLEAR = 362  # seed of a queue in which half precision finds the same nearest rows: NNCLR's loss jumps where it does not


class NothingElse:
    """There are no other samples to draw."""

    def again(self, batch: Batch, attempt: int) -> Batch:
        raise ValueError("the self-test has no source to draw a batch from again")

    def reserve(self, batch: Batch, offset: int) -> Batch:
        raise ValueError("the self-test has no reserve of samples")


def tiny(name: str, seed: int = 0) -> Method:
    """The method with its defaults and a queue where it takes one, small perceptrons, statistics of the global batch.

    Raises ValueError where its constructor wants more than networks, a queue, a bank, prototypes and classes.
    """
    cast, given = METHODS[name], dict[str, nn.Module]()
    with seeded("selftest", seed):
        for parameter in inspect.signature(cast).parameters.values():
            if parameter.default is inspect.Parameter.empty or parameter.annotation == Queue | None:
                given[parameter.name] = _part(name, parameter, first=len(given) == 1)
    method = cast(**given)
    with_batch_statistics(method, "global")
    return method


def _part(name: str, parameter: inspect.Parameter, first: bool) -> nn.Module:
    if parameter.name == "encoder":
        return mlp(PIXELS, [HIDDEN, FEATURES], last_norm="plain")
    if parameter.annotation is nn.Module:
        return mlp(FEATURES if first else OUT, [HIDDEN, OUT])
    if parameter.annotation in (Queue, Queue | None):
        return Queue(KEYS, OUT, seed=CLEAR)
    if parameter.annotation is Bank:
        bank = Bank(IMAGES, OUT)
        bank.fill([(torch.arange(IMAGES), Queue(IMAGES, OUT, seed=1).rows())])
        return bank
    if parameter.annotation is Clusters:
        clusters = Clusters(IMAGES, OUT, count=DIRECTIONS, smallest=2)
        clusters.start(Queue(IMAGES, OUT, seed=1).rows(), random.generator("selftest", "clusters"))
        return clusters
    if parameter.annotation is InstanceClasses:
        return InstanceClasses(KEYS, OUT, seed=1)
    if parameter.annotation in (Prototypes, NormedPrototypes):
        return parameter.annotation(DIRECTIONS, OUT)
    raise ValueError(
        f"the self-test cannot make {parameter.name!r} of {name}: only networks, queues, banks, prototypes, classes, "
        "clusters"
    )


def reads(method: Method) -> Sequence[str]:
    """The views of the method's first phase."""
    return method.plan(1.0)[0].reads


def batch(method: Method, rows: int, step: int = 0) -> Batch:
    """This process's rows of a global batch of `rows` vectors in three classes, where and as precise as the method."""
    position, like = torch.arange(rank(), rows, world()), next(method.parameters())
    return Batch(
        views={view: pixels(view, rows, step)[position].to(like) for view in reads(method)},
        index=position.to(like.device),
        position=position.to(like.device),
        progress=moment(step),
        redraw=NothingElse(),
        labels=(position % CLASSES).to(like.device),
    )


def pixels(view: str, rows: int, step: int) -> Tensor:
    """The vectors of the whole batch: a picture of its own for each row, and a view of it."""
    same = torch.randn(rows, PIXELS, dtype=torch.float64, generator=random.generator("selftest", step))
    own = torch.randn(rows, PIXELS, dtype=torch.float64, generator=random.generator("selftest", step, view))
    return same + 0.5 * own


def moment(step: int, updated: bool = False) -> Progress:
    clock = Clock(step=step, steps=100, epoch=step / 10, epochs=10.0)
    return Progress(phase=clock, run=clock, seed=0, updated=updated)
