"""MoCHi: hard negative mixing for contrastive learning. (Kalantidis, Sariyildiz, Pion, Weinzaepfel, Larlus, 2020)

MoCo version 2, with further negatives for each query: mixed, on the sphere, from the keys that it resembles most, and
from such keys and the query itself.

    momentum encoder, q, k, queue                                                                              as MoCo
    n_1 ... n_N = the N keys of the queue with the largest q . key
    s  times    h = unit(a n_i + (1 - a) n_j),    i, j uniform, a uniform in (0, 1)
    s' times    h = unit(b q + (1 - b) n_j),      b uniform in (0, 1/2): less of the query than of the key
    loss = - mean of log( exp(q . k / t) / sum over k, queue and all h of exp(q . key / t) )
    queue <- k, and no h                                                                           after the loss

All h are constants: no gradient reaches q through them. No h in the first epochs: MoCo, as with s = s' = 0.
B batch, D embedding, K queue.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lookalike.functional import mixed_negatives, soft_contrast, unit
from lookalike.functional.schedules import Constant, Schedule
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Progress, Step
from lookalike.modules import Column, MomentumEncoder, Queue

QUERY, KEY = "query", "key"


class MoCHi(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); queue: K rows of D.

    hardest is N, pairs s and with_query s' of the paper's MoCHi (N, s, s'); a shorter queue is the hardest as a whole.
    warmup: epochs without mixing. Their defaults are our choice, as only reimplementations could be read. skip_own
    leaves out older keys of the query's own image, as negatives and from mixing: on a small data set they are the
    hardest of all. momentum: schedule of m. shuffle permutes the keys' batch, as in MoCo.
    """

    facts = Facts(
        target="the image's other view",
        negatives="queue of earlier images, and mixes of the hardest",
        networks="two, one by momentum",
        memory="queue",
        when="small batches, harder negatives",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        queue: Queue,
        *,
        temperature: float = 0.2,
        momentum: Schedule = Constant(0.999),  # noqa: B008
        shuffle: bool = True,
        hardest: int = 1024,
        pairs: int = 512,
        with_query: int = 256,
        warmup: float = 0.0,
        skip_own: bool = False,
    ) -> None:
        super().__init__()
        if hardest < 1 or pairs < 0 or with_query < 0:
            raise ValueError(
                f"hardest, pairs and with_query are {hardest}, {pairs}, {with_query}: give 1, 0, 0 or more"
            )
        self.encoder, self.projector, self.queue = encoder, projector, queue
        self.momentum_encoder = MomentumEncoder(encoder, projector)
        self.sources = Queue(queue.size, columns={"index": Column(dtype=torch.int64)}) if skip_own else None
        self.temperature, self.momentum, self.shuffle = temperature, momentum, shuffle
        self.hardest, self.pairs, self.with_query, self.warmup = hardest, pairs, with_query, warmup

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=(QUERY, KEY))]

    def before_update(self, progress: Progress) -> None:
        m = self.momentum(progress.run)
        self.momentum_encoder.follow(self.encoder, self.projector, momentum=m)  # before the key forward: MoCo's code

    def forward(self, batch: Batch) -> Step:
        h = self.encoder(batch.views[QUERY])
        q_BD = unit(self.projector(h))
        generator = batch.progress.generator("shuffle") if self.shuffle else None
        k_BD = unit(self.momentum_encoder(batch.views[KEY], shuffle=generator))
        memory_KD, keep = self.queue.rows(), {"keys": k_BD}
        own_BK, mixed = None, None
        if self.sources is not None:
            own_BK = batch.index[:, None] == self.sources.rows()
            keep["index"] = batch.index
        if self.pairs + self.with_query and batch.progress.run.epoch >= self.warmup:
            mixed = mixed_negatives(
                q_BD,
                memory_KD,
                batch.draw("mixes", self.pairs + self.with_query, 3),
                pairs=self.pairs,
                hardest=self.hardest,
                temperature=self.temperature,
                mask=own_BK,
            )
        found = soft_contrast(
            q_BD, positive=k_BD, keys=memory_KD, temperature=self.temperature, beside=mixed, mask=own_BK
        )
        return Step(
            loss=found.loss,
            metrics={"confidence": found.confidence},
            keep=keep,
            features={QUERY: h},
            projections={QUERY: q_BD},
        )

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        self.queue.push(kept["keys"])  # after the loss: a key is never its own negative
        if self.sources is not None:
            self.sources.push(index=kept["index"])

    def uniform(self, rows: int) -> float:
        return math.log(1 + self.queue.filled + self.pairs + self.with_query)  # after the warm-up

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
