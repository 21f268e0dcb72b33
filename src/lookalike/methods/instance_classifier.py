"""Train a one-million-way instance classifier for unsupervised visual representation learning. (Liu et al., 2021)

Every image is a class of its own, and all of them take part in every step; no sampling, no queue, no momentum encoder.

    start   w_i <- projector(encoder(image i)) of the fixed random networks, batch statistics in use   raw features
    x = unit(projector(encoder(view)))                                              of each view of the image
    p = softmax over all images j of x . unit(w_j) / t
    y = 1 - alpha on the image's own class, alpha / K on each of its K hardest: largest unit(w_j) . unit(w_i)
    loss = mean of cross-entropy(y, p) over views and images
    w <- SGD with momentum and weight decay; each process holds N / R of the weights and scores all views against them
    once an epoch the K hardest classes of each class are found anew
    sampled   the softmax is over the batch's classes, their hardest and others drawn in each step        an option

alpha = 0, random w and one view are PIC without its window. A reconstruction where the paper's text was out of reach:
K, the input of the raw features and their length are our choice.
b samples, V views of each, D embedding, N images.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lookalike.functional import ClassTarget, hardest_classes, unit
from lookalike.functional.collectives import gather_rows
from lookalike.functional.shards import rows_of_shards
from lookalike.methods.corpus import Corpus
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Progress, Step
from lookalike.modules import InstanceClasses, Sharded

MOST, LEAST, SHARE = 100, 5, 1e-4  # hardest classes where their number is not given: a share of all, within bounds


class InstanceClassifier(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); classes: one weight of D numbers per image.

    smoothing is alpha; hardest is K, None: one class in 10,000, at least 5 and at most 100. views: all samples of the
    class. raw: the view whose features the weights start from, None: random weights. negatives: how many classes are
    drawn in each step, without repetition, to take part beside the batch's and their hardest, None: all take part. It
    is for more classes than time or memory allow (An et al., Partial FC, 2021, arXiv 2010.05222), and needs classes
    built with sampled=True: momentum and decay of the others are made up for exactly.
    """

    facts = Facts(
        target="the image's own class, and its hardest ones",
        negatives="one class per image",
        memory="a weight per image",
        when="each image matters; copies, products",
    )
    reconstruction = "a reconstruction: the paper's text was out of reach (docs/methods/instance_classifier.md)"

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        classes: InstanceClasses,
        *,
        temperature: float = 0.15,
        smoothing: float = 0.2,
        hardest: int | None = None,
        negatives: int | None = None,
        views: Sequence[str] = ("view/1", "view/2"),
        raw: str | None = "plain",
    ) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing is {smoothing}: give the hardest classes' share of the target, from 0 to 1")
        if negatives is not None and classes.skipped is None:
            raise ValueError(
                f"{negatives} classes are to be drawn in each step, and classes are not sampled: build them with "
                "sampled=True (in a recipe method.classes.sampled=true), or leave negatives at None"
            )
        self.encoder, self.projector, self.classes, self.drawn = encoder, projector, classes, negatives
        self.temperature, self.smoothing, self.views, self.raw = temperature, smoothing, tuple(views), raw
        wanted = min(MOST, max(LEAST, round(SHARE * classes.size))) if hardest is None else hardest
        self.count = min(wanted, classes.size - 1) if smoothing else 0
        self.hardest = Sharded(classes.size, self.count, dtype=torch.int64)

    def plan(self, epochs: float) -> Sequence[Phase]:
        scans = () if self.raw is None else (self.raw,)
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=self.views, scans=scans)]

    def enter(self, phase: Phase, corpus: Corpus) -> None:
        if self.raw is not None:
            network = nn.Sequential(self.encoder, self.projector)
            self.classes.start(corpus.encode(network, self.raw, mode="train"))  # running statistics would collapse them

    def before_update(self, progress: Progress) -> None:
        if self.count and progress.phase.begins_epoch:
            self.classes.catch_up()
            found = hardest_classes(self.classes.weights.own, self.count, sharded=True)
            self.hardest.own.copy_(found)

    def forward(self, batch: Batch) -> Step:
        h = {view: self.encoder(batch.views[view]) for view in self.views}
        x_bD = {view: unit(self.projector(rows)) for view, rows in h.items()}
        x_bVD = torch.stack([x_bD[view] for view in self.views], 1)
        hardest_bK = rows_of_shards(self.hardest.own, batch.index)
        target = ClassTarget(batch.index, hardest_bK, self.smoothing)
        among = None if self.drawn is None else self.among(batch.progress, gather_rows(hardest_bK))
        found = self.classes(x_bVD, target, temperature=self.temperature, among=among)
        keep = {"x": x_bVD, "log_sum": found.log_sum, "class": batch.index, "hardest": hardest_bK}
        return Step(loss=found.loss, metrics={"confidence": found.confidence}, keep=keep, features=h, projections=x_bD)

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        if progress.updated:
            target = ClassTarget(kept["class"], kept["hardest"], self.smoothing)
            among = None if self.drawn is None else self.among(progress, kept["hardest"])
            self.classes.update(
                kept["x"], kept["log_sum"], target, temperature=self.temperature, rate=progress.rate, among=among
            )  # all processes have all views: none needs the gradient of another one's weights

    def among(self, progress: Progress, hardest_BK: Tensor) -> Tensor:
        """The classes that take part in a step besides the batch's own: drawn ones, equal on all processes, and K."""
        drawn = torch.randperm(self.classes.size, generator=progress.generator("classes"))[: self.drawn]
        return torch.cat([drawn.to(hardest_BK), hardest_BK.flatten()])

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
