"""Five crude methods that between them use everything the contract offers; plain formulas, no engine.

SCE (momentum encoder, queue), QK Iteration (phases, derived bank), PIC (class weights, sliding window),
SLIC (clusters and partners set in `enter`, clips), SimCLR under curation and rotation (wrappers, redrawn batches).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lookalike.functional.collectives import all_sum, gather_rows, global_mean, rank, world
from lookalike.functional.order import Window
from lookalike.functional.schedules import Cosine
from lookalike.methods.method import Batch, Group, Method, Phase, Step
from lookalike.modules import Bank, MomentumEncoder, Queue


def unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=1)


class SCE(Method):
    """lambda = 0.5; the momentum encoder moves after the step; keys join the queue after the loss."""

    def __init__(self, encoder: nn.Module, projector: nn.Module, queue: Queue) -> None:
        super().__init__()
        self.encoder, self.projector, self.queue = encoder, projector, queue
        self.momentum = MomentumEncoder(encoder, projector)
        self.follow = Cosine(0.9, 1.0)

    def plan(self, epochs):
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=("one", "two"))]

    def forward(self, batch):
        h = self.encoder(batch.views["one"])
        q, k = unit(self.projector(h)), unit(self.momentum(batch.views["two"]))
        own = (q * k).sum(1, keepdim=True)
        log_p = (torch.cat([own, q @ self.queue.rows().T], 1) / 0.1).log_softmax(1)
        relations = (k @ self.queue.rows().T / 0.05).softmax(1)
        w = torch.cat([torch.full_like(own, 0.5), 0.5 * relations], 1)
        return Step(
            loss=global_mean(-(w * log_p).sum(1)),
            keep={"keys": k},
            features={"one": h},
            projections={"one": q},
        )

    def after_update(self, progress, kept):
        if progress.updated:
            self.momentum.follow(self.encoder, self.projector, momentum=self.follow(progress.run))
        self.queue.push(kept["keys"])

    def exports(self):
        return {"encoder": self.encoder}


class QKIteration(Method):
    SIDES: ClassVar = ("query", "key")
    VIEWS: ClassVar = {"query": "one", "key": "two"}

    def __init__(self, query: nn.Module, key: nn.Module, bank: Bank, rounds: int = 2) -> None:
        super().__init__()
        self.query, self.key, self.bank, self.rounds = query, key, bank, rounds
        self.learner = ""

    def plan(self, epochs):
        each = epochs / (2 * self.rounds)
        return [
            Phase(name=f"{side}/{r}", epochs=each, trains=(side,), reads=(self.VIEWS[side],))
            for r in range(self.rounds)
            for side in self.SIDES
        ]

    def prepare(self, phase, corpus):
        (self.learner,) = phase.trains
        frozen = "key" if self.learner == "query" else "query"
        self.bank.fill(
            (index, unit(rows)) for index, rows in corpus.encode(self.get_submodule(frozen), self.VIEWS[frozen])
        )

    def forward(self, batch):
        z = unit(self.get_submodule(self.learner)(batch.views[self.VIEWS[self.learner]]))
        logits = z @ self.bank.rows().T / 0.1
        return Step(loss=global_mean(F.cross_entropy(logits, batch.index, reduction="none")))

    def exports(self):
        return {"query": self.query, "key": self.key}


class PIC(Method):
    def __init__(self, encoder: nn.Module, classes: int, dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.weights = nn.Parameter(torch.randn(classes, dim) * 0.01)

    def plan(self, epochs):
        order = Window(size=32, shift=16)
        return [Phase(name="train", epochs=epochs, trains=("encoder", "weights"), reads=("one",), order=order)]

    def groups(self):
        return {"weights": Group(lr_scale=2.0, weight_decay=0.0, frozen_until=2)}

    def forward(self, batch):
        logits = unit(self.encoder(batch.views["one"])) @ unit(self.weights).T / 0.2
        return Step(loss=global_mean(F.cross_entropy(logits, batch.index, reduction="none")))

    def exports(self):
        return {"encoder": self.encoder}


class SLIC(Method):
    """Clusters by first neighbors (FINCH, finest partition); positives come from the cluster; triplets in the batch."""

    def __init__(self, encoder: nn.Module, samples: int, clusterings: int = 2) -> None:
        super().__init__()
        self.encoder, self.clusterings = encoder, clusterings
        self.register_buffer("cluster", torch.zeros(samples, dtype=torch.int64))

    def plan(self, epochs):
        reads = ("anchor", "again", "positive")
        return [
            Phase(
                name=f"clusters/{c}",
                epochs=epochs / self.clusterings,
                trains=("encoder",),
                reads=reads,
                partners=("positive",),
                restart=c == 1,
            )
            for c in range(self.clusterings)
        ]

    def enter(self, phase, corpus):
        rows = unit(torch.cat([rows for _, rows in corpus.encode(self.encoder, "anchor")]))
        similarity = rows @ rows.T - 2 * torch.eye(len(rows), dtype=rows.dtype)
        self.cluster.copy_(components(similarity.argmax(1)))
        corpus.pair("positive", self.cluster, own=0.2)

    def forward(self, batch):
        a, again, p = (unit(self.encoder(batch.views[v])) for v in ("anchor", "again", "positive"))
        label = self.cluster[batch.index]
        others, labels = gather_rows(torch.cat([a, p], 1)), gather_rows(label)
        keys = torch.cat(others.chunk(2, 1))
        apart = (label[:, None] != labels[None, :]).repeat(1, 2)
        d, d_p = 1 - a @ keys.T, 1 - (a * p).sum(1)
        chance = batch.draw("negative", keys.shape[0]).to(d.dtype)
        eligible = apart & (d < d_p[:, None] + 0.2)
        pick = torch.where(eligible, chance, -1.0).argmax(1)
        closest = torch.where(apart, d.detach(), 9.0).argmin(1)
        d_n = d.gather(1, torch.where(eligible.any(1), pick, closest)[:, None])[:, 0]
        triplet = torch.relu(d_p - d_n + 0.2) * apart.any(1)
        order = torch.relu((1 - (a * again).sum(1)) - d_p + 0.04)
        return Step(loss=global_mean(triplet + order), metrics={"alone": apart.any(1).double().mean()})

    def exports(self):
        return {"encoder": self.encoder}


def components(neighbor: Tensor) -> Tensor:
    """Cluster numbers of the graph that links each sample with its first neighbor."""
    label = torch.arange(len(neighbor))
    for _ in range(len(neighbor)):
        low = torch.minimum(label, label[neighbor])
        low.scatter_reduce_(0, neighbor, low.clone(), "amin")
        if torch.equal(low, label):
            break
        label = low
    return torch.unique(label, return_inverse=True)[1]


class SimCLR(Method):
    def __init__(self, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector

    def plan(self, epochs):
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=("one", "two"))]

    def forward(self, batch):
        h = {view: self.encoder(batch.views[view]) for view in ("one", "two")}
        z = {view: unit(self.projector(rows)) for view, rows in h.items()}
        loss = one_way(z["one"], z["two"]) + one_way(z["two"], z["one"])
        return Step(loss=loss / 2, features=h, projections=z)

    def exports(self):
        return {"encoder": self.encoder}


def one_way(z: Tensor, other: Tensor) -> Tensor:
    mine, theirs = gather_rows(z), gather_rows(other)
    place = torch.arange(len(z)) * world() + rank()
    own = z @ mine.T / 0.5
    own = own.masked_fill(F.one_hot(place, len(mine)).bool(), -torch.inf)
    logits = torch.cat([z @ theirs.T / 0.5, own], 1)
    return global_mean(F.cross_entropy(logits, place, reduction="none"))


class Wrapped(Method):
    """Passes everything through; the two wrappers below change what they must."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def plan(self, epochs):
        plan = self.method.plan(epochs)
        return [replace(p, trains=tuple(f"method.{name}" for name in p.trains)) for p in plan]

    def groups(self):
        return {f"method.{name}": group for name, group in self.method.groups().items()}

    def enter(self, phase, corpus):
        self.method.enter(phase, corpus)

    def prepare(self, phase, corpus):
        self.method.prepare(phase, corpus)

    def before_update(self, progress):
        self.method.before_update(progress)

    def after_update(self, progress, kept: Mapping[str, Tensor]):
        self.method.after_update(progress, kept)

    def exports(self):
        return self.method.exports()


class WithRotation(Wrapped):
    def __init__(self, method: Method, dim: int, weight: float = 0.5) -> None:
        super().__init__(method)
        self.head, self.weight = nn.Linear(dim, 4), weight

    def plan(self, epochs):
        return [replace(p, trains=(*p.trains, "head")) for p in super().plan(epochs)]

    def forward(self, batch):
        step = self.method(batch)
        quarter = (batch.draw("rotation") * 4).long()
        images = batch.views["one"]
        turned = torch.stack([torch.rot90(x, int(k), (-2, -1)) for x, k in zip(images, quarter, strict=True)])
        logits = self.head(self.exports()["encoder"](turned))
        loss = global_mean(F.cross_entropy(logits, quarter, reduction="none"))
        return replace(step, loss=step.loss + self.weight * loss, metrics={"rotation": loss.detach()})


class WithCuration(Wrapped):
    """Takes the first of three draws whose partners are close enough: views anew, then new samples."""

    def __init__(self, method: Method, threshold: float) -> None:
        super().__init__(method)
        self.threshold = threshold
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch):
        offset, used = int(self.cursor), 0
        for candidate in (batch, batch.again(1), batch.reserve(offset)):
            used += candidate is not batch and not torch.equal(candidate.index, batch.index)
            if self.score(candidate) > self.threshold:
                break
        step = self.method(candidate)
        return replace(step, keep={**step.keep, "used": torch.full((len(batch.index),), int(used > 0))})

    @torch.no_grad()
    def score(self, batch: Batch) -> float:
        modes = {child: child.training for child in self.method.modules()}
        self.method.eval()
        z = self.method(batch).projections
        for child, training in modes.items():
            child.training = training
        total, count = all_sum(torch.stack([(z["one"] * z["two"]).sum(), torch.tensor(float(len(z["one"])))]))
        return float(total / count)

    def after_update(self, progress, kept):
        kept = dict(kept)
        self.cursor += len(kept["used"]) * kept.pop("used").max()
        self.method.after_update(progress, kept)
