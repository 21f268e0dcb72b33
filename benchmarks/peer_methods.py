"""lightly's methods for the small bench: its heads, losses, memory banks and views, put together as its examples do.

Widths, temperatures, queues, momenta and the parameters of views are those of our recipes <method>_bench. What differs,
because lightly's parts are made so:

- each view goes through the network by itself; our SimCLR and SwAV join the views, and their batch statistics.
- SimCLR's views crop bilinearly, ours bicubically; where a last layer has a bias or BatchNorm, heads have lightly's.
- SwAV's prototypes have a bias.
- BYOL's loss is half of ours, which is the paper's; AdamW takes no notice.
- NNCLR's loss is NT-Xent between neighbors and predictions: both directions, and 2B - 2 negatives where the paper has
  B - 1; "nnclr_paper" has lightly's networks, support set and loop with the paper's loss.
- DINO's teacher head starts as the student's, as in the official code (lightly's example draws another).

SimSiam's projector has two layers, as the recipe's and lightly's CIFAR-10 benchmark's. MoCo has eight groups of batch
statistics by SplitBatchNorm, as that benchmark has. A loss is computed in float32 from rows that may come from bf16, as
ours are; so are the scores of SwAV and the head of DINO, whose exponentials are steep.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from lightly.loss import (
    BarlowTwinsLoss,
    DCLLoss,
    DINOLoss,
    NegativeCosineSimilarity,
    NTXentLoss,
    SwaVLoss,
    VICRegLoss,
)
from lightly.models.batchnorm import SplitBatchNorm
from lightly.models.modules import (
    BarlowTwinsProjectionHead,
    BYOLPredictionHead,
    BYOLProjectionHead,
    DINOProjectionHead,
    MoCoProjectionHead,
    NNCLRPredictionHead,
    NNCLRProjectionHead,
    NNMemoryBankModule,
    SimCLRProjectionHead,
    SimSiamPredictionHead,
    SwaVProjectionHead,
    SwaVPrototypes,
)
from lightly.models.modules.heads import ProjectionHead, VICRegProjectionHead
from lightly.models.utils import batch_shuffle, batch_unshuffle, deactivate_requires_grad, update_momentum
from lightly.transforms import DINOTransform, SimCLRTransform, SwaVTransform
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from lookalike.modules import Encoder, backbone

PAIR = SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0.0)
MOCO_PAIR = SimCLRTransform(input_size=32, cj_bright=0.4, cj_contrast=0.4, cj_sat=0.4, cj_hue=0.1, gaussian_blur=0.0)
SWAV_PAIR = SwaVTransform(crop_sizes=(32, 32), crop_counts=(2, 0), crop_min_scales=(0.08, 0.05))
DINO_PAIR = DINOTransform(global_crop_size=32, global_crop_scale=(0.14, 1.0), n_local_views=0)


@dataclass(frozen=True)
class Moment:
    """How many steps are done, of how many, and how many make an epoch."""

    step: int
    steps: int
    of_epoch: int

    @property
    def epoch(self) -> int:
        return self.step // self.of_epoch


class Peer(nn.Module):
    """What the bench asks of a method: forward makes rows of two views, loss compares them, and what moves around it.

    steady: parts whose learning rate follows no schedule. layout: of pixels and weights in bf16.
    """

    transform: Callable = PAIR
    steady: tuple[str, ...] = ()
    layout = torch.channels_last
    encoder: Encoder

    def begin(self, at: Moment) -> None:
        """Before a step."""

    def limit(self, at: Moment) -> None:
        """Between the gradient and the update."""

    def loss(self, *rows: Tensor) -> Tensor:
        """Of what forward made, in float32."""
        raise NotImplementedError

    @property
    def judged(self) -> Encoder:
        """The network that is scored."""
        return self.encoder


class Pair(Peer):
    """SimCLR, Barlow Twins, VICReg, DCL: one network, one head, and a loss of both views' rows."""

    def __init__(self, projector: nn.Module, criterion: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projector, self.criterion = network(), projector, criterion

    def forward(self, one: Tensor, two: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.projector(self.encoder.body(x)) for x in (one, two))

    def loss(self, *rows: Tensor) -> Tensor:
        return self.criterion(*rows)


class MoCo(Peer):
    transform = MOCO_PAIR
    layout = torch.contiguous_format  # SplitBatchNorm refuses the other

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.projector = in_groups(network(), 8), MoCoProjectionHead(128, 256, 128)
        self.slow_encoder, self.slow_projector = slow(self.encoder), slow(self.projector)
        self.criterion = NTXentLoss(temperature=0.1, memory_bank_size=(4096, 128))

    def begin(self, at: Moment) -> None:
        update_momentum(self.encoder, self.slow_encoder, 0.99)
        update_momentum(self.projector, self.slow_projector, 0.99)

    def forward(self, one: Tensor, two: Tensor) -> tuple[Tensor, ...]:
        return self.query(one), self.key(two), self.query(two), self.key(one)

    def query(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder.body(x))

    @torch.no_grad()
    def key(self, x: Tensor) -> Tensor:
        mixed, order = batch_shuffle(x)
        return batch_unshuffle(self.slow_projector(self.slow_encoder.body(mixed)), order)

    def loss(self, *rows: Tensor) -> Tensor:
        return self.criterion(*rows[:2]) + self.criterion(*rows[2:])


class BYOL(Peer):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.projector = network(), BYOLProjectionHead(128, 512, 128)
        self.predictor, self.criterion = BYOLPredictionHead(128, 512, 128), NegativeCosineSimilarity()
        self.slow_encoder, self.slow_projector = slow(self.encoder), slow(self.projector)

    def begin(self, at: Moment) -> None:
        momentum = cosine_schedule(at.step, at.steps + 1, 0.97, 1)
        update_momentum(self.encoder, self.slow_encoder, momentum)
        update_momentum(self.projector, self.slow_projector, momentum)

    def forward(self, one: Tensor, two: Tensor) -> tuple[Tensor, ...]:
        p = (self.predictor(self.projector(self.encoder.body(x))) for x in (one, two))
        with torch.no_grad():
            z = [self.slow_projector(self.slow_encoder.body(x)) for x in (one, two)]
        return *p, *z

    def loss(self, *rows: Tensor) -> Tensor:
        p1, p2, z1, z2 = rows
        return self.criterion(p1, z2) + self.criterion(p2, z1)


class SimSiam(Peer):
    steady = ("predictor",)

    def __init__(self) -> None:
        super().__init__()
        blocks = [(128, 512, nn.BatchNorm1d(512), nn.ReLU()), (512, 512, nn.BatchNorm1d(512, affine=False), None)]
        self.encoder, self.projector = network(), ProjectionHead(blocks)
        self.predictor, self.criterion = SimSiamPredictionHead(512, 128, 512), NegativeCosineSimilarity()

    def forward(self, one: Tensor, two: Tensor) -> tuple[Tensor, ...]:
        z = [self.projector(self.encoder.body(x)) for x in (one, two)]
        return *(self.predictor(x) for x in z), *z

    def loss(self, *rows: Tensor) -> Tensor:
        p1, p2, z1, z2 = rows
        return (self.criterion(p1, z2.detach()) + self.criterion(p2, z1.detach())) / 2


class NNCLR(Peer):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.projector = network(), NNCLRProjectionHead(128, 512, 128)
        self.predictor, self.criterion = NNCLRPredictionHead(128, 512, 128), NTXentLoss(temperature=0.2)
        self.support = NNMemoryBankModule((4096, 128))

    def forward(self, one: Tensor, two: Tensor) -> tuple[Tensor, ...]:
        z = [self.projector(self.encoder.body(x)) for x in (one, two)]
        return *(self.predictor(x) for x in z), *z

    def loss(self, *rows: Tensor) -> Tensor:
        p1, p2, z1, z2 = rows
        n1, n2 = self.support(z1.detach(), update=False), self.support(z2.detach(), update=True)
        return (self.criterion(n1, p2) + self.criterion(n2, p1)) / 2


class PapersNNCLR(NNCLR):
    """The predictions compared with the neighbors alone, and only from the neighbors' side."""

    def __init__(self) -> None:
        super().__init__()
        self.criterion = NeighborsToPredictions()


class NeighborsToPredictions(nn.Module):
    def forward(self, n: Tensor, p: Tensor) -> Tensor:
        return cross_entropy(normalize(n) @ normalize(p).T / 0.2, torch.arange(len(n)))


class SwAV(Peer):
    transform = SWAV_PAIR

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.projector = network(), SwaVProjectionHead(128, 256, 128)
        self.prototypes = SwaVPrototypes(128, 30, n_steps_frozen_prototypes=78)
        self.criterion = SwaVLoss(temperature=0.5)

    def begin(self, at: Moment) -> None:
        self.at = at
        self.prototypes.normalize()

    def forward(self, one: Tensor, two: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.projector(self.encoder.body(x)) for x in (one, two))

    def loss(self, *rows: Tensor) -> Tensor:
        z = [normalize(x, dim=1) for x in rows]
        scores = [self.prototypes(x, self.at.step) for x in z]
        return self.criterion(scores, []).squeeze()


class DINO(Peer):
    transform = DINO_PAIR

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.criterion = network(), DINOLoss(256)
        heads = (DINOProjectionHead(128, 512, 128, 256, batch_norm=True, freeze_last_layer=1) for _ in range(2))
        self.projector, self.slow_projector = heads  # torch cannot copy a head with weight normalization
        self.slow_projector.load_state_dict(self.projector.state_dict())
        deactivate_requires_grad(self.slow_projector)
        self.slow_encoder = slow(self.encoder)

    def begin(self, at: Moment) -> None:
        momentum = cosine_schedule(at.step, at.steps + 1, 0.99, 1)
        update_momentum(self.encoder, self.slow_encoder, momentum)
        update_momentum(self.projector, self.slow_projector, momentum)

    def forward(self, one: Tensor, two: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            slow_rows = [self.slow_encoder.body(x) for x in (one, two)]
        return *(self.encoder.body(x) for x in (one, two)), *slow_rows

    def loss(self, *rows: Tensor) -> Tensor:
        student, teacher = [self.projector(h) for h in rows[:2]], [self.slow_projector(h) for h in rows[2:]]
        return self.criterion(teacher, student)

    def limit(self, at: Moment) -> None:
        for parameter in (p for p in self.parameters() if p.grad is not None):  # each by itself: official code
            nn.utils.clip_grad_norm_(parameter, 3.0)
        self.projector.cancel_last_layer_gradients(at.epoch)

    @property
    def judged(self) -> Encoder:
        """The teacher, as in the official evaluation and in our runs."""
        return self.slow_encoder


METHODS: dict[str, Callable[[], Peer]] = {
    "simclr": lambda: Pair(SimCLRProjectionHead(128, 256, 128), NTXentLoss(temperature=0.2)),
    "moco": MoCo,
    "byol": BYOL,
    "simsiam": SimSiam,
    "barlow_twins": lambda: Pair(BarlowTwinsProjectionHead(128, 512, 512), BarlowTwinsLoss(lambda_param=0.0051)),
    "vicreg": lambda: Pair(VICRegProjectionHead(128, 512, 512), VICRegLoss()),
    "dcl": lambda: Pair(SimCLRProjectionHead(128, 256, 128), DCLLoss(temperature=0.2)),
    "nnclr": NNCLR,
    "nnclr_paper": PapersNNCLR,
    "swav": SwAV,
    "dino": DINO,
}


def network() -> Encoder:
    return backbone("resnet18_quarter", stem="small", zero_init_last=False)


def slow(module: nn.Module) -> nn.Module:
    """A copy that follows by momentum."""
    copied = copy.deepcopy(module)
    deactivate_requires_grad(copied)
    return copied


def in_groups(encoder: Encoder, groups: int) -> Encoder:
    """The encoder with lightly's SplitBatchNorm in place of every BatchNorm2d."""
    for name, layer in list(encoder.named_modules()):
        if isinstance(layer, nn.BatchNorm2d):
            encoder.set_submodule(name, SplitBatchNorm(layer.num_features, groups))
    return encoder
