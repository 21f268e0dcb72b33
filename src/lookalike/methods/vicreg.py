"""VICReg: variance-invariance-covariance regularization for self-supervised learning. (Bardes, Ponce, LeCun, 2021)

The outputs of one network for two views should agree; that they vary over the batch, and that dimensions tell different
things, is asked of each view by itself.

    z = expander(encoder(view))                                        each view by itself: its own batch statistics
    s = mean over batch and dimensions of (z1 - z2)^2
    v(z) = mean over dimensions of max(0, 1 - sqrt(Var + 0.0001))
    c(z) = sum over i != j of Cov_ij^2 / D
    loss = invariance * s + variance * (v(z1) + v(z2)) + covariance * (c(z1) + c(z2))

B batch (of all processes), D embedding.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import nn
from torch.nn.functional import mse_loss

from lookalike.functional import spread
from lookalike.functional.collectives import global_mean
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Step

VIEWS = ("view/1", "view/2")


class VICReg(Method):
    """encoder: pixels -> (B, dim); projector, the paper's expander: (B, dim) -> (B, D).

    branches: v of both views as their "sum" (paper), or their "mean" (facebookresearch/vicreg): half of it.
    distance: s as the "mean" over dimensions (facebookresearch/vicreg), or as their sum, the squared "norm", which the
    paper's equation is reported to have: D times as much. The default is our choice.
    """

    facts = Facts(
        target="the other view, with variance kept",
        when="as Barlow Twins, with terms to weigh",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        branches: Literal["sum", "mean"] = "sum",
        distance: Literal["mean", "norm"] = "mean",
    ) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.branches, self.distance = branches, distance

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=VIEWS)]

    def forward(self, batch: Batch) -> Step:
        h = {view: self.encoder(batch.views[view]) for view in VIEWS}
        z = {view: self.projector(rows) for view, rows in h.items()}
        one, two = VIEWS
        apart_BD = mse_loss(z[one], z[two], reduction="none")
        s = global_mean(apart_BD.mean(1) if self.distance == "mean" else apart_BD.sum(1))
        first, second = spread(z[one]), spread(z[two])
        v = (first.variance + second.variance) / (2 if self.branches == "mean" else 1)
        c = first.covariance + second.covariance
        return Step(
            loss=self.invariance * s + self.variance * v + self.covariance * c,
            metrics={"invariance": s.detach(), "variance": v.detach(), "covariance": c.detach()},
            features=h,
            projections=z,
        )

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
