"""SimCLR: a simple framework for contrastive learning of visual representations. (Chen et al., 2020)

Two random views of each image must find one another among all other views of the batch.

    z = unit(projector(encoder(view)))                         both views in one forward: shared batch statistics
    p(b | a) = exp(z_a . z_b / t) / sum over c != a of exp(z_a . z_c / t)
    loss = - mean over all 2B views a of log p(partner of a | a)

The contrast set is the global batch: 2B - 2 negatives; gradient flows into both sides.
B batch (of all processes), D embedding.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from lookalike.functional import nt_xent
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Step
from lookalike.modules import Descriptor

VIEWS = ("view/1", "view/2")


class SimCLR(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D).

    reduction "mean" is the paper's 1/(2B) average; "tf_sum" adds the two directions' means, as google-research/simclr
    does: twice the loss, which only matters to optimizers that are not scale-invariant. exports_head: what is exported
    is unit(projector(encoder(x))), rows of D numbers, and not the encoder alone; for finding copies, where what was
    trained to match is what is searched (Pizzi et al., SSCD, 2022); our choice here.
    """

    facts = Facts(
        target="the image's other view",
        negatives="other images of the batch",
        when="the simplest; gains from large batches",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        temperature: float = 0.1,
        reduction: Literal["mean", "tf_sum"] = "mean",
        exports_head: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector
        self.temperature, self.reduction, self.exports_head = temperature, reduction, exports_head

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=VIEWS)]

    def forward(self, batch: Batch) -> Step:
        x = torch.cat([batch.views[view] for view in VIEWS])  # one forward: official code joins the views
        h = self.encoder(x)
        z1_BD, z2_BD = self.projector(h).chunk(2)
        loss = nt_xent(z1_BD, z2_BD, temperature=self.temperature, reduction=self.reduction)
        return Step(
            loss=loss,
            features=dict(zip(VIEWS, h.chunk(2), strict=True)),
            projections={VIEWS[0]: z1_BD, VIEWS[1]: z2_BD},
        )

    def uniform(self, rows: int) -> float:
        return math.log(2 * rows - 1) * (2 if self.reduction == "tf_sum" else 1)

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": Descriptor(self.encoder, self.projector) if self.exports_head else self.encoder}
