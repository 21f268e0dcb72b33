"""EffSSL: towards efficient and effective self-supervised learning of visual representations. (Addepalli et al., 2022)

Any method beside tasks whose answers are certain: which way an image is turned is never wrong, as a negative may be.

    L = L_method(views) + sum over tasks of weight * L_task
    rotation: r ~ uniform {0, 1, 2, 3} for each image and view, independently
    L_rotation = sum over views of the mean of cross entropy(head(f(view turned by r quarters)), r)

A view is turned after all other changes, and a turned one is never compared with others: no invariance is asked for.
Only the encoder that learns sees it, after the views of the method, in a forward of its own (val-iisc/EffSSL).
B images, f the encoder, or encoder and projector.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lookalike.functional.collectives import global_mean
from lookalike.methods.around import Around
from lookalike.methods.method import Batch, Method, Phase, Step
from lookalike.methods.rows import full_size
from lookalike.modules import Scene, Task, statistics_kept
from lookalike.modules.auxiliary import STAGES


class WithAuxiliary(Around, Method):
    """method: any with an "encoder" that learns; tasks: name -> (task, weight), of rotation or of other puzzles.

    A weight of 0 leaves the task out: the run is that of the method, bit for bit. keep_statistics: turned images leave
    no trace in the encoder's running statistics (our choice; in the official code they do).
    Raises ValueError where the method has no encoder, or no projector that a task reads.
    """

    def __init__(
        self, method: Method, tasks: Mapping[str, tuple[Task, float]], *, keep_statistics: bool = False
    ) -> None:
        super().__init__()
        there = dict(method.named_children())
        for name, (task, _) in tasks.items():
            if missing := [stage for stage in STAGES[task.attach] if stage not in there]:
                raise ValueError(
                    f"{name} reads the {task.attach}, and {type(method).__name__} has no {missing[0]!r} "
                    f"among {', '.join(there)}: leave the task out"
                )
        self.method = method
        self.tasks = nn.ModuleDict({name: task for name, (task, _) in tasks.items()})
        self.learned = {name: pair for name, pair in tasks.items() if pair[1] > 0}
        self.keep_statistics = keep_statistics

    def plan(self, epochs: float) -> Sequence[Phase]:
        heads = [f"tasks.{name}" for name in self.learned]
        return [
            replace(phase, trains=(*(f"method.{name}" for name in phase.trains), *heads))
            for phase in self.method.plan(epochs)
        ]

    def forward(self, batch: Batch) -> Step:
        step = self.method(batch)
        if step.loss is None:
            return step  # the method is filling its queues: there is no update to be had
        loss, metrics = step.loss, dict(step.metrics)
        for name, (task, weight) in self.learned.items():
            found = task(self.scene(batch, step, task))
            losses = [global_mean(F.cross_entropy(one.logits, one.right, reduction="none")) for one in found]
            right = [global_mean((one.logits.argmax(1) == one.right).float()) for one in found]
            task_loss = torch.stack(losses).sum()  # over views: official code
            loss = loss + weight * task_loss
            metrics |= {f"{name}_loss": task_loss.detach(), f"{name}_accuracy": torch.stack(right).mean()}
        return replace(step, loss=loss, metrics=metrics)

    def scene(self, batch: Batch, step: Step, task: Task) -> Scene:
        """What a task sees: the first views of full size; small crops are not turned (official code)."""
        full = full_size(batch)[: task.views]
        encoder, *others = (self.method.get_submodule(stage) for stage in STAGES[task.attach])

        def project(h: Tensor) -> Tensor:
            for stage in others:
                h = stage(h)
            return h

        def encode(pixels: Tensor) -> Tensor:
            with statistics_kept(encoder) if self.keep_statistics else nullcontext():
                return project(encoder(pixels))

        def encoded(view: str) -> Tensor:
            return project(step.features[view]) if view in step.features else encode(batch.views[view])

        boxes = {view: batch.aux[f"{view}/box"] for view in full if f"{view}/box" in batch.aux}
        views = {view: batch.views[view] for view in full}
        return Scene(views=views, boxes=boxes, draw=batch.draw, encode=encode, encoded=encoded)

    def uniform(self, rows: int) -> float | None:
        of_method = self.method.uniform(rows)
        if of_method is None:
            return None
        return of_method + sum(w * task.questions * math.log(task.answers) for task, w in self.learned.values())
