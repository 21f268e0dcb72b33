"""ASCL: adaptive soft contrastive learning. (Feng, Patras, 2022)

MoCo, or BYOL, in which an image may also be told to resemble its nearest neighbors: the more, the surer the momentum
encoder is of them. While the memory is random it is sure of none, and this is MoCo.

    momentum encoder <- m * itself + (1 - m) * encoder             before the keys, with the weights of the last step
    k = unit(momentum encoder(shuffled weak view)), put back in order                                    no gradient
    q' = softmax(k . queue / t_m),  c = 1 - entropy(q') / log(number of keys)                         confidence, 0 to 1
    y = 1 for the positive, min(1, c * K * q'_j) for key j, divided by their sum
    MoCo    q = unit(projector(encoder(strong view)))
            loss = mean of cross-entropy(y, softmax(q . [k, queue] / t)),  queue <- k              after the loss
    BYOL    p = unit(predictor(projector(encoder(strong view))))
            loss = mean of 2 - 2 sum_j y_j p . k_j,  with the other keys of the batch in place of the queue

rule "hard": y = 1 for the K nearest; "adaptive": y = c for them. K = 0 is MoCo, or one direction of BYOL.
B batch, D embedding, K neighbors.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from lookalike.functional import Contrast, Relabeled, relabeled, relabeled_distance, soft_contrast, unit
from lookalike.functional.schedules import Constant, Schedule
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Progress, Step
from lookalike.modules import MomentumEncoder, Queue

STRONG, WEAK = "strong", "weak"


class ASCL(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); queue: rows of D; predictor: (B, D) -> (B, D).

    A queue makes MoCo's form, a predictor BYOL's, which has no temperature. neighbors is K. momentum: schedule of m.
    shuffle permutes the keys' batch (official code in MoCo's form; it needs statistics of parts of the batch).
    """

    facts = Facts(
        target="the other view and neighbors, by how sure they are",
        negatives="queue of earlier images; the nearest of them are positives too",
        networks="two, one by momentum",
        memory="queue",
        when="small batches; images with many relatives",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        queue: Queue | None = None,
        predictor: nn.Module | None = None,
        *,
        rule: Literal["soft", "hard", "adaptive"] = "soft",
        neighbors: int = 1,
        temperature: float = 0.1,
        momentum_temperature: float = 0.05,
        momentum: Schedule = Constant(0.99),  # noqa: B008
        shuffle: bool = True,
    ) -> None:
        super().__init__()
        if (queue is None) == (predictor is None):
            raise ValueError("ascl takes a queue, for MoCo's form, or a predictor, for BYOL's: give one of them")
        if neighbors < 0 or (queue is not None and neighbors > queue.size):
            most = "" if queue is None else f" to {queue.size}, the rows of the queue"
            raise ValueError(f"neighbors is {neighbors}: give a number from 0{most}")
        self.encoder, self.projector, self.queue = encoder, projector, queue
        self.predictor = nn.Identity() if predictor is None else predictor
        self.momentum_encoder = MomentumEncoder(encoder, projector)
        self.rule, self.neighbors = rule, neighbors
        self.temperature, self.momentum_temperature = temperature, momentum_temperature
        self.momentum, self.shuffle = momentum, shuffle

    def plan(self, epochs: float) -> Sequence[Phase]:
        trains = ("encoder", "projector", "predictor")
        return [Phase(name="train", epochs=epochs, trains=trains, reads=(STRONG, WEAK))]

    def before_update(self, progress: Progress) -> None:
        m = self.momentum(progress.run)
        self.momentum_encoder.follow(self.encoder, self.projector, momentum=m)  # before the key forward: official code

    def forward(self, batch: Batch) -> Step:
        h = self.encoder(batch.views[STRONG])
        q_BD = unit(self.predictor(self.projector(h)))
        generator = batch.progress.generator("shuffle") if self.shuffle else None
        k_BD = unit(self.momentum_encoder(batch.views[WEAK], shuffle=generator))
        t, K, rule = self.momentum_temperature, self.neighbors, self.rule
        if self.queue is None:
            found: Contrast | Relabeled = relabeled_distance(q_BD, k_BD, temperature=t, neighbors=K, rule=rule)
        else:
            memory_KD = self.queue.rows()  # before this step's keys join: official code
            target = relabeled(k_BD, memory_KD, temperature=t, neighbors=K, rule=rule)
            found = soft_contrast(q_BD, positive=k_BD, keys=memory_KD, temperature=self.temperature, target=target)
        return Step(
            loss=found.loss,
            metrics={"target_entropy": found.target_entropy},
            keep={"keys": k_BD},
            features={STRONG: h},
            projections={STRONG: q_BD},
        )

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        if self.queue is not None:
            self.queue.push(kept["keys"])  # after the loss: official code

    def uniform(self, rows: int) -> float | None:
        return None if self.queue is None else math.log(1 + self.queue.filled)  # whatever the target: its sum is 1

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
