"""Debiased contrastive learning. (Chuang, Robinson, Lin, Torralba, Jegelka, 2020)

Some images of the batch are of the anchor's own class, and no negatives. SimCLR's sum over negatives is corrected for
their expected share, the class prior, with the positive as the sample of that class.

    z = unit(projector(encoder(view)))                                 each view by itself: its own batch statistics
    P = exp(z_a . z_partner / t)        S = sum over views c of other images of exp(z_a . z_c / t)        M = 2B - 2
    N = max( (S - prior * M * P) / (1 - prior), M * exp(-1 / t) )
    loss = - mean over all 2B views a of log( P / (P + N) )

prior 0 is SimCLR. The contrast set is the global batch; gradient flows into both sides.
B batch (of all processes), D embedding.
"""

import math
from collections.abc import Mapping, Sequence

from torch import nn

from lookalike.functional import debiased
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Step

VIEWS = ("view/1", "view/2")


class Debiased(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); prior: the share of a class, 1 / classes if even.

    Raises ValueError for a prior outside [0, 1).
    """

    facts = Facts(
        target="the image's other view",
        negatives="other images of the batch",
        when="few kinds of images: negatives may be false",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        temperature: float = 0.5,
        prior: float = 0.1,
    ) -> None:
        super().__init__()
        if not 0 <= prior < 1:
            raise ValueError(f"prior is {prior}: give the share of a class, from 0 to below 1")
        self.encoder, self.projector = encoder, projector
        self.temperature, self.prior = temperature, prior

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=VIEWS)]

    def forward(self, batch: Batch) -> Step:
        h = {view: self.encoder(batch.views[view]) for view in VIEWS}
        z = {view: self.projector(rows) for view, rows in h.items()}
        one, two = VIEWS
        loss = debiased(z[one], z[two], temperature=self.temperature, prior=self.prior)
        return Step(loss=loss, features=h, projections=z)

    def uniform(self, rows: int) -> float:
        return math.log(2 * rows - 1)

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
