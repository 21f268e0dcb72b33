"""ReSSL: relational self-supervised learning with weak augmentation. (Zheng et al., 2021)

Which earlier images does a weak view resemble, and how much? The encoder must answer from strong views as a slow copy
of it does from the weak one. No view is told to match its own image: the positive is no candidate.

    momentum encoder <- m * itself + (1 - m) * encoder             before the keys, with the weights of the last step
    q = unit(predictor(projector(encoder(strong view))))                                           predictor optional
    k = unit(momentum encoder(shuffled weak view)), put back in order                                    no gradient
    target = softmax(k . queue / t_m),  p = softmax(q . queue / t)                           t_m < t: a sharper target
    loss = mean of cross-entropy(target, p), over all strong views
    queue <- k                                                                                     after the loss

B batch, D embedding, K queue.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lookalike.functional import relations, soft_contrast, unit
from lookalike.functional.schedules import Constant, Schedule
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Progress, Step
from lookalike.modules import MomentumEncoder, Queue

WEAK = "weak"


class ReSSL(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); predictor: (B, D) -> (B, D); queue: K rows of D.

    queries: the strong views, one or many crops; each is compared with the one weak view. momentum: schedule of m.
    shuffle permutes the keys' batch (official code; it needs statistics of parts of the batch, as with MoCo).
    predictor and warmup are of the journal version (arXiv 2203.08717): an asymmetric predictor, and that many epochs of
    InfoNCE before the relations; that these have the positive, the queue and t as MoCo does is our choice.
    """

    facts = Facts(
        target="the momentum encoder's similarities",
        negatives="queue of earlier images, by how alike they are",
        networks="two, one by momentum",
        memory="queue",
        when="small batches; images with many relatives",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        queue: Queue,
        predictor: nn.Module | None = None,
        *,
        queries: Sequence[str] = ("strong",),
        temperature: float = 0.1,
        momentum_temperature: float = 0.04,
        momentum: Schedule = Constant(0.999),  # noqa: B008
        shuffle: bool = True,
        warmup: float = 0.0,
    ) -> None:
        super().__init__()
        if not queries or WEAK in queries:
            raise ValueError(f"queries are {list(queries)}: name one or more strong views, and not {WEAK!r}")
        self.encoder, self.projector, self.queue = encoder, projector, queue
        self.predictor = nn.Identity() if predictor is None else predictor
        self.momentum_encoder = MomentumEncoder(encoder, projector)
        self.queries = tuple(queries)
        self.temperature, self.momentum_temperature = temperature, momentum_temperature
        self.momentum, self.shuffle, self.warmup = momentum, shuffle, warmup

    def plan(self, epochs: float) -> Sequence[Phase]:
        trains = ("encoder", "projector", "predictor")
        return [Phase(name="train", epochs=epochs, trains=trains, reads=(WEAK, *self.queries))]

    def before_update(self, progress: Progress) -> None:
        m = self.momentum(progress.run)
        self.momentum_encoder.follow(self.encoder, self.projector, momentum=m)  # before the key forward: official code

    def forward(self, batch: Batch) -> Step:
        h = {view: self.encoder(batch.views[view]) for view in self.queries}  # a forward each: official code
        q_BD = {view: unit(self.predictor(self.projector(rows))) for view, rows in h.items()}
        generator = batch.progress.generator("shuffle") if self.shuffle else None
        k_BD = unit(self.momentum_encoder(batch.views[WEAK], shuffle=generator))
        memory_KD = self.queue.rows()  # before this step's keys join: official code
        warming = batch.progress.run.epoch < self.warmup
        target = None if warming else relations(k_BD, memory_KD, temperature=self.momentum_temperature)
        found = [
            soft_contrast(
                q_BD[view],
                positive=k_BD,
                keys=memory_KD,
                temperature=self.temperature,
                target=target,  # None: all on the positive
                positive_in_denominator=warming,  # the positive is no candidate: official code
            )
            for view in self.queries
        ]
        loss = torch.stack([view.loss for view in found]).mean()
        entropy = torch.stack([view.target_entropy for view in found]).mean()
        return Step(loss=loss, metrics={"target_entropy": entropy}, keep={"keys": k_BD}, features=h, projections=q_BD)

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        self.queue.push(kept["keys"])  # after the loss: official code

    def uniform(self, rows: int) -> float:
        return math.log(self.queue.filled)  # whatever the target: its sum is 1

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
