"""ReLICv2: pushing the limits of self-supervised ResNets. (Tomasev, Bica, McWilliams et al., 2022)

Each view must find its image among a few others, and any two views must agree on how alike the others are.

    o = unit(projector(encoder(view)))              views of one size in one forward; the projector sees all views
    t = unit(target(large view))                                                                       no gradient
    p_lm = softmax over i and n other images j of o_l(i) . t_m(j) / temperature
    loss of a pair (l, m) = - log p_lm(i) + invariance * KL(p_lm | p_ml)
    loss = mean over images and pairs: each view as l, each large view as m, also m = l
    target <- momentum * target + (1 - momentum) * online                                            after the step

A reconstruction: the authors released the evaluation alone (google-deepmind/relicv2). What the paper's pseudo-code
is reported to say stands above; numbers that could not be verified are arguments, called our choice.
B batch, b own rows of it, D embedding, N = 1 + n candidates.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lookalike.functional import unit
from lookalike.functional.collectives import gather_rows, global_mean
from lookalike.functional.crops import by_size
from lookalike.functional.divergence import StopGradient, kl_divergence
from lookalike.functional.schedules import Cosine, Schedule
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Progress, Step
from lookalike.modules import MomentumEncoder

LARGE = ("large/1", "large/2", "large/3", "large/4")
SMALL = ("small/1", "small/2")


class ReLICv2(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D).

    temperature, invariance and others (n; None, or of a smaller batch: all) are our choice.
    stop_gradient "entropy" holds the term sum p log p of the KL, "first" holds p altogether, "none" nothing; that it is
    the first is our choice. A small view has no target: its partner is p of the large view after m (our choice).
    same_view: whether m = l takes part (the pseudo-code's divisor says so). Raises ValueError without a large view, and
    for a batch of one, which has nobody to tell an image from.
    """

    facts = Facts(
        target="the image's other view, and equal odds in all views",
        negatives="a few other images of the batch",
        networks="two, one by momentum",
        when="photos of objects; small crops",
    )
    reconstruction = "a reconstruction: the authors released the evaluation alone (docs/methods/relicv2.md)"

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        *,
        large_views: Sequence[str] = LARGE,
        small_views: Sequence[str] = SMALL,
        temperature: float = 0.2,
        invariance: float = 1.0,
        others: int | None = 10,
        stop_gradient: StopGradient = "entropy",
        same_view: bool = True,
        momentum: Schedule = Cosine(0.996, 1.0),  # noqa: B008
    ) -> None:
        super().__init__()
        self.large_views, self.views = tuple(large_views), (*large_views, *small_views)
        self.pairs = [(one, m) for one in self.views for m in self.large_views if same_view or one != m]
        if not self.pairs:
            raise ValueError(f"large_views {list(large_views)} make no pair: name two, or one with same_view=True")
        self.encoder, self.projector = encoder, projector
        self.target = MomentumEncoder(encoder, projector)
        self.temperature, self.invariance, self.others = temperature, invariance, others
        self.stop_gradient, self.momentum = stop_gradient, momentum

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=self.views)]

    def forward(self, batch: Batch) -> Step:
        h = by_size(self.encoder, batch.views, self.views)
        joined = unit(self.projector(torch.cat(list(h.values())))).chunk(len(h))
        o_bD = dict(zip(self.views, joined, strict=True))
        slow = by_size(self.target, batch.views, self.large_views)
        t_BD = {view: gather_rows(unit(rows)) for view, rows in slow.items()}
        index_bN = self.candidates(batch)
        log_p_bN = {(one, m): self.log_share(o_bD[one], t_BD[m][index_bN]) for one in self.views for m in t_BD}
        found = [-log_p_bN[pair][:, 0] for pair in self.pairs]
        apart = [
            kl_divergence(log_p_bN[pair], log_p_bN[self.partner(*pair)], stop_gradient=self.stop_gradient)
            for pair in self.pairs
        ]
        both_2 = global_mean(torch.stack([torch.stack(found, 1).mean(1), torch.stack(apart, 1).mean(1)], 1))
        loss = both_2[0] + self.invariance * both_2[1]
        return Step(loss=loss, metrics={"kl": both_2[1].detach()}, features=h, projections=o_bD)

    def candidates(self, batch: Batch) -> Tensor:
        """Rows (b, N) of the joined batch: the own one, then n others, the same number of rows ahead for each image.

        Of each image the others are a uniform choice without repetition, the same for all pairs of views.
        """
        position_B = gather_rows(batch.position)
        if len(position_B) < 2:
            raise ValueError("a batch of one image has no others to tell it from: use a larger batch")
        drawn = torch.randperm(len(position_B) - 1, generator=batch.progress.generator("others"))[: self.others]
        ahead_N = torch.cat([drawn.new_zeros(1), drawn + 1]).to(position_B)
        own_b = (position_B == batch.position[:, None]).int().argmax(1)
        return (own_b[:, None] + ahead_N) % len(position_B)

    def log_share(self, o_bD: Tensor, t_bND: Tensor) -> Tensor:
        """log p, (b, N)."""
        return (torch.einsum("bd,bnd->bn", o_bD, t_bND) / self.temperature).log_softmax(1)

    def partner(self, one: str, m: str) -> tuple[str, str]:
        """The pair whose distribution p is compared with: the views swapped, or a large view's where `one` is small."""
        if one in self.large_views:
            return m, one
        return self.large_views[(self.large_views.index(m) + 1) % len(self.large_views)], m

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        if progress.updated:
            self.target.follow(self.encoder, self.projector, momentum=self.momentum(progress.run))

    def uniform(self, rows: int) -> float:
        return math.log(rows if self.others is None else min(rows, 1 + self.others))

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
