"""InterCLR: delving into inter-image invariance for unsupervised visual representations. (Xie, Zhan, Liu et al., 2020)

MoCo version 2, and beside it: a query must find another image of its cluster among images of other clusters. A bank
holds a vector of every image; clusters of these vectors are the pseudo-labels.

    momentum encoder, q, k, queue                                                                              as MoCo
    intra = MoCo's loss, with a margin
    p = an image of q's cluster, uniformly, itself too       N = images of other clusters: drawn from those most alike
    inter = - mean of log( exp((q . v_p - m) / t) / ( exp((q . v_p - m) / t) + sum over N of exp(q . v_n / t) ) )
    loss = lambda * intra + (1 - lambda) * inter
    queue <- k;   v_i <- unit(mu * v_i + (1 - mu) * k)                                                  after the loss
    online    label of i <- the center with the largest c . v_i;  centers and small clusters are tended at each step
    offline   labels stay; after some epochs all images are encoded and clustered again

m < 0: a positive of another image need not come as close as one of the same image. No inter in the first epochs of a
warm-up: MoCo, as with lambda = 1.
B batch, D embedding, K queue.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lookalike.functional import soft_contrast, unit
from lookalike.functional.clusters import one_member
from lookalike.functional.margin import Margin
from lookalike.functional.other_clusters import Sampler, negatives_of_other_clusters
from lookalike.functional.sampled import drawn_contrast
from lookalike.functional.schedules import Constant, Schedule
from lookalike.methods.corpus import Corpus
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Progress, Step
from lookalike.modules import Bank, Clusters, MomentumEncoder, Queue

QUERY, KEY, PLAIN = "query", "key", "plain"


class InterCLR(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); queue: K rows of D; bank: a row of D for each image.

    intra_weight is lambda; bank_momentum is mu, 0 in the official code, whose "momentum" is 1 - mu. momentum: schedule
    of the momentum encoder. shuffle permutes the keys' batch, as in MoCo. warmup: epochs without inter.
    """

    facts = Facts(
        target="the other view, and images of the same cluster",
        negatives="queue of earlier images; images of other clusters",
        networks="two, one by momentum",
        memory="queue, a row per image",
        when="images that fall into kinds",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        queue: Queue,
        bank: Bank,
        clusters: Clusters,
        sampler: Sampler = Sampler(),  # noqa: B008
        *,
        temperature: float = 0.2,
        momentum: Schedule = Constant(0.999),  # noqa: B008
        shuffle: bool = True,
        intra_weight: float = 0.75,
        intra_margin: Margin = Margin(),  # noqa: B008
        inter_margin: Margin = Margin(-0.5),  # noqa: B008
        bank_momentum: float = 0.0,
        warmup: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= intra_weight <= 1:
            raise ValueError(f"intra_weight is {intra_weight}: give MoCo's share of the loss, from 0 to 1")
        self.encoder, self.projector, self.queue = encoder, projector, queue
        self.momentum_encoder = MomentumEncoder(encoder, projector)
        self.bank, self.clusters, self.sampler = bank, clusters, sampler
        self.temperature, self.momentum, self.shuffle = temperature, momentum, shuffle
        self.intra_weight, self.intra_margin, self.inter_margin = intra_weight, intra_margin, inter_margin
        self.bank_momentum, self.warmup = bank_momentum, warmup

    def plan(self, epochs: float) -> Sequence[Phase]:
        again = epochs if self.clusters.again is None else self.clusters.again
        return [
            Phase(
                name=f"clusters/{number + 1}",
                epochs=min(again, epochs - number * again),
                trains=("encoder", "projector"),
                reads=(QUERY, KEY),
                scans=(PLAIN,),
            )
            for number in range(math.ceil(epochs / again))
        ]

    def enter(self, phase: Phase, corpus: Corpus) -> None:
        network = nn.Sequential(self.encoder, self.projector)
        rows_ND = torch.cat([unit(rows) for _, rows in corpus.encode(network, PLAIN)]).to(self.bank.rows())
        if phase.name == "clusters/1":
            self.bank.fill([(torch.arange(corpus.size), rows_ND)])  # once: later it holds keys, official code
        self.clusters.start(rows_ND, corpus.generator("clusters"))

    def before_update(self, progress: Progress) -> None:
        m = self.momentum(progress.run)
        self.momentum_encoder.follow(self.encoder, self.projector, momentum=m)  # before the key forward: official code

    def forward(self, batch: Batch) -> Step:
        h = self.encoder(batch.views[QUERY])
        q_BD = unit(self.projector(h))
        generator = batch.progress.generator("shuffle") if self.shuffle else None
        k_BD = unit(self.momentum_encoder(batch.views[KEY], shuffle=generator))
        intra = soft_contrast(
            q_BD, positive=k_BD, keys=self.queue.rows(), temperature=self.temperature, margin=self.intra_margin
        )
        weight = 1.0 if batch.progress.run.epoch < self.warmup else self.intra_weight
        loss, sizes_C = weight * intra.loss, self.clusters.sizes().to(q_BD)
        metrics = {"confidence": intra.confidence, "smallest": sizes_C.min(), "largest": sizes_C.max()}
        if weight < 1:
            inter = self.inter(q_BD, batch)
            loss, metrics["inter"] = loss + (1 - weight) * inter, inter.detach()
        keep = {"keys": k_BD, "index": batch.index}
        return Step(loss=loss, metrics=metrics, keep=keep, features={QUERY: h}, projections={QUERY: q_BD})

    def inter(self, q_BD: Tensor, batch: Batch) -> Tensor:
        """Each query's loss against the bank, with the rows and labels of before the step."""
        bank_ND, label_N = self.bank.rows(), self.clusters.label
        chance_B, place_B = batch.draw("inter", 2).unbind(1)
        cluster_B = label_N[batch.index]
        positive_B = one_member(label_N, cluster_B, chance_B)  # the image itself too: official code
        generator = batch.progress.generator("negatives")
        negative_BK = negatives_of_other_clusters(
            q_BD.detach(), bank_ND, label_N, cluster_B, place_B, sampler=self.sampler, generator=generator
        )
        return drawn_contrast(
            q_BD, bank_ND, positive_B, negative_BK, temperature=self.temperature, margin=self.inter_margin
        )

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        index, rows_ND = kept["index"], self.bank.rows()
        self.queue.push(kept["keys"])  # after the loss: a key is never its own negative
        mixed = torch.lerp(kept["keys"].to(rows_ND), rows_ND[index], self.bank_momentum)
        self.bank.write(index, unit(mixed))
        if self.clusters.again is None:
            self.clusters.tend(rows_ND, index, progress.run.step + 1, progress.generator("clusters"))

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
