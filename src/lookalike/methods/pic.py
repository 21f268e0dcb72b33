"""PIC: parametric instance classification for unsupervised visual feature learning. (Cao et al., 2020)

Every image is a class of its own with a trainable weight; one view, one branch, no momentum encoder and no queue.

    x = unit(projector(encoder(view)))                        of every crop
    s_j = x . unit(w_j) / t                                   for all images j, or for sampled ones
    loss = mean of cross-entropy(s, own image) over all crops
    w <- SGD with momentum and weight decay, on large crops only: small ones do not move the weights

Sliding window: the same part of the data is visited several times in a row and then not for a long time, so that a
class is met again before its weight is forgotten. Sampling: only recently visited classes take part; the others still
feel momentum and decay, which is made up for exactly when their turn comes.
b samples, V crops of each, D embedding, N images.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lookalike.functional import Classified, ClassTarget, unit
from lookalike.functional.order import Shuffle, Sliding, Window
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Progress, Step
from lookalike.modules import Column, InstanceClasses, Queue


class PIC(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); classes: one weight of D numbers per image.

    window, shift: images in a window and between windows (None: whole epochs in random order); order says whether the
    window slides over the data set, as the paper has it, or as the released sampler moves it (functional.order).
    recent: how many of the most recently visited images alone take part (the paper's negative sampling), None for all;
    the classes are then built with sampled=True. large_views: views that move the weights; small_views: that do not.
    """

    facts = Facts(
        target="the image's own class",
        negatives="one class per image",
        memory="a weight per image",
        when="each image matters; one view per step",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        classes: InstanceClasses,
        *,
        temperature: float = 0.2,
        window: int | None = 131072,
        shift: int = 16384,
        order: Sliding = "sliding",
        recent: int | None = None,
        large_views: Sequence[str] = ("large/1",),
        small_views: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if recent is not None and classes.skipped is None:
            raise ValueError(
                f"{recent} recent classes are to take part, and classes are not sampled: build them with sampled=True "
                "(in a recipe method.classes.sampled=true), or leave recent at None"
            )
        self.encoder, self.projector, self.classes = encoder, projector, classes
        self.temperature, self.large, self.small = temperature, tuple(large_views), tuple(small_views)
        self.order = Shuffle() if window is None else Window(size=window, shift=shift, mode=order)
        visited = {"class": Column(dtype=torch.int64)}
        self.visited = None if recent is None else Queue(recent, columns=visited, init="empty")

    def plan(self, epochs: float) -> Sequence[Phase]:
        reads = (*self.large, *self.small)
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=reads, order=self.order)]

    def forward(self, batch: Batch) -> Step:
        crops = (*self.large, *self.small)
        h = {view: self.encoder(batch.views[view]) for view in crops}  # a forward each: official code
        x_bD = {view: unit(self.projector(rows)) for view, rows in h.items()}
        x_bVD = torch.stack([x_bD[view] for view in self.large], 1)
        found = self.classify(x_bVD, batch.index, learns=True)
        loss, share = found.loss, len(self.large) / len(crops)
        if self.small:
            small_bVD = torch.stack([x_bD[view] for view in self.small], 1)
            loss = share * loss + (1 - share) * self.classify(small_bVD, batch.index, learns=False).loss
        keep = {"x": x_bVD, "log_sum": found.log_sum, "class": batch.index}
        return Step(loss=loss, metrics={"confidence": found.confidence}, keep=keep, features=h, projections=x_bD)

    def classify(self, x_bVD: Tensor, index_b: Tensor, *, learns: bool) -> Classified:
        """Cross-entropy of crops that share a size; learns: the weights will be moved by them."""
        target, among = ClassTarget(index_b), self.among()
        return self.classes(x_bVD, target, temperature=self.temperature, among=among, learns=learns)

    def among(self) -> Tensor | None:
        """The classes that take part besides the batch's own; None: all."""
        return None if self.visited is None else self.visited.rows()

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        if not progress.updated:
            return
        crops = len(self.large) + len(self.small)
        self.classes.update(  # with the weights of the forward: one SGD moves encoder and classes, official code
            kept["x"],
            kept["log_sum"],
            ClassTarget(kept["class"]),
            temperature=self.temperature,
            rate=progress.rate,
            share=len(self.large) / crops,
            among=self.among(),
        )
        if self.visited is not None:
            self.visited.push(**{"class": kept["class"]})  # after the update: both sweeps see the same classes

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
