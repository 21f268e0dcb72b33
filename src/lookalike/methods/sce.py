"""SCE: similarity contrastive estimation for self-supervised soft contrastive learning. (Denize et al., 2021)

A momentum encoder sees one view and says which earlier images are close; the encoder, from another view, must match a
mix of "this is the same image" and "these are its relatives".

    k = unit(momentum encoder(view 2)),  q = unit(predictor(projector(encoder(view 1))))          predictor optional
    s = softmax(k . queue / t_m)                                   relations; the positive itself is left out
    w = lambda * one-hot(positive) + (1 - lambda) * s                                                       target
    p = softmax(q . [k, queue] / t)
    loss = mean of cross-entropy(w, p)
    momentum encoder follows after the step; queue <- k after the loss

lambda = 1 is MoCo's objective. Weak/strong: one weak view for the momentum encoder, strong views for the encoder.
Symmetric: every global view is key for all other views; local views are queries only; the mean over all pairs.
B batch, D embedding, K queue.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lookalike.functional import soft_contrast, unit
from lookalike.functional.schedules import Constant, Schedule
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Progress, Step
from lookalike.modules import MomentumEncoder, Queue


class SCE(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); predictor: (B, D) -> (B, D); queue: K rows of D.

    keys: views that the momentum encoder sees; queries: views that the encoder sees; a view never meets itself.
    coefficient is lambda. mask_positive "official" gives the positive the logit 0 in the relations, as CEA-LIST/SCE
    does, instead of leaving it out. momentum: schedule of the momentum encoder (0.99 on CIFAR-10; 0.99 to 1 by a cosine
    on ImageNet). shuffle permutes the keys' batch (official CIFAR-10 recipe, with split statistics on the momentum
    encoder).
    """

    facts = Facts(
        target="a mix of the other view and the momentum encoder's neighbors",
        negatives="queue of earlier images",
        networks="two, one by momentum",
        memory="queue",
        when="small batches; images with many relatives",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        queue: Queue,
        predictor: nn.Module | None = None,
        *,
        keys: Sequence[str] = ("weak",),
        queries: Sequence[str] = ("strong",),
        temperature: float = 0.1,
        momentum_temperature: float = 0.05,
        coefficient: float = 0.5,
        mask_positive: Literal["paper", "official"] = "paper",
        momentum: Schedule = Constant(0.99),  # noqa: B008
        shuffle: bool = False,
    ) -> None:
        super().__init__()
        if not any(key != query for key in keys for query in queries):
            raise ValueError(f"keys {list(keys)} and queries {list(queries)} make no pair of different views: name two")
        self.encoder, self.projector, self.queue = encoder, projector, queue
        self.predictor = nn.Identity() if predictor is None else predictor
        self.momentum_encoder = MomentumEncoder(encoder, projector)
        self.keys, self.queries = tuple(keys), tuple(queries)
        self.temperature, self.momentum_temperature = temperature, momentum_temperature
        self.coefficient, self.mask_positive = coefficient, mask_positive
        self.momentum, self.shuffle = momentum, shuffle

    def plan(self, epochs: float) -> Sequence[Phase]:
        reads = tuple(dict.fromkeys((*self.keys, *self.queries)))
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector", "predictor"), reads=reads)]

    def forward(self, batch: Batch) -> Step:
        h = {view: self.encoder(batch.views[view]) for view in self.queries}  # a forward each: official code
        q_BD = {view: unit(self.predictor(self.projector(rows))) for view, rows in h.items()}
        k_BD = {view: self.key(batch, view) for view in self.keys}
        found = [
            soft_contrast(
                q_BD[query],
                positive=k_BD[key],
                keys=self.queue.rows(),  # before this step's keys join: official code
                temperature=self.temperature,
                teacher=k_BD[key],
                teacher_temperature=self.momentum_temperature,
                mix=self.coefficient,
                mask_positive=self.mask_positive,
            )
            for key in self.keys
            for query in self.queries
            if key != query
        ]
        loss = torch.stack([pair.loss for pair in found]).mean()
        entropy = torch.stack([pair.target_entropy for pair in found]).mean()
        return Step(loss=loss, metrics={"target_entropy": entropy}, keep=k_BD, features=h, projections=q_BD)

    def key(self, batch: Batch, view: str) -> Tensor:
        """k_BD of one view."""
        generator = batch.progress.generator(f"shuffle/{view}") if self.shuffle else None
        return unit(self.momentum_encoder(batch.views[view], shuffle=generator))

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        if progress.updated:
            m = self.momentum(progress.run)
            self.momentum_encoder.follow(self.encoder, self.projector, momentum=m)  # after the step: official code
        self.queue.push(torch.cat([kept[view] for view in self.keys]))

    def uniform(self, rows: int) -> float:
        return math.log(1 + self.queue.filled)  # whatever the target: its sum is 1

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
