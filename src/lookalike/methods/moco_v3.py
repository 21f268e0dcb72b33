"""MoCo v3: an empirical study of training self-supervised vision transformers. (Chen, Xie, He, 2021)

A query must find the key of its own image among the keys of the batch; no queue. Keys come from a slow copy of the
network, queries have a predictor besides.

    momentum encoder <- m * itself + (1 - m) * encoder             before the keys, with the weights of the last step
    q = unit(predictor(projector(encoder(view))))                      each view by itself: its own batch statistics
    k = unit(momentum encoder(view))                                                                     no gradient
    ctr(q, k) = - 2 t * mean of log( exp(q . k / t) / sum over all keys k' of exp(q . k' / t) )
    loss = ctr(q1, k2) + ctr(q2, k1)

B batch (of all processes), D embedding.
"""

import math
from collections.abc import Mapping, Sequence

from torch import nn

from lookalike.functional import in_batch_contrast, unit
from lookalike.functional.schedules import Cosine, Schedule
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Progress, Step
from lookalike.modules import MomentumEncoder

VIEWS = ("view/1", "view/2")


class MoCoV3(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); predictor: (B, D) -> (B, D).

    momentum: schedule of m; a cosine from 0.99 to 1 in the official ResNet-50 of up to 300 epochs. The temperature is
    1 for ResNet-50 there, 0.2 for vision transformers. The momentum encoder has no predictor.
    """

    facts = Facts(
        target="the image's other view",
        negatives="other images of the batch",
        networks="two, one by momentum",
        when="vision transformers; large batches",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        *,
        temperature: float = 1.0,
        momentum: Schedule = Cosine(0.99, 1.0),  # noqa: B008
    ) -> None:
        super().__init__()
        self.encoder, self.projector, self.predictor = encoder, projector, predictor
        self.momentum_encoder = MomentumEncoder(encoder, projector)
        self.temperature, self.momentum = temperature, momentum

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector", "predictor"), reads=VIEWS)]

    def before_update(self, progress: Progress) -> None:
        m = self.momentum(progress.run)
        self.momentum_encoder.follow(self.encoder, self.projector, momentum=m)  # before the key forward: official code

    def forward(self, batch: Batch) -> Step:
        h = {view: self.encoder(batch.views[view]) for view in VIEWS}
        q = {view: unit(self.predictor(self.projector(rows))) for view, rows in h.items()}
        k = {view: unit(self.momentum_encoder(batch.views[view])) for view in VIEWS}
        one, two = VIEWS
        ways = [in_batch_contrast(q[a], k[b], temperature=self.temperature) for a, b in ((one, two), (two, one))]
        return Step(loss=2 * self.temperature * (ways[0] + ways[1]), features=h, projections=q)

    def uniform(self, rows: int) -> float:
        return 4 * self.temperature * math.log(rows)

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
