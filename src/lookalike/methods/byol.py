"""BYOL: bootstrap your own latent, a new approach to self-supervised learning. (Grill, Strub, Altché et al., 2020)

The online network predicts, from one view, what a slow copy of it (the target) makes of the other view. No negatives.

    p = unit(predictor(projector(encoder(view))))                      each view by itself: its own batch statistics
    z' = unit(target(other view))                                                                      no gradient
    loss = mean of |p1 - z'2|^2 + |p2 - z'1|^2 = mean of 4 - 2 cos - 2 cos                       the sum of both sides
    target <- tau * target + (1 - tau) * online                                       after the step, new online weights

B batch, D embedding.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from lookalike.functional import byol_distance
from lookalike.functional.collectives import global_mean
from lookalike.functional.schedules import Cosine, Schedule
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Progress, Step
from lookalike.modules import MomentumEncoder

VIEWS = ("view/1", "view/2")


class BYOL(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); predictor: (B, D) -> (B, D).

    momentum: schedule of tau; the paper's rises from 0.996 to 1 by a cosine. The target has no predictor and keeps
    BatchNorm statistics of its own, in training mode (official code).
    """

    facts = Facts(
        target="the other view's projection",
        networks="two, one by momentum",
        when="nothing may be pushed apart; long runs",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        *,
        momentum: Schedule = Cosine(0.996, 1.0),  # noqa: B008
    ) -> None:
        super().__init__()
        self.encoder, self.projector, self.predictor = encoder, projector, predictor
        self.target = MomentumEncoder(encoder, projector)
        self.momentum = momentum

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector", "predictor"), reads=VIEWS)]

    def forward(self, batch: Batch) -> Step:
        h = {view: self.encoder(batch.views[view]) for view in VIEWS}
        p = {view: self.predictor(self.projector(rows)) for view, rows in h.items()}
        z = {view: self.target(batch.views[view]) for view in VIEWS}  # target's BatchNorm in training mode
        one, two = VIEWS
        loss = global_mean(byol_distance(p[one], z[two]) + byol_distance(p[two], z[one]))
        return Step(loss=loss, features=h, projections=p)

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        if progress.updated:
            tau = self.momentum(progress.run)
            self.target.follow(self.encoder, self.projector, momentum=tau)  # after the step: official code

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
