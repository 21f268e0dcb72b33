"""Align and uniform: contrastive learning through alignment and uniformity on the hypersphere. (Wang and Isola, 2020)

What a contrastive loss asks for at once is asked for in two terms: the views of an image lie near one another on the
sphere, and the images lie all over it.

    z = unit(projector(encoder(view)))                        both views in one forward: shared batch statistics
    align(x, y) = mean over images of |x_i - y_i|^alpha
    uniform(z) = log mean over pairs i < j of exp(-t |z_i - z_j|^2)                              each view by itself
    loss = align_weight * align(x, y) + uniform_weight * (uniform(x) + uniform(y)) / 2

There is no temperature and no positive among the pairs; pairs are those of the global batch.
B batch (of all processes), D embedding.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from lookalike.functional import alignment, uniformity
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Step

VIEWS = ("view/1", "view/2")


class AlignUniform(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D).

    alpha: the power of the distance of two views; t: how fast the repulsion of two images falls with their squared
    distance. Weights, alpha and t are those of SsnL/align_uniform on STL-10.
    """

    facts = Facts(
        target="the image's other view",
        negatives="other images of the batch, each view by itself",
        when="as SimCLR, with attraction and repulsion weighed apart",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        align_weight: float = 1.0,
        uniform_weight: float = 1.0,
        alpha: float = 2.0,
        t: float = 2.0,
    ) -> None:
        super().__init__()
        if min(align_weight, uniform_weight) < 0:
            raise ValueError(f"align_weight is {align_weight}, uniform_weight {uniform_weight}: give 0 or more")
        if not (alpha >= 1 and t > 0):
            raise ValueError(f"alpha is {alpha} and t is {t}: give an alpha from 1 on, and a t above 0")
        self.encoder, self.projector = encoder, projector
        self.align_weight, self.uniform_weight, self.alpha, self.t = align_weight, uniform_weight, alpha, t

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=VIEWS)]

    def forward(self, batch: Batch) -> Step:
        h = self.encoder(torch.cat([batch.views[view] for view in VIEWS]))  # one forward: official code joins the views
        x_BD, y_BD = self.projector(h).chunk(2)
        align = alignment(x_BD, y_BD, alpha=self.alpha)
        uniform = (uniformity(x_BD, t=self.t) + uniformity(y_BD, t=self.t)) / 2
        return Step(
            loss=self.align_weight * align + self.uniform_weight * uniform,
            metrics={"align_loss": align.detach(), "uniform_loss": uniform.detach()},
            features=dict(zip(VIEWS, h.chunk(2), strict=True)),
            projections={VIEWS[0]: x_BD, VIEWS[1]: y_BD},
        )

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
