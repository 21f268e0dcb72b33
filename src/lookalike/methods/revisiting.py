"""Revisiting contrastive methods for unsupervised learning of visual representations. (Van Gansbeke et al., 2021)

MoCo version 2 with three more invariances: to scale, by small crops that overlap the key's; to stronger changes, by
AutoAugment; and to the image itself, as each query is told to resemble its nearest neighbors among earlier images too.
Who is near is seen in the backbone's features; who must come near, in the projections.

    momentum encoder <- m * itself + (1 - m) * encoder             before the keys, with the weights of the last step
    g, q = unit(encoder(view)), unit(projector(encoder(view)))      of the large query and each small crop, by size
    f, k = the same of the shuffled key view by the momentum encoder, put back in order                no gradient
    contrast = - log( exp(q . k / t) / sum over k and queue of exp(q . key / t) )
    P = the rows of the n features in the queue with the largest g . feature
    knn = - mean over j in P of log( exp(q . key_j / t) / sum over queue of exp(q . key / t) )
    loss = mean over images and their views of contrast + weight * knn
    queue <- (k, f)                                                                                after both losses

weight = 0 without small crops is MoCo. B batch, R = B x views that are queries, D embedding, F features, K queue.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lookalike.functional import Target, soft_contrast, unit
from lookalike.functional.crops import by_size
from lookalike.functional.neighbors import nearest_keys
from lookalike.functional.schedules import Constant, Schedule
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Progress, Step
from lookalike.modules import MomentumEncoder, Queue, takes

QUERY, KEY = "query", "key"
SMALL = ("small/1", "small/2", "small/3", "small/4")


class Revisiting(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); queue: K rows of D, as it was made.

    neighbors is n, weight that of their loss, without which the first `warmup` epochs do (official code: 0 or 5).
    momentum: schedule of m. shuffle permutes the keys' batch, as in MoCo. The features' queue has as many rows and
    is filled along with the other. More neighbors than rows are all rows; ValueError for none.
    """

    facts = Facts(
        target="the other view, small crops in it, and neighbors",
        negatives="queue of earlier images; the nearest of them are positives too",
        networks="two, one by momentum",
        memory="queue",
        when="photos of many objects and scales",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        queue: Queue,
        *,
        small_views: Sequence[str] = SMALL,
        temperature: float = 0.2,
        momentum: Schedule = Constant(0.995),  # noqa: B008
        shuffle: bool = True,
        neighbors: int = 20,
        weight: float = 0.4,
        warmup: float = 0.0,
    ) -> None:
        super().__init__()
        if neighbors < 1:
            raise ValueError(f"neighbors is {neighbors}: give 1 or more")
        self.encoder, self.projector, self.queue = encoder, projector, queue
        self.features = Queue(queue.size, takes(projector))
        self.momentum_encoder = MomentumEncoder(encoder, projector)
        self.queries = (QUERY, *small_views)
        self.temperature, self.momentum, self.shuffle = temperature, momentum, shuffle
        self.neighbors, self.weight, self.warmup = min(neighbors, queue.size), weight, warmup

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=(*self.queries, KEY))]

    def before_update(self, progress: Progress) -> None:
        m = self.momentum(progress.run)
        self.momentum_encoder.follow(self.encoder, self.projector, momentum=m)  # before the key forward: official code

    def forward(self, batch: Batch) -> Step:
        h = by_size(self.encoder, batch.views, self.queries)
        joined = torch.cat(list(h.values()))
        q_RD, g_RF = unit(self.projector(joined)), unit(joined.detach())
        f_BF, k_BD = self.key(batch)
        memory_KD, t = self.queue.rows(), self.temperature
        found = soft_contrast(q_RD, positive=k_BD.repeat(len(h), 1), keys=memory_KD, temperature=t)
        loss, metrics = found.loss, {"confidence": found.confidence}
        if self.weight and batch.progress.run.epoch >= self.warmup:
            near = self.near(g_RF)  # before this step's keys join: official code with warm-up (docs/methods)
            knn = soft_contrast(q_RD, keys=memory_KD, temperature=t, target=near, positive_in_denominator=False)
            loss = loss + self.weight * knn.loss
            metrics["knn"] = knn.loss.detach()
        return Step(
            loss=loss,
            metrics=metrics,
            keep={"keys": k_BD, "features": f_BF},
            features=h,
            projections=dict(zip(h, q_RD.chunk(len(h)), strict=True)),
        )

    def key(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """f and k of the key view."""
        generator = batch.progress.generator("shuffle") if self.shuffle else None
        f_BF, k_BD = self.momentum_encoder.stages(batch.views[KEY], shuffle=generator)
        return unit(f_BF), unit(k_BD)

    def near(self, g_RF: Tensor) -> Target:
        """The target that gives each of a query's neighbors, by features, an equal share of its projection's keys."""
        rows_Rn = nearest_keys(g_RF, self.features.rows(), self.neighbors).rows
        mean_RD, one_R = self.queue.rows()[rows_Rn].to(g_RF.dtype).mean(1), g_RF.new_ones(len(g_RF))
        return Target(one_R, mean_RD, one_R * math.log(self.neighbors))

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        self.queue.push(kept["keys"])  # after both losses: a key is neither negative nor neighbor of its own query
        self.features.push(kept["features"])

    def uniform(self, rows: int) -> float:
        # collapse shows early: with a warm-up, the loss of the warm-up
        neighbors = 0.0 if self.warmup else self.weight * math.log(self.queue.filled)
        return math.log(1 + self.queue.filled) + neighbors

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
