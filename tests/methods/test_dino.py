"""DINO: closed forms, the loss by loops, the authors' code on record, center, teacher, freezing, no gradient."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lookalike.functional.schedules import Constant, Ramp
from lookalike.methods.dino import DINO
from lookalike.modules import NormedPrototypes
from methods.fixtures import batch, identity, progress

F64 = torch.float64
PAIR = ("global/1", "global/2")
FOUR = (*PAIR, "local/1", "local/2")


def dino(rows: torch.Tensor, student_views=PAIR, **settings) -> DINO:
    dim = rows.shape[1]
    prototypes = NormedPrototypes(*rows.shape).double()
    with torch.no_grad():
        prototypes.weight.copy_(rows)
    return DINO(identity(dim), identity(dim), prototypes, student_views=student_views, **settings).double()


def wave(*shape: int, phase: float) -> torch.Tensor:
    """Numbers in [-1, 1] by a formula: the same everywhere."""
    i = torch.arange(math.prod(shape), dtype=F64)
    return torch.sin(0.7 * i * i + phase * i + phase).view(*shape)


def waves() -> tuple[torch.Tensor, torch.Tensor]:
    """z (4 views of 5 images, 3) of length one, and prototypes (7, 3) of any."""
    return nn.functional.normalize(wave(20, 3, phase=1.0), dim=1), wave(7, 3, phase=2.0)


def step_of(z: torch.Tensor, method: DINO, names=FOUR):
    return method(batch(dict(zip(names, z.chunk(len(names)), strict=True))))


class Centered(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0)


def slow(
    z: torch.Tensor,
    prototypes: torch.Tensor,
    center: list[float],
    sharp: float = 0.04,
    soft: float = 0.1,
    teacher: torch.Tensor | None = None,
) -> float:
    """Plain loops over pairs of views, images and prototypes: z (V, B, D), the teacher's of the same if None."""
    teacher = z if teacher is None else teacher
    total, pairs = 0.0, 0
    unit = [c / c.norm() for c in prototypes]
    for t in (0, 1):
        for s in (s for s in range(len(z)) if s != t):
            pairs += 1
            for b in range(len(z[0])):
                target = [math.exp((float(teacher[t][b] @ c) - m) / sharp) for c, m in zip(unit, center, strict=True)]
                logits = [float(z[s][b] @ c) / soft for c in unit]
                log_sum = math.log(sum(map(math.exp, logits)))
                total -= sum(q / sum(target) * (x - log_sum) for q, x in zip(target, logits, strict=True)) / len(z[0])
    return total / pairs


def test_student_and_teacher_agree() -> None:
    """s = t = (1, 0), t_s = 0.1, t_t = 0.04: 4.54e-5; with the center t the teacher is uniform: 5.000045."""
    z = torch.tensor([[1.0, 0.0]], dtype=F64).repeat(2, 1)
    method = dino(torch.eye(2, dtype=F64))
    assert step_of(z, method, PAIR).loss.item() == pytest.approx(4.54e-5, rel=1e-3)
    method.center.copy_(torch.tensor([1.0, 0.0]))
    assert step_of(z, method, PAIR).loss.item() == pytest.approx(5.000045, abs=1e-6)


def test_uniform_teacher_and_student_lose_the_log_of_the_prototypes() -> None:
    method = dino(torch.ones(9, 3, dtype=F64))
    assert step_of(waves()[0], method, PAIR).loss.item() == pytest.approx(math.log(9))


@pytest.mark.parametrize("joined", [True, False])
def test_views_share_their_batch_statistics_or_each_has_its_own(joined) -> None:
    """Encoder and projector only center: by the mean of all views of the student, all of the teacher; or of each."""
    z, prototypes = waves()
    method = dino(prototypes, FOUR, joined=joined)
    method.encoder, method.projector, method.teacher.copies[1] = Centered(), Centered(), Centered()
    student, teacher = z.view(4, 5, 3), z[:10].view(2, 5, 3)
    axes = (0, 1) if joined else 1
    student, teacher = (nn.functional.normalize(x - x.mean(axes, keepdim=True), dim=2) for x in (student, teacher))
    expected = slow(student, prototypes, [0.0] * 7, teacher=teacher)
    assert step_of(z, method).loss.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.3, "teacher_temperature": Ramp(0.2, 0.2)}])
@pytest.mark.parametrize("names", [PAIR, FOUR])
def test_loss_by_loops(names, settings) -> None:
    z, prototypes = waves()
    method = dino(prototypes, names, **settings)
    method.center.copy_(wave(7, phase=8.0) / 10)
    ends = {"soft": 0.3, "sharp": 0.2} if settings else {}
    expected = slow(torch.stack(z.chunk(len(names))), prototypes, method.center.tolist(), **ends)
    assert step_of(z, method, names).loss.item() == pytest.approx(expected, abs=1e-10)


def test_losses_gradients_and_centers_are_those_of_the_authors() -> None:
    """facebookresearch/dino at 7c446df, main_dino.py: DINOLoss(7, 4, 0.04, 0.07, 3, 10) in epochs 0, 1, 2 and 5.

    The gradient by z along the sphere; the center by its first and last number after each.
    """
    z, prototypes = waves()
    record = [
        (0, 3.3446727567911467, 1.8731700733850734, 0.0009281109709549469, -0.0064917085869231495),
        (1, 3.36363453535593, 1.8943163199121869, 0.001763410844814399, -0.012334246315153985),
        (2, 3.3926886589264753, 1.9226160929121825, 0.0025151807312879058, -0.017592530270561735),
        (5, 3.3953085541311174, 1.9375306378534205, 0.0031917736291140622, -0.02232498583042871),
    ]
    across = wave(20, 3, phase=5.0)
    across -= (across * z).sum(1, keepdim=True) * z
    center = torch.zeros(7, dtype=F64)
    for epoch, loss, gradient, first, last in record:
        method = dino(prototypes, FOUR, teacher_temperature=Ramp(0.04, 0.07, 3))
        method.center.copy_(center)
        x = z.clone().requires_grad_()
        step = method(replace(batch(dict(zip(FOUR, x.chunk(4), strict=True))), progress=progress(10 * epoch)))
        step.loss.backward()
        assert step.loss.item() == pytest.approx(loss, rel=1e-12)
        assert (x.grad * across).sum().item() == pytest.approx(gradient, rel=1e-9)
        method.after_update(progress(10 * epoch, updated=True), {k: rows.detach() for k, rows in step.keep.items()})
        center = method.center.clone()
        assert (center[0].item(), center[-1].item()) == (pytest.approx(first, rel=1e-9), pytest.approx(last, rel=1e-9))


def test_no_gradient_reaches_teacher_or_center() -> None:
    z, prototypes = waves()
    method = dino(prototypes, FOUR)
    step_of(z, method).loss.backward()
    for part in (method.encoder, method.projector, method.prototypes):
        assert part.weight.grad.abs().max() > 0
    for part in (method.teacher, method.teacher_prototypes):
        assert all(p.grad is None and not p.requires_grad for p in part.parameters())
    assert method.prototypes.length.grad is None


def test_the_center_moves_after_the_loss_with_the_teacher_of_this_step() -> None:
    z, prototypes = waves()
    method = dino(prototypes, FOUR, momentum=Constant(0.0), center_momentum=0.75)
    kept = step_of(z, method).keep
    assert torch.equal(method.center, torch.zeros(7, dtype=F64))
    with torch.no_grad():
        method.prototypes.weight.neg_()  # the step that the optimizer made
    method.after_update(progress(updated=True), kept)
    seen = z[:10] @ nn.functional.normalize(prototypes, dim=1).T
    torch.testing.assert_close(method.center, 0.25 * seen.mean(0))


def test_the_teacher_moves_after_the_step_and_only_then() -> None:
    z, prototypes = waves()
    method = dino(prototypes, FOUR, momentum=Constant(0.996))
    kept = step_of(z, method).keep
    with torch.no_grad():
        method.encoder.weight.zero_()
        method.prototypes.weight.zero_()
    method.before_update(progress())
    method.after_update(progress(updated=False), kept)
    slow_encoder, slow_prototypes = method.teacher.copies[0].weight, method.teacher_prototypes.copies[0].weight
    torch.testing.assert_close(slow_encoder, torch.eye(3, dtype=F64))
    method.after_update(progress(updated=True), kept)
    torch.testing.assert_close(slow_encoder, 0.996 * torch.eye(3, dtype=F64))
    torch.testing.assert_close(slow_prototypes, 0.996 * prototypes)


def test_the_teacher_sees_global_views_alone() -> None:
    z, prototypes = waves()
    assert set(step_of(z, dino(prototypes, FOUR)).keep) == set(PAIR)


def test_prototypes_are_frozen_in_the_first_epoch() -> None:
    group = dino(waves()[1]).groups()["prototypes"]
    assert [group.frozen(progress(step).run) for step in (0, 9, 10, 50)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("rise", "expected"),
    [
        (Ramp(0.04, 0.07, 4), [0.04, 0.05, 0.06, 0.07, 0.07, 0.07]),
        (Ramp(0.04, 0.07, 1), [0.04, 0.07, 0.07, 0.07, 0.07, 0.07]),
        (Ramp(0.04, 0.07), [0.07] * 6),
    ],
)
def test_the_temperature_of_the_teacher_rises_by_epochs(rise, expected) -> None:
    """numpy.linspace(0.04, 0.07, epochs), then 0.07; constant within an epoch of ten steps."""
    for offset in (0, 9):
        assert [rise(progress(10 * epoch + offset).run) for epoch in range(6)] == pytest.approx(expected)


def test_lengths_of_embeddings_and_prototypes_do_not_matter() -> None:
    z, prototypes = waves()
    expected = step_of(z, dino(prototypes, FOUR)).loss.item()
    assert step_of(3.0 * z, dino(0.2 * prototypes, FOUR)).loss.item() == pytest.approx(expected, rel=1e-12)


def test_views_that_make_no_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="make no pair of different views"):
        dino(waves()[1], ("global/1",), teacher_views=("global/1",))


def test_the_teacher_is_what_outlives_training() -> None:
    method = dino(waves()[1])
    assert method.exports()["encoder"] is method.teacher.copies[0]
