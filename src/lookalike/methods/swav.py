"""SwAV: unsupervised learning of visual features by contrasting cluster assignments. (Caron et al., 2020)

From each view of an image one must be able to say to which prototypes another view of it was assigned.

    prototypes c <- unit(c)                                                                       before each step
    z = unit(projector(encoder(view)))              views of one size in one forward; the projector sees all views
    s = z . c                                                                                               scores
    q = Sinkhorn(s / epsilon), over the batch and the queue: even over prototypes              codes, no gradient
    loss = mean over views with codes, and over the other views o, of - sum over k of q_k log softmax(s_o / t)_k
    queue <- z, from queue_epoch on; it takes part once it is full                                  after the loss

The queue holds one row per image for each view with codes, and serves small batches. Prototypes do not learn in the
first frozen_steps steps. B batch, D embedding, K prototypes, V views.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lookalike.functional import sinkhorn, unit
from lookalike.functional.collectives import global_mean
from lookalike.functional.crops import by_size
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Group, Method, Phase, Progress, Step
from lookalike.modules import Column, Prototypes, Queue, Rows

GLOBALS = ("global/1", "global/2")
LOCALS = ("local/1", "local/2", "local/3", "local/4", "local/5", "local/6")


class SwAV(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); prototypes: (B, D) -> (B, K).

    codes: views that are assigned; views: all, of which each predicts the codes of the others. queue: rows of earlier
    images for each view with codes, 0 for none (3840 where the batch is 256). The learning rate of the prototypes,
    their decay and all else is the recipe's. Raises ValueError where no view could predict another's code.
    """

    facts = Facts(
        target="even codes of the other views",
        memory="prototypes, queue",
        when="photos of many scales; small crops",
    )

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        prototypes: Prototypes,
        *,
        codes: Sequence[str] = GLOBALS,
        views: Sequence[str] = (*GLOBALS, *LOCALS),
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        queue: Rows = Rows(0),  # noqa: B008
        queue_epoch: float = 15.0,
        frozen_steps: int = 313,
    ) -> None:
        super().__init__()
        if not codes or not set(codes) <= set(views) or len(set(views)) < 2:
            raise ValueError(f"codes {list(codes)} must be among at least two views, and views are {list(views)}")
        self.encoder, self.projector, self.prototypes = encoder, projector, prototypes
        self.codes, self.views = tuple(codes), tuple(views)
        columns = {view: Column(prototypes.dim) for view in self.codes}
        self.queue = Queue(queue, columns=columns, init="empty") if queue else None
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations
        self.queue_epoch, self.frozen_steps = queue_epoch, frozen_steps

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector", "prototypes"), reads=self.views)]

    def groups(self) -> Mapping[str, Group]:
        return {"prototypes": Group(frozen_until=self.frozen_steps)}

    def before_update(self, progress: Progress) -> None:
        self.prototypes.normalize_()  # at the start of each step, while they are frozen too: official code

    def forward(self, batch: Batch) -> Step:
        h = by_size(self.encoder, batch.views, self.views)
        joined = unit(self.projector(torch.cat(list(h.values()))))  # all views share the projector's batch statistics
        z_BD = dict(zip(self.views, joined.chunk(len(self.views)), strict=True))
        scores_BK = dict(zip(self.views, self.prototypes(joined).chunk(len(self.views)), strict=True))
        log_p_BK = {view: (s_BK / self.temperature).log_softmax(1) for view, s_BK in scores_BK.items()}
        losses = []
        for view in self.codes:
            q_BK = sinkhorn(
                scores_BK[view], epsilon=self.epsilon, iterations=self.iterations, earlier=self.earlier(view)
            )
            losses += [-(q_BK * log_p_BK[other]).sum(1) for other in self.views if other != view]
        loss = global_mean(torch.stack(losses, 1)).mean()  # as many pairs for each code: official code's two means
        keep = {view: z_BD[view] for view in self.codes} if self.queue else {}
        return Step(loss=loss, keep=keep, features=h, projections=z_BD)

    def earlier(self, view: str) -> Tensor | None:
        """Scores of the queue's rows with the prototypes of now, once it is full."""
        if self.queue is None or not self.queue.full:
            return None
        with torch.no_grad():
            return self.prototypes(self.queue.rows(view))

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        if self.queue is not None and progress.run.epoch >= self.queue_epoch:
            self.queue.push(**kept)  # embeddings, not scores; this step's codes did not see them: official code

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
