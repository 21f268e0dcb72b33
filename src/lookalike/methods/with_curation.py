"""Batch curation for self-supervised contrastive learning. (Welle, Poklukar, Kragic, 2021)

Two crops of an image may show nothing in common: a batch in which partners are not nearer than strangers is drawn
again. A reconstruction: of the paper the abstract alone could be read.

    a, b = f(view 1), f(view 2) of each image            f in eval mode: no gradient, and BatchNorm learns nothing
    score = agreement(a, b), over the batch of all processes                                the lower the better
    drawn again until score <= threshold, up to `tries` times; if none is, the batch of least score is taken
    loss = the method's, of that batch

redraw "views": other views of the same images; "images": other images, from the reserve order. With scores of pairs,
only pairs that fail are replaced, by those that score better. b rows of this process, B of all, S scores: one, or B.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from lookalike.functional.agreement import Agreement
from lookalike.functional.boxes import overlap
from lookalike.functional.collectives import gather_rows, global_mean
from lookalike.methods.around import Around
from lookalike.methods.method import Batch, Method, Phase, Progress, Step
from lookalike.methods.rows import largest_first, mixed
from lookalike.modules import evaluating

JUDGED, ACCEPTED = "curation/judged", "curation/accepted"  # in Step.keep: how often, and whether in the end


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A batch, and for each of its rows how often it was judged and whether it is accepted."""

    batch: Batch
    judged: Tensor
    accepted: Tensor


class WithCuration(Around, Method):
    """method: any that reads two views; agreement: the score and its threshold, infinity for the method alone.

    tries: draws after the first, 0 only measures. through: what the compared views pass, by name. warmup: epochs
    without curation. cursor: where the reserve order stands; counts: rows judged and accepted so far.
    """

    reconstruction = "a reconstruction: of the paper the abstract alone could be read (docs/methods/curation.md)"

    cursor: Tensor
    counts: Tensor

    def __init__(
        self,
        method: Method,
        agreement: Agreement,
        *,
        tries: int = 3,
        redraw: Literal["views", "images"] = "views",
        through: Sequence[str] = ("encoder",),
        warmup: float = 0.0,
    ) -> None:
        super().__init__()
        self.method, self.agreement, self.tries = method, agreement, tries
        self.redraw, self.through, self.warmup = redraw, tuple(through), warmup
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))

    def plan(self, epochs: float) -> Sequence[Phase]:
        plan = self.method.plan(epochs)
        if lone := [phase.reads for phase in plan if len(phase.reads) < 2]:
            raise ValueError(f"curation compares two views of an image, and the method reads {lone[0]}: leave it out")
        return [replace(phase, trains=tuple(f"method.{name}" for name in phase.trains)) for phase in plan]

    def forward(self, batch: Batch) -> Step:
        never_b = torch.zeros_like(batch.index)
        choice, told = Choice(batch=batch, judged=never_b, accepted=never_b), dict[str, Tensor]()
        if self.agreement.threshold < torch.inf and batch.progress.run.epoch >= self.warmup:
            choice, score_S = self.choose(batch)
            told = {"curation_score": score_S.mean(), **self.told(batch, choice)}
        step = self.method(choice.batch)
        keep = {**step.keep, JUDGED: choice.judged, ACCEPTED: choice.accepted}
        return replace(step, metrics={**step.metrics, **told}, keep=keep)

    def choose(self, batch: Batch) -> tuple[Choice, Tensor]:
        """The first batch that is accepted, or the best, and its scores; in it each row, where pairs are judged."""
        places_B = gather_rows(batch.position)
        own_b = torch.searchsorted(places_B, batch.position)
        kept, score_S, judged_b = batch, self.score(batch), torch.ones_like(own_b)
        for attempt in range(1, self.tries + 1):
            failed_S = score_S > self.agreement.threshold  # equal on all processes, as the scores are
            if not failed_S.any():
                break
            failed_b = failed_S.expand(len(places_B))[own_b]
            other = mixed(kept, self.redrawn(batch, places_B, attempt), failed_b)
            its_S = self.score(other)
            better_S = failed_S & (its_S < score_S) & ~self.repeated(kept, other)
            kept = mixed(kept, other, better_S.expand(len(places_B))[own_b])
            score_S, judged_b = torch.where(better_S, its_S, score_S), judged_b + failed_b
        accepted_b = (score_S <= self.agreement.threshold).expand(len(places_B))[own_b]
        return Choice(batch=kept, judged=judged_b, accepted=accepted_b.long()), score_S

    def score(self, batch: Batch) -> Tensor:
        stages = nn.Sequential(*(self.method.get_submodule(name) for name in self.through))
        with evaluating(stages):
            one_BD, two_BD = (gather_rows(stages(batch.views[view])) for view in largest_first(batch)[:2])
        return self.agreement.score(one_BD, two_BD)

    def redrawn(self, batch: Batch, places_B: Tensor, attempt: int) -> Batch:
        """Another batch; every micro-batch and try has places of its own in the reserve order."""
        if self.redraw == "views":
            return batch.again(attempt)
        before = int(places_B[0]) * (self.tries - 1) + (attempt - 1) * len(places_B)
        return batch.reserve(int(self.cursor) + before)

    def repeated(self, kept: Batch, other: Batch) -> Tensor:
        """Whether a row would put an image into the batch twice; any row, unless pairs are judged.

        The order of the reserve knows nothing of the batch, and begins anew at its end. What a method writes to the
        row of an image must be one row. Micro-batches do not know one another.
        """
        if self.redraw == "views":
            return torch.tensor(False)
        kept_B, other_B = gather_rows(kept.index), gather_rows(other.index)
        again_B = (other_B[:, None] == other_B).tril(-1).any(1)
        if not self.agreement.pairs:
            return again_B.any()[None]
        return again_B | (other_B[:, None] == kept_B).fill_diagonal_(False).any(1)

    def told(self, drawn: Batch, choice: Choice) -> Mapping[str, Tensor]:
        """For the log: acceptance over the run, draws of this step, overlap of crops (IoU) as drawn and as chosen."""
        now = torch.stack([gather_rows(rows_b).sum() for rows_b in (choice.judged, choice.accepted)])
        judged, accepted = (self.counts + now).double()
        told = {"curation_acceptance": accepted / judged, "curation_draws": global_mean(choice.judged.double())}
        for name, batch in (("curation_overlap_drawn", drawn), ("curation_overlap", choice.batch)):
            boxes = [batch.aux[f"{view}/box"] for view in largest_first(batch)[:2] if f"{view}/box" in batch.aux]
            told |= {name: global_mean(overlap(*boxes))} if len(boxes) == 2 else {}
        return told

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        judged_B, accepted_B = kept[JUDGED], kept[ACCEPTED]
        self.counts += torch.stack([judged_B.sum(), accepted_B.sum()])
        self.cursor += int(self.redraw == "images" and bool((judged_B > 1).any())) * len(judged_B) * self.tries
        self.method.after_update(progress, {name: r for name, r in kept.items() if name not in (JUDGED, ACCEPTED)})
