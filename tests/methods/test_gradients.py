"""Of every method: what its plan trains gets gradient, what its loss holds constant gets none, and no state has one."""

from dataclasses import replace

import pytest
import torch

from lookalike.api.tiny import Vectors
from lookalike.functional.schedules import Clock
from lookalike.methods.dino import DINO
from lookalike.methods.method import Method, Phase, Step
from lookalike.methods.swav import SwAV
from lookalike.modules import MomentumEncoder, NormedPrototypes, Prototypes
from lookalike.training.optimizers import Optimization, hide_frozen
from methods.fixtures import batch, identity, progress
from methods.test_ranks import DERIVED, METHODS, build

MOMENT = progress(updated=True, rate=0.1)
KEYS = {"key", "weak"}  # views that a momentum encoder alone sees, where there is one


def started(name: str, number: int) -> tuple[Method, Phase]:
    """The method at the start of a phase."""
    method = build(name)
    phase = method.plan(1.0)[number]
    method.prepare(phase, Vectors(next(method.parameters())))
    return method, phase


def backward(method: Method, views: dict[str, torch.Tensor]) -> Step:
    step = method(replace(batch(views, labels=torch.arange(6) % 3), progress=MOMENT))
    step.loss.backward()
    return step


@pytest.mark.parametrize("name", [*METHODS, *DERIVED])
def test_what_learns_gets_gradient_and_nothing_else(name: str) -> None:
    """In each phase, the views asked too: momentum encoders, a frozen side and what they see have none at all."""
    for number in range(len(build(name).plan(1.0))):
        method, phase = started(name, number)
        views = {view: torch.randn(6, 6, dtype=torch.float64, requires_grad=True) for view in phase.reads}
        step = backward(method, views)
        trains = tuple(f"{part}." for part in phase.trains)
        learning = {n for n, p in method.named_parameters() if p.requires_grad and n.startswith(trains)}
        assert {n for n, p in method.named_parameters() if p.grad is not None} == learning
        for part in phase.trains:
            gradients = [p.grad for p in method.get_submodule(part).parameters() if p.requires_grad]
            assert not gradients or any(gradient.any() for gradient in gradients), part
        slow = any(isinstance(part, MomentumEncoder) for part in method.modules())
        assert {view for view, x in views.items() if x.grad is None} == (KEYS & views.keys() if slow else set())
        method.after_update(MOMENT, step.keep)  # with what the step kept as it is, graph and all
        assert not any(buffer.requires_grad for buffer in method.buffers())


@pytest.mark.parametrize(
    ("method", "until"),
    [
        (SwAV(identity(), identity(), Prototypes(9, 2).double(), frozen_steps=7), 7),
        (DINO(identity(), identity(), NormedPrototypes(9, 2).double(), frozen_epochs=1.0), 10),
    ],
)
def test_frozen_prototypes_have_no_gradient_when_the_step_is_made(method: Method, until: int) -> None:
    """The optimizer finds None in the first steps, and so neither decay nor momentum moves them."""
    views = {view: torch.randn(6, 2, dtype=torch.float64) for view in method.plan(1.0)[0].reads}
    optimization = Optimization(name="sgd", rate=0.1)
    optimizer = optimization.build({n: p for n, p in method.named_parameters() if p.requires_grad}, method)
    for step in (0, until - 1, until):
        optimizer.zero_grad()
        backward(method.double(), views)
        hide_frozen(optimizer, Clock(step=step, steps=100, epoch=step / 10, epochs=10.0))
        assert (method.prototypes.weight.grad is None) == (step < until)
        assert method.encoder.weight.grad.any()
