"""DCL: decoupled contrastive learning. (Yeh, Hong, Hsu, Liu, Chen, LeCun, 2021)

SimCLR without the positive in the denominator, where it weakens the gradient of easy pairs, most in small batches. The
same letters stand for debiased contrastive learning, which is another method (debiased).

    z = unit(projector(encoder(view)))                                 each view by itself: its own batch statistics
    loss = mean over all 2B views a of
           - w_a * z_a . z_partner / t + log( sum over views c of other images of exp(z_a . z_c / t) )
    DCL: w = 1        DCLW: w = 2 - B * softmax over the batch of (z1 . z2 / sigma)

The contrast set is the global batch: 2B - 2 negatives; gradient flows into both sides. The loss can be negative:
what it would be if all images looked alike says nothing about health.
B batch (of all processes), D embedding.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import nn

from lookalike.functional import decoupled
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Step

VIEWS = ("view/1", "view/2")


class DCL(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D).

    sigma: None for DCL; 0.5 for DCLW in published code. weight_gradient: whether gradient flows through the weights of
    DCLW, as in raminnakhli/Decoupled-Contrastive-Learning; lightly stops it, which is our choice.
    reduction: "mean" over all views, or "sum" of both views' means, twice as much (raminnakhli).
    Raises ValueError for a sigma of 0 or less.
    """

    facts = Facts(
        target="the image's other view",
        negatives="other images of the batch",
        when="batches of a few dozen",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        temperature: float = 0.1,
        sigma: float | None = None,
        weight_gradient: bool = False,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        if sigma is not None and sigma <= 0:
            raise ValueError(f"sigma is {sigma}: give a number above 0, or null for no weights")
        self.encoder, self.projector = encoder, projector
        self.temperature, self.sigma = temperature, sigma
        self.weight_gradient, self.reduction = weight_gradient, reduction

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=VIEWS)]

    def forward(self, batch: Batch) -> Step:
        h = {view: self.encoder(batch.views[view]) for view in VIEWS}
        z = {view: self.projector(rows) for view, rows in h.items()}
        loss = decoupled(
            z[VIEWS[0]],
            z[VIEWS[1]],
            temperature=self.temperature,
            sigma=self.sigma,
            weight_gradient=self.weight_gradient,
            reduction=self.reduction,
        )
        return Step(loss=loss, features=h, projections=z)

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
