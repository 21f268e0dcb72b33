"""MoCo: momentum contrast for unsupervised visual representation learning. (He et al., 2019; v2: Chen et al., 2020)

A query must find the key of its own image among the keys of many earlier images, kept in a queue. Keys come from a
slow copy of the network. Versions 1 and 2 differ in projector, views, temperature and learning-rate schedule only.

    momentum encoder <- m * itself + (1 - m) * encoder             before the keys, with the weights of the last step
    q = unit(projector(encoder(view 1)))
    k = unit(momentum encoder(shuffled view 2)), put back in order                                     no gradient
    loss = - mean of log( exp(q . k / t) / sum over k and queue of exp(q . key / t) )
    queue <- k                                                                                     after the loss

Options: a margin on q . k before the temperature; keys of the queue left out as they resemble k (false negatives).
symmetric: the sum of both directions; the keys of both views join the queue (official CIFAR notebook).
B batch, D embedding, K queue.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lookalike.functional import Contrast, Margin, soft_contrast, unit
from lookalike.functional.neighbors import resembling
from lookalike.functional.schedules import Constant, Schedule
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Progress, Step
from lookalike.modules import MomentumEncoder, Queue

QUERY, KEY = "query", "key"


class MoCo(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); queue: K rows of D.

    momentum: schedule of m. shuffle permutes the keys' batch, so that a key and its query do not share batch statistics
    (section 3.3; it needs BatchNorm statistics of parts of the batch, "split:8" on one device). Not of the paper:
    margin, the positive's handicap; mask_above, the cosine with k above which a key of the queue is no negative.
    """

    facts = Facts(
        target="the image's other view",
        negatives="queue of earlier images",
        networks="two, one by momentum",
        memory="queue",
        when="small batches",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        queue: Queue,
        *,
        temperature: float = 0.07,
        momentum: Schedule = Constant(0.999),  # noqa: B008
        shuffle: bool = True,
        symmetric: bool = False,
        margin: Margin = Margin(),  # noqa: B008
        mask_above: float | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.projector, self.queue = encoder, projector, queue
        self.momentum_encoder = MomentumEncoder(encoder, projector)
        self.temperature, self.momentum = temperature, momentum
        self.shuffle, self.symmetric = shuffle, symmetric
        self.margin, self.mask_above = margin, mask_above

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=(QUERY, KEY))]

    def before_update(self, progress: Progress) -> None:
        m = self.momentum(progress.run)
        self.momentum_encoder.follow(self.encoder, self.projector, momentum=m)  # before the key forward: official code

    def forward(self, batch: Batch) -> Step:
        ways = [(QUERY, KEY), (KEY, QUERY)] if self.symmetric else [(QUERY, KEY)]
        h = {query: self.encoder(batch.views[query]) for query, _ in ways}
        q_BD = {query: unit(self.projector(rows)) for query, rows in h.items()}
        k_BD = {key: self.key(batch, key) for _, key in ways}
        found = [self.contrast(q_BD[query], k_BD[key]) for query, key in ways]
        loss = torch.stack([way.loss for way in found]).sum()  # symmetric: the sum, official notebook
        confidence = torch.stack([way.confidence for way in found]).mean()
        return Step(loss=loss, metrics={"confidence": confidence}, keep=k_BD, features=h, projections=q_BD)

    def key(self, batch: Batch, view: str) -> Tensor:
        """k_BD of one view."""
        generator = batch.progress.generator(f"shuffle/{view}") if self.shuffle else None
        return unit(self.momentum_encoder(batch.views[view], shuffle=generator))

    def contrast(self, q_BD: Tensor, k_BD: Tensor) -> Contrast:
        """One way, against the queue of before the step."""
        keys_KD = self.queue.rows()
        mask = None if self.mask_above is None else resembling(k_BD, keys_KD, above=self.mask_above)
        return soft_contrast(
            q_BD, positive=k_BD, keys=keys_KD, temperature=self.temperature, margin=self.margin, mask=mask
        )

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        keys = [kept[view] for view in (QUERY, KEY) if view in kept]
        self.queue.push(torch.cat(keys))  # after the loss: a key is never its own negative

    def uniform(self, rows: int) -> float | None:
        if self.mask_above is not None or self.margin.size:
            return None  # what is alike is then masked, or worth another loss
        return math.log(1 + self.queue.filled) * (2 if self.symmetric else 1)

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
