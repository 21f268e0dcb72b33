"""SupCon: supervised contrastive learning. (Khosla, Teterwak, Wang, Sarna, Tian, Isola et al., 2020)

Two random views of each image must find one another, and all views of images of their class, among all other views of
the batch. The labels are those that the user gives (--labels). Without them every image is a class of its own, and this
is SimCLR's loss; a run then says so.

    z = unit(projector(encoder(view)))                         both views in one forward: shared batch statistics
    p(b | a) = exp(z_a . z_b / t) / sum over c != a of exp(z_a . z_c / t)
    P(a) = views b != a whose image has the label of a's
    loss = - mean over all 2B views a of the mean over b in P(a) of log p(b | a)                       L_out, equation 2

The contrast set is the global batch; gradient flows into both sides.
B batch (of all processes), D embedding.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from lookalike.functional import nt_xent, sup_con
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Step

VIEWS = ("view/1", "view/2")


class SupCon(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D).

    base_temperature multiplies the loss by temperature / base_temperature, as HobbitLong/SupContrast does with 0.07:
    its learning rates belong to that. None: the paper's loss as it stands.
    """

    facts = Facts(
        target="images of the same class",
        negatives="images of other classes in the batch",
        when="labels for all images",
        unlabeled="without --labels every image is a class of its own, and the loss is that of simclr",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        temperature: float = 0.1,
        base_temperature: float | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector
        self.temperature = temperature
        self.scale = 1.0 if base_temperature is None else temperature / base_temperature

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=VIEWS)]

    def forward(self, batch: Batch) -> Step:
        x = torch.cat([batch.views[view] for view in VIEWS])  # one forward: official code joins the views
        h = self.encoder(x)
        z1_BD, z2_BD = self.projector(h).chunk(2)
        if batch.labels is None:
            loss = nt_xent(z1_BD, z2_BD, temperature=self.temperature)
        else:
            loss = sup_con(z1_BD, z2_BD, batch.labels, temperature=self.temperature)
        return Step(
            loss=self.scale * loss,
            features=dict(zip(VIEWS, h.chunk(2), strict=True)),
            projections={VIEWS[0]: z1_BD, VIEWS[1]: z2_BD},
        )

    def uniform(self, rows: int) -> float:
        return self.scale * math.log(2 * rows - 1)  # whatever the labels: the positives' shares add up to 1

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
