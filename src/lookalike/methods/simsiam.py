"""SimSiam: exploring simple siamese representation learning. (Chen and He, 2020)

A predictor tells, from one view, what the same network makes of the other. No negatives and no momentum encoder: that
the target gets no gradient keeps the network from one answer for all.

    z = projector(encoder(view))                                       each view by itself: its own batch statistics
    p = predictor(z)
    loss = - mean of (cos(p1, z2) + cos(p2, z1)) / 2                                       no gradient into z1, z2 there

The predictor's learning rate stays constant (the last row of table 1; --fix-pred-lr).
B batch, D embedding.
"""

from collections.abc import Mapping, Sequence

from torch import nn

from lookalike.functional import paired_cosine
from lookalike.functional.collectives import global_mean
from lookalike.functional.schedules import Constant
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Group, Method, Phase, Step

VIEWS = ("view/1", "view/2")


class SimSiam(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); predictor: (B, D) -> (B, D).

    constant_predictor_rate keeps the predictor at the recipe's base rate from the first step to the last; without it
    the predictor follows the schedule of all others, as the official code does by default.
    """

    facts = Facts(
        target="the other view's projection",
        when="nothing may be pushed apart; little memory",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        *,
        constant_predictor_rate: bool = True,
    ) -> None:
        super().__init__()
        self.encoder, self.projector, self.predictor = encoder, projector, predictor
        self.constant_predictor_rate = constant_predictor_rate

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector", "predictor"), reads=VIEWS)]

    def groups(self) -> Mapping[str, Group]:
        return {"predictor": Group(schedule=Constant(1.0))} if self.constant_predictor_rate else {}

    def forward(self, batch: Batch) -> Step:
        h = {view: self.encoder(batch.views[view]) for view in VIEWS}
        z = {view: self.projector(rows) for view, rows in h.items()}
        p = {view: self.predictor(rows) for view, rows in z.items()}
        one, two = VIEWS
        likeness_B = paired_cosine(p[one], z[two].detach()) + paired_cosine(p[two], z[one].detach())
        return Step(loss=global_mean(-likeness_B / 2), features=h, projections=z)

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
