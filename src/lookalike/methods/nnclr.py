"""NNCLR: with a little help from my friends, nearest-neighbor contrastive learning. (Dwibedi et al., 2021)

As in SimCLR a view must find its partner among the batch, but the positive is not the partner itself: it is the nearest
of many earlier outputs, the support set, so that other images of a kind come to be positives.

    z = unit(projector(encoder(view)))                                 each view by itself: its own batch statistics
    p = unit(predictor(z))                                                     of the projection before its unit length
    n = the row of the support set nearest to z                                                          no gradient
    ctr(n, p) = - mean over i of log( exp(n_i . p_i / t) / sum over k of exp(n_i . p_k / t) )
    loss = ctr(n1, p2) / 2 + ctr(n2, p1) / 2
    support set <- z1                                                                                 after the loss

B batch (of all processes), D embedding, K support set.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from lookalike.functional import in_batch_contrast, nearest_keys, nt_xent, unit
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Progress, Step
from lookalike.modules import Queue

VIEWS = ("view/1", "view/2")


class NNCLR(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); predictor: (B, D) -> (B, D); queue: K rows of D.

    Gradient flows through the predictions alone, those of all processes included. candidates: "predictions" as above,
    of the paper; "both" is SimCLR's loss of n and p instead of ctr, as in lightly: predictions look for their neighbors
    too, and all other rows of both sides are negatives.
    """

    facts = Facts(
        target="the nearest neighbor of the other view",
        negatives="other images of the batch",
        memory="queue",
        when="large batches; more varied positives",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        queue: Queue,
        *,
        temperature: float = 0.1,
        candidates: Literal["predictions", "both"] = "predictions",
    ) -> None:
        super().__init__()
        self.encoder, self.projector, self.predictor, self.queue = encoder, projector, predictor, queue
        self.temperature, self.candidates = temperature, candidates

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector", "predictor"), reads=VIEWS)]

    def forward(self, batch: Batch) -> Step:
        h = {view: self.encoder(batch.views[view]) for view in VIEWS}
        projected = {view: self.projector(rows) for view, rows in h.items()}
        p = {view: unit(self.predictor(rows)) for view, rows in projected.items()}
        z = {view: unit(rows) for view, rows in projected.items()}
        support_KD = self.queue.rows()
        n = {view: support_KD[nearest_keys(rows, support_KD, 1).rows[:, 0]] for view, rows in z.items()}
        one, two = VIEWS
        contrast = in_batch_contrast if self.candidates == "predictions" else nt_xent
        ways = [contrast(n[a], p[b], temperature=self.temperature) for a, b in ((one, two), (two, one))]
        return Step(loss=(ways[0] + ways[1]) / 2, keep={"keys": z[one].detach()}, features=h, projections=z)

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        self.queue.push(kept["keys"])  # after the loss: an output is never its own neighbor

    def uniform(self, rows: int) -> float:
        return math.log(rows if self.candidates == "predictions" else 2 * rows - 1)

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
