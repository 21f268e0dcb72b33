"""MoCo: momentum contrast for unsupervised visual representation learning. (He et al., 2019; v2: Chen et al., 2020)

A query must find the key of its own image among the keys of many earlier images, kept in a queue. Keys come from a
slow copy of the network. Versions 1 and 2 differ in projector, views, temperature and learning-rate schedule only.

    momentum encoder <- m * itself + (1 - m) * encoder             before the keys, with the weights of the last step
    q = unit(projector(encoder(view 1)))
    k = unit(momentum encoder(shuffled view 2)), put back in order                                     no gradient
    loss = - mean of log( exp(q . k / t) / sum over k and queue of exp(q . key / t) )
    queue <- k                                                                                     after the loss

symmetric: the sum of both directions; the keys of both views join the queue (official CIFAR notebook).
B batch, D embedding, K queue.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lookalike.functional import soft_contrast, unit
from lookalike.functional.schedules import Constant, Schedule
from lookalike.functional.shuffle import shuffled
from lookalike.methods.method import Batch, Method, Phase, Progress, Step
from lookalike.modules import MomentumEncoder, Queue

QUERY, KEY = "query", "key"


class MoCo(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); queue: K rows of D.

    momentum: schedule of m. shuffle permutes the keys' batch, so that a key and its query do not share batch statistics
    (section 3.3; it needs BatchNorm statistics of parts of the batch, "split:8" on one device).
    """

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        queue: Queue,
        *,
        temperature: float = 0.07,
        momentum: Schedule = Constant(0.999),  # noqa: B008
        shuffle: bool = True,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.projector, self.queue = encoder, projector, queue
        self.momentum_encoder = MomentumEncoder(encoder, projector)
        self.temperature, self.momentum = temperature, momentum
        self.shuffle, self.symmetric = shuffle, symmetric

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=(QUERY, KEY))]

    def before_update(self, progress: Progress) -> None:
        m = self.momentum(progress.run)
        self.momentum_encoder.follow(self.encoder, self.projector, momentum=m)  # before the key forward: official code

    def forward(self, batch: Batch) -> Step:
        loss, confidence, h, q_BD, k_BD = self.one_way(batch, QUERY, KEY)
        features, projections, keep = {QUERY: h}, {QUERY: q_BD}, {KEY: k_BD}
        if self.symmetric:
            back, _, features[KEY], projections[KEY], keep[QUERY] = self.one_way(batch, KEY, QUERY)
            loss = loss + back  # the sum: official notebook
        return Step(
            loss=loss, metrics={"confidence": confidence}, keep=keep, features=features, projections=projections
        )

    def one_way(self, batch: Batch, query: str, key: str) -> tuple[Tensor, ...]:
        """Loss and confidence of finding the keys of one view with queries of the other; features h, q_BD, k_BD."""
        h = self.encoder(batch.views[query])
        q_BD = unit(self.projector(h))
        with torch.no_grad():
            x, in_order = batch.views[key], lambda rows: rows
            if self.shuffle:
                x, in_order = shuffled(x, batch.progress.generator(f"shuffle/{key}"))
            k_BD = in_order(unit(self.momentum_encoder(x)))
        found = soft_contrast(q_BD, positive=k_BD, keys=self.queue.rows(), temperature=self.temperature)
        return found.loss, found.confidence, h, q_BD, k_BD

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        keys = [kept[view] for view in (QUERY, KEY) if view in kept]
        self.queue.push(torch.cat(keys))  # after the loss: a key is never its own negative

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
