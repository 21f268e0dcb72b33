"""DINO: emerging properties in self-supervised vision transformers. (Caron et al., 2021)

The student must give each view the distribution over prototypes that a slow copy of it, the teacher, gives a global
view of the same image. Centering and a low temperature keep the teacher from collapse. For ViT and ResNet.

    s = prototypes(unit(projector(encoder(view))))                   views of one size in one forward; |c| = 1
    t = slow prototypes(unit(teacher(global view)))                                                no gradient
    loss = mean over t and the other views s of - sum over k of softmax((t - center) / t_t)_k log softmax(s / t_s)_k
    center <- m_c * center + (1 - m_c) * mean of t                                                 after the loss
    teacher <- m * teacher + (1 - m) * student                             after the step, new weights of the student

The prototypes (the last layer) do not learn in the first frozen_epochs. B batch, D embedding, K prototypes.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lookalike.functional import unit
from lookalike.functional.collectives import global_mean
from lookalike.functional.crops import by_size
from lookalike.functional.schedules import Cosine, Ramp, Schedule
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Group, Method, Phase, Progress, Step
from lookalike.modules import MomentumEncoder, NormedPrototypes

GLOBALS = ("global/1", "global/2")
LOCALS = ("local/1", "local/2", "local/3", "local/4", "local/5", "local/6", "local/7", "local/8")


class DINO(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); prototypes: (B, D) -> (B, K).

    teacher_views: what the teacher sees; student_views: all; a view never meets itself. teacher_temperature: 0.04, or
    for long runs 0.04 to 0.07 over 30 epochs (official README). momentum: schedule of m, from 0.9995 for batches of
    256. The teacher is in training mode, with batch statistics of its own; joined: views of one size share theirs, as
    in the official code; without, as in lightly, each view has its own. Raises ValueError where no pair is left.
    """

    facts = Facts(
        target="the momentum encoder's centered softmax",
        networks="two, one by momentum",
        memory="prototypes",
        when="vision transformers; photos of many scales",
    )

    center: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        prototypes: NormedPrototypes,
        *,
        teacher_views: Sequence[str] = GLOBALS,
        student_views: Sequence[str] = (*GLOBALS, *LOCALS),
        temperature: float = 0.1,
        teacher_temperature: Ramp = Ramp(0.04, 0.04),  # noqa: B008
        momentum: Schedule = Cosine(0.996, 1.0),  # noqa: B008
        center_momentum: float = 0.9,
        frozen_epochs: float = 1.0,
        joined: bool = True,
    ) -> None:
        super().__init__()
        self.pairs = [(t, s) for t in teacher_views for s in student_views if t != s]
        if not self.pairs:
            raise ValueError(
                f"teacher_views {list(teacher_views)} and student_views {list(student_views)} make no pair of "
                "different views: name two"
            )
        self.encoder, self.projector, self.prototypes = encoder, projector, prototypes
        self.teacher, self.teacher_prototypes = MomentumEncoder(encoder, projector), MomentumEncoder(prototypes)
        self.register_buffer("center", torch.zeros(prototypes.count))
        self.teacher_views, self.student_views = tuple(teacher_views), tuple(student_views)
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.momentum, self.center_momentum, self.frozen_epochs = momentum, center_momentum, frozen_epochs
        self.joined = joined

    def plan(self, epochs: float) -> Sequence[Phase]:
        reads = tuple(dict.fromkeys((*self.teacher_views, *self.student_views)))
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector", "prototypes"), reads=reads)]

    def groups(self) -> Mapping[str, Group]:
        return {"prototypes": Group(frozen_epochs=self.frozen_epochs)}

    def forward(self, batch: Batch) -> Step:
        h = by_size(self.encoder, batch.views, self.student_views, joined=self.joined)
        p_BD = by_size(self.projector, h, self.student_views, joined=self.joined)
        unit_rows = unit(torch.cat(list(p_BD.values())))
        log_p = (self.prototypes(unit_rows) / self.temperature).log_softmax(1).chunk(len(h))
        log_p_BK = dict(zip(self.student_views, log_p, strict=True))
        slow = by_size(self.teacher, batch.views, self.teacher_views, joined=self.joined)
        z_BD = {view: unit(rows) for view, rows in slow.items()}
        q_BK = {view: self.target(rows, self.teacher_temperature(batch.progress.run)) for view, rows in z_BD.items()}
        losses = [-(q_BK[t] * log_p_BK[s]).sum(1) for t, s in self.pairs]
        loss = global_mean(torch.stack(losses, 1)).mean()
        projections = dict(zip(self.student_views, unit_rows.chunk(len(h)), strict=True))
        return Step(loss=loss, keep=z_BD, features=h, projections=projections)

    def target(self, z_BD: Tensor, temperature: float) -> Tensor:
        """softmax((t - center) / temperature), (B, K), with the center of the steps before: official code."""
        return ((self.teacher_prototypes(z_BD) - self.center) / temperature).softmax(1)

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        mean_1D = torch.cat([kept[view] for view in self.teacher_views]).mean(0, keepdim=True)
        mean_K = self.teacher_prototypes(mean_1D)[0]  # the mean of t: scores are linear in z
        self.center.lerp_(mean_K, 1 - self.center_momentum)  # before the teacher moves: its scores of this step
        if progress.updated:
            m = self.momentum(progress.run)
            self.teacher.follow(self.encoder, self.projector, momentum=m)  # after the step: official code
            self.teacher_prototypes.follow(self.prototypes, momentum=m)

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.teacher.copies[0]}  # the teacher is better at all times: paper, official evaluation
