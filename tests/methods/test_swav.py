"""SwAV: closed forms, the loss by loops, the authors' code on record, queue, freezing, what gets gradient."""

import math

import pytest
import torch
from torch import nn

from lookalike.functional.sinkhorn import sinkhorn
from lookalike.methods.swav import SwAV
from lookalike.modules import Prototypes, Rows
from methods.fixtures import batch, identity, progress

F64 = torch.float64
PAIR = ("global/1", "global/2")
FOUR = (*PAIR, "local/1", "local/2")


def prototypes_of(rows: torch.Tensor) -> Prototypes:
    prototypes = Prototypes(*rows.shape).double()
    with torch.no_grad():
        prototypes.weight.copy_(rows)
    return prototypes


def swav(rows: torch.Tensor, views=PAIR, **settings) -> SwAV:
    dim = rows.shape[1]
    return SwAV(identity(dim), identity(dim), prototypes_of(rows), views=views, **settings).double()


def wave(*shape: int, phase: float) -> torch.Tensor:
    """Numbers in [-1, 1] by a formula: the same everywhere."""
    i = torch.arange(math.prod(shape), dtype=F64)
    return torch.sin(0.7 * i * i + phase * i + phase).view(*shape)


def waves() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """z (4 views of 5 images, 3), prototypes (7, 3) and a queue (2 views, 10 rows, 3): rows of length one."""
    unit = nn.functional.normalize
    return (
        unit(wave(20, 3, phase=1.0), dim=1),
        unit(wave(7, 3, phase=2.0), dim=1),
        unit(wave(2, 10, 3, phase=3.0), dim=2),
    )


def slow(z: torch.Tensor, prototypes: torch.Tensor, memory=None, temperature=0.1, epsilon=0.05, iterations=3) -> float:
    """Plain loops over codes, other views, images and prototypes: z (V, B, D), memory (codes, M, D)."""
    V, B, K = len(z), len(z[0]), len(prototypes)
    total, pairs = 0.0, 0
    for i in (0, 1):
        rows = [*(memory[i] if memory is not None else []), *z[i]]
        Q = [[math.exp(float(row @ c) / epsilon) for row in rows] for c in prototypes]
        for _ in range(iterations):
            Q = [[value / sum(row) / K for value in row] for row in Q]
            sums = [sum(Q[k][b] for k in range(K)) for b in range(len(rows))]
            Q = [[value / sums[b] for b, value in enumerate(row)] for row in Q]
        for v in (v for v in range(V) if v != i):
            pairs += 1
            for b in range(B):
                logits = [float(z[v][b] @ c) / temperature for c in prototypes]
                log_sum = math.log(sum(map(math.exp, logits)))
                total -= sum(Q[k][len(rows) - B + b] * (logits[k] - log_sum) for k in range(K)) / B
    return total / pairs


def step_of(z: torch.Tensor, method: SwAV, names=FOUR):
    return method(batch(dict(zip(names, z.chunk(len(names)), strict=True))))


def test_two_images_and_two_prototypes() -> None:
    """Scores I and [[.8, .2], [.3, .7]], epsilon = t = 0.5: the code of the second view is [.731059, .268941]."""
    prototypes = torch.tensor([[1.0, 0.0, 0.8, 0.3], [0.0, 1.0, 0.2, 0.7]], dtype=F64)
    method = swav(prototypes, temperature=0.5, epsilon=0.5)
    assert step_of(torch.eye(4, dtype=F64), method, PAIR).loss.item() == pytest.approx(0.550603, abs=1e-6)


def test_images_that_look_alike_end_at_the_log_of_the_prototypes() -> None:
    """Equal scores, equal codes: log K, 8.0064 for 3000 prototypes."""
    for count, expected in ((7, math.log(7)), (3000, 8.0064)):
        method = swav(torch.eye(4, dtype=F64)[:1].expand(count, 4))
        z = torch.tensor([[0.0, 1.0, 0.0, 0.0]], dtype=F64).expand(10, 4)
        assert step_of(z, method, PAIR).loss.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5, "epsilon": 0.2, "iterations": 7}])
@pytest.mark.parametrize("names", [PAIR, FOUR])
def test_loss_by_loops(names, settings) -> None:
    z, prototypes, _ = waves()
    found = step_of(z, swav(prototypes, names, **settings), names).loss.item()
    assert found == pytest.approx(slow(torch.stack(z.chunk(len(names))), prototypes, **settings), abs=1e-10)


@pytest.mark.parametrize(
    ("queue", "loss", "by_embedding", "by_prototype"),
    [
        (False, 3.826659773371323, 2.326468915931103, -2.990204927413405),
        (True, 3.8179074924188114, 1.843377241501618, -2.374416164871038),
    ],
)
def test_loss_and_gradients_are_those_of_the_authors(queue, loss, by_embedding, by_prototype) -> None:
    """facebookresearch/swav at 06b1b7c, main_swav.py: the loss of `train`, in fp64, on the same waves.

    lightly 1.6.0 (SwaVLoss) gives the same two losses.
    """
    z, prototypes, memory = waves()
    method = swav(prototypes, FOUR, queue=Rows(10), queue_epoch=0.0)
    if queue:
        method.queue.push(**dict(zip(PAIR, memory, strict=True)))
    x = z.clone().requires_grad_()
    step = step_of(x, method)
    step.loss.backward()
    assert step.loss.item() == pytest.approx(loss, rel=1e-12)
    assert (method.prototypes.weight.grad * wave(7, 3, phase=6.0)).sum().item() == pytest.approx(by_prototype, rel=1e-9)
    free = wave(20, 3, phase=5.0)
    across = free - (free * z).sum(1, keepdim=True) * z  # along the sphere, where both gradients agree
    assert (x.grad * across).sum().item() == pytest.approx(by_embedding, rel=1e-9)


def test_gradient_reaches_encoder_and_prototypes_and_no_code() -> None:
    """The gradient is that of fixed codes: q enters as a constant."""
    z, prototypes, _ = waves()
    method = swav(prototypes, FOUR)
    step = step_of(z, method)
    step.loss.backward()
    other = swav(prototypes, FOUR)
    scores = [other.prototypes(rows) for rows in other.projector(other.encoder(z)).chunk(4)]
    codes = [sinkhorn(rows).detach() for rows in scores[:2]]
    pairs = [-(codes[i] * (scores[v] / 0.1).log_softmax(1)).sum(1).mean() for i in (0, 1) for v in range(4) if v != i]
    torch.stack(pairs).mean().backward()
    torch.testing.assert_close(method.prototypes.weight.grad, other.prototypes.weight.grad)
    assert method.encoder.weight.grad.abs().max() > 0


def test_order_of_images_of_prototypes_and_of_global_views_does_not_matter() -> None:
    z, prototypes, _ = waves()
    loss = step_of(z, swav(prototypes, FOUR)).loss.item()
    a, b, c, d = z.chunk(4)
    order = torch.tensor([3, 1, 4, 0, 2])
    mixed = torch.cat([rows[order] for rows in (b, a, d, c)])
    assert step_of(mixed, swav(prototypes.flip(0), FOUR)).loss.item() == pytest.approx(loss, rel=1e-12)


def test_lengths_of_embeddings_do_not_matter() -> None:
    z, prototypes, _ = waves()
    expected = step_of(z, swav(prototypes, FOUR)).loss.item()
    assert step_of(3.0 * z, swav(prototypes, FOUR)).loss.item() == pytest.approx(expected, rel=1e-12)


def test_prototypes_have_length_one_before_each_step_even_frozen_ones() -> None:
    method = swav(2.0 * torch.eye(3, dtype=F64), frozen_steps=10)
    method.before_update(progress(step=0))
    assert torch.equal(method.prototypes.weight, torch.eye(3, dtype=F64))
    assert method.groups()["prototypes"].frozen_until == 10


def test_the_queue_starts_at_its_epoch_and_takes_part_when_it_is_full() -> None:
    """Ten rows in batches of five, epochs of ten steps: pushed from step 20 on, seen from step 22 on."""
    z, prototypes, _ = waves()
    method, plain = swav(prototypes, FOUR, queue=Rows(10), queue_epoch=2.0), swav(prototypes, FOUR)
    expected = step_of(z, plain).loss.item()
    for step in (0, 19, 20, 21):
        found = step_of(z, method)
        assert found.loss.item() == pytest.approx(expected, rel=1e-12)
        before = step_of(nn.functional.normalize(wave(20, 3, phase=float(step)), dim=1), method).keep
        method.after_update(progress(step, updated=True), before)
    assert method.queue.full
    rows = torch.stack([method.queue.rows(view) for view in PAIR])
    torch.testing.assert_close(rows[:, 5:], torch.stack([before[view] for view in PAIR]))
    found = step_of(z, method).loss.item()
    assert found == pytest.approx(slow(torch.stack(z.chunk(4)), prototypes, memory=rows), abs=1e-10)
    assert abs(found - expected) > 1e-6


def test_scores_of_the_queue_are_those_of_the_prototypes_of_now() -> None:
    z, prototypes, memory = waves()
    method = swav(prototypes, FOUR, queue=Rows(10))
    method.queue.push(**dict(zip(PAIR, memory, strict=True)))
    before = step_of(z, method).loss.item()
    with torch.no_grad():
        method.prototypes.weight.copy_(prototypes.flip(1))
    moved = nn.functional.normalize(prototypes.flip(1), dim=1)
    found = step_of(z, method).loss.item()
    assert found == pytest.approx(slow(torch.stack(z.chunk(4)), moved, memory=memory), abs=1e-10)
    assert found != before


def test_without_a_queue_nothing_is_kept() -> None:
    z, prototypes, _ = waves()
    assert step_of(z, swav(prototypes, FOUR)).keep == {}
    assert not [name for name in swav(prototypes).state_dict() if name.startswith("queue")]


def test_views_of_one_size_go_through_the_encoder_together_and_all_through_the_projector() -> None:
    seen: dict[str, list[int]] = {"encoder": [], "projector": []}

    class Noted(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, x):
            seen[self.name].append(len(x))
            return x.flatten(1)[:, :3]

    method = SwAV(Noted("encoder"), Noted("projector"), prototypes_of(torch.eye(3, dtype=F64)), views=FOUR)
    sizes = dict.fromkeys(PAIR, 4) | dict.fromkeys(FOUR[2:], 2)
    method(batch({view: torch.randn(5, 3, size, size, dtype=F64) for view, size in sizes.items()}))
    assert seen == {"encoder": [10, 10], "projector": [20]}


@pytest.mark.parametrize("rows", [1, 2])
def test_fewer_images_than_prototypes_are_allowed(rows) -> None:
    """A batch of one has the uniform code; more prototypes than images share them."""
    z, prototypes, _ = waves()
    few = torch.cat([part[:rows] for part in z.chunk(4)])
    found = step_of(few, swav(prototypes, FOUR)).loss.item()
    assert found == pytest.approx(slow(torch.stack(few.chunk(4)), prototypes), abs=1e-10)


@pytest.mark.parametrize(("codes", "views"), [((), PAIR), (("global/3",), PAIR), (("global/1",), ("global/1",))])
def test_views_that_predict_nothing_are_refused(codes, views) -> None:
    with pytest.raises(ValueError, match="must be among at least two views"):
        swav(torch.eye(3, dtype=F64), views, codes=codes)
