"""Barlow Twins: self-supervised learning via redundancy reduction. (Zbontar, Jing et al., 2021)

The outputs of one network for two views should agree in each dimension, and dimensions should tell different things:
their cross-correlation over the batch is pulled to the identity.

    z = projector(encoder(view))                                       each view by itself: its own batch statistics
    C_ij = mean over the batch of z1_i z2_j, each dimension with mean 0 and variance 1 over the batch
    loss = sum over i of (1 - C_ii)^2 + redundancy * sum over i != j of C_ij^2

variant "hsic": (C_ij + 1)^2 in the second sum (Tsai et al., 2021, arXiv 2104.13712).
B batch (of all processes), D embedding.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import nn

from lookalike.functional import barlow_twins
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Group, Method, Phase, Step

VIEWS = ("view/1", "view/2")


class BarlowTwins(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); a wide D helps.

    scale multiplies the loss: nothing to weights under LARS, much to biases and BatchNorm. 1 is the paper's; the
    official code's sum over processes passes no gradient, so that P of them train as with 1/P.
    bias_rate: the rate of biases and BatchNorm parameters as a share of the weights' (official: 0.0048 of 0.2).
    """

    facts = Facts(
        target="the identity as correlation of dimensions",
        when="wide projectors; nothing may be pushed apart",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        redundancy: float = 0.0051,
        variant: Literal["barlow_twins", "hsic"] = "barlow_twins",
        scale: float = 1.0,
        bias_rate: float = 0.024,
    ) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector
        self.redundancy, self.variant = redundancy, variant
        self.scale, self.bias_rate = scale, bias_rate

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=VIEWS)]

    def groups(self) -> Mapping[str, Group]:
        slow = Group(lr_scale=self.bias_rate)
        return {name: slow for name, p in self.named_parameters() if p.dim() == 1 and p.requires_grad}

    def forward(self, batch: Batch) -> Step:
        h = {view: self.encoder(batch.views[view]) for view in VIEWS}
        z = {view: self.projector(rows) for view, rows in h.items()}
        one, two = VIEWS
        loss = self.scale * barlow_twins(z[one], z[two], redundancy=self.redundancy, variant=self.variant)
        return Step(loss=loss, features=h, projections=z)

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
