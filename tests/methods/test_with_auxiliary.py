"""Tasks beside a method: closed forms, the base method untouched, where gradient goes, who sees what is turned."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from contracts.small_world import Net
from lookalike.functional.collectives import gather_rows, rank, world
from lookalike.methods.byol import BYOL
from lookalike.methods.method import Batch, Method
from lookalike.methods.moco import MoCo
from lookalike.methods.simclr import SimCLR
from lookalike.methods.swav import SwAV
from lookalike.methods.with_auxiliary import WithAuxiliary
from lookalike.modules import (
    CropOverlap,
    Jigsaw,
    MomentumEncoder,
    Prototypes,
    Queue,
    RelativePosition,
    Rotation,
    Rows,
    Task,
    mlp,
    with_batch_statistics,
)
from methods.fixtures import batch, progress

DIM, OUT, ROWS = 6, 4, 8


def base(name: str) -> Method:
    """A method on images of 8 pixels, in fp64, with the same first weights every time."""
    torch.manual_seed(3)
    encoder, projector, predictor = Net(DIM), mlp(DIM, [7, OUT]), mlp(OUT, [7, OUT])
    crops = ("global/1", "global/2", "local/1")
    method = {
        "simclr": lambda: SimCLR(encoder, projector),
        "moco": lambda: MoCo(encoder, projector, Queue(20, OUT, seed=1), shuffle=True),
        "byol": lambda: BYOL(encoder, projector, predictor),
        "swav": lambda: SwAV(encoder, projector, Prototypes(9, OUT), views=crops, queue=Rows(16), queue_epoch=0.0),
    }[name]()
    return with_batch_statistics(method, "global").double()


def around(name: str, task: Task, weight: float = 0.1, keep_statistics: bool = False) -> WithAuxiliary:
    task = with_batch_statistics(task, "global").double()
    return WithAuxiliary(base(name), {"task": (task, weight)}, keep_statistics=keep_statistics)


def images(method: Method, rows: int = ROWS, step: int = 0, size: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(5)
    views = {
        view: torch.randint(256, (rows, 3, *2 * [size // 2 if "local" in view else size]), generator=generator)
        for view in sorted(method.plan(1.0)[0].reads)
    }
    corners = {f"{view}/box": torch.rand(rows, 2, generator=generator).repeat(1, 2) for view in views}
    boxes = {name: box + torch.tensor([0, 0, 0.5, 0.5]) for name, box in corners.items()}
    return replace(batch({view: x.to(torch.uint8) for view, x in views.items()}, step), aux=boxes)


def gradients(method: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    method.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def of_method(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("method."): x for name, x in found.items() if name.startswith("method.")}


def demand_equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize(("views", "whole", "share"), [(2, 2 * 1.386294, 0.277259), (1, 1.386294, 0.138629)])
def test_equal_logits_give_the_log_of_four_for_each_view(views: int, whole: float, share: float) -> None:
    task = Rotation(DIM, views=views)
    nn.init.zeros_(task.head[-1].weight)
    nn.init.zeros_(task.head[-1].bias)
    method = around("simclr", task)
    step, alone = method(images(method)), base("simclr")(images(method))
    assert step.metrics["task_loss"].item() == pytest.approx(whole, abs=1e-6)
    assert (step.loss - alone.loss).item() == pytest.approx(share, abs=1e-6)
    assert method.uniform(ROWS) == pytest.approx(base("simclr").uniform(ROWS) + share, abs=1e-6)


def test_the_rotation_loss_is_that_of_a_loop() -> None:
    """Each image turned by numpy, in eval mode one by one, with the quarters that the batch draws."""
    method = around("simclr", Rotation(DIM), weight=0.3).eval()
    seen, task = images(method), method.tasks["task"]
    step, total, hits = method(seen), 0.0, 0
    for view, pixels in seen.views.items():
        quarters = (4 * seen.draw(f"rotation/{view}", 1)[:, 0]).long().tolist()
        for image, quarter in zip(pixels.numpy(), quarters, strict=True):
            turned = torch.from_numpy(np.rot90(image, quarter, (1, 2)).copy())[None]
            logits = task.head(method.method.encoder(turned))[0].tolist()
            total += (math.log(sum(math.exp(x) for x in logits)) - logits[quarter]) / ROWS
            hits += max(range(4), key=logits.__getitem__) == quarter
    expected = method.method(seen).loss.item() + 0.3 * total
    assert step.loss.item() == pytest.approx(expected, abs=1e-10)
    assert step.metrics["task_accuracy"].item() == pytest.approx(hits / (2 * ROWS))


@pytest.mark.parametrize("name", ["simclr", "moco", "byol", "swav"])
def test_a_weight_of_zero_is_the_method_to_the_bit(name: str) -> None:
    method, alone = around(name, Rotation(DIM), weight=0.0), base(name)
    assert method.plan(1.0)[0].trains == tuple(f"method.{part}" for part in alone.plan(1.0)[0].trains)
    for step in range(2):
        for one in (method, alone):
            one.before_update(progress(step))
        found, expected = method(images(method, step=step)), alone(images(alone, step=step))
        assert torch.equal(found.loss, expected.loss)
        demand_equal(of_method(gradients(method, found.loss)), gradients(alone, expected.loss))
        for one, its in ((method, found), (alone, expected)):
            one.after_update(progress(step, updated=True), its.keep)
        demand_equal(of_method(method.state_dict()), alone.state_dict())


@pytest.mark.parametrize("name", ["simclr", "moco", "byol", "swav"])
def test_the_method_learns_what_it_learns_alone_but_for_the_encoder(name: str) -> None:
    """At the backbone the task has no gradient for projector, predictor and prototypes."""
    method, alone = around(name, Rotation(DIM)), base(name)
    found = of_method(gradients(method, method(images(method)).loss))
    expected = gradients(alone, alone(images(alone)).loss)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value) == (not key.startswith("encoder.")), key
    of_head = [p.grad for p in method.tasks.parameters()]
    assert all(gradient is not None for gradient in of_head)
    assert all(gradient.abs().sum() > 0 for gradient in (of_head[0], of_head[-1]))


def test_at_the_projector_the_projector_learns_from_the_task() -> None:
    method, alone = around("byol", Rotation(OUT, attach="projector")), base("byol")
    found = of_method(gradients(method, method(images(method)).loss))
    expected = gradients(alone, alone(images(alone)).loss)
    moved = {key.split(".")[0] for key, value in expected.items() if not torch.allclose(found[key], value, atol=1e-12)}
    assert moved == {"encoder", "projector"}


@pytest.mark.parametrize("name", ["moco", "byol"])
def test_momentum_encoders_never_see_a_turned_image(name: str) -> None:
    method, shown = around(name, Rotation(DIM)), list[Tensor]()
    momentum = next(part for part in method.modules() if isinstance(part, MomentumEncoder))
    momentum.copies[0].register_forward_pre_hook(lambda module, given: shown.append(given[0]))
    seen = images(method)
    method(seen)
    known = {row.numpy().tobytes() for pixels in seen.views.values() for row in pixels}
    assert {row.numpy().tobytes() for pixels in shown for row in pixels} <= known


def test_only_views_of_full_size_are_turned_after_those_of_the_method() -> None:
    method, sizes = around("swav", Rotation(DIM)), list[int]()
    method.method.encoder.register_forward_pre_hook(lambda module, given: sizes.append(given[0].shape[-1]))
    method(images(method))
    assert sizes == [8, 4, 8, 8]


@pytest.mark.parametrize(("keep", "same"), [(True, True), (False, False)])
def test_turned_images_leave_a_trace_in_running_statistics_unless_told_not_to(keep: bool, same: bool) -> None:
    method, alone = around("simclr", Rotation(DIM), keep_statistics=keep), base("simclr")
    loss = method(images(method)).loss
    alone(images(alone))
    found, expected = method.method.encoder.norm, alone.encoder.norm
    assert torch.equal(found.running_mean, expected.running_mean) == same
    assert int(found.num_batches_tracked) == (1 if keep else 3)
    assert gradients(method, loss)["method.encoder.conv.weight"].abs().sum() > 0  # backward finds what it saved


def test_what_is_encoded_already_is_not_encoded_again() -> None:
    rows = list[int]()
    for name in ("simclr", "moco"):
        method = around(name, CropOverlap(DIM))
        method.method.encoder.register_forward_pre_hook(lambda module, given: rows.append(len(given[0])))
        step = method(images(method))
        assert {"task_loss", "task_accuracy"} <= step.metrics.keys()
    assert rows == [2 * ROWS, ROWS, ROWS]  # MoCo's encoder has not seen the key's view


def test_a_method_that_fills_its_queues_asks_nothing() -> None:
    method = around("simclr", Rotation(DIM))
    filling = replace(method.method(images(method)), loss=None)

    class Filling(SimCLR):
        def forward(self, batch: Batch):
            return filling

    lone = WithAuxiliary(Filling(Net(DIM), mlp(DIM, [OUT])), {"rotation": (Rotation(DIM), 1.0)})
    assert lone(images(lone)) is filling


def test_names_and_exports_are_those_of_the_method() -> None:
    method, alone = around("swav", Rotation(DIM)), base("swav")
    assert method.exports() == {"encoder": method.method.encoder}
    assert method.groups() == {f"method.{name}": group for name, group in alone.groups().items()}
    (phase,), (plain,) = method.plan(2.0), alone.plan(2.0)
    assert phase == replace(plain, trains=(*(f"method.{name}" for name in plain.trains), "tasks.task"))
    assert of_method(method.state_dict()).keys() == alone.state_dict().keys()


def test_crops_that_are_not_square_and_methods_without_an_encoder_are_refused() -> None:
    method = around("simclr", Rotation(DIM))
    seen = images(method)
    wide = replace(seen, views={view: x[:, :, :6] for view, x in seen.views.items()})
    with pytest.raises(ValueError, match="images of 6 x 8 pixels cannot be turned by a quarter: choose views with squ"):
        method(wide)
    with pytest.raises(
        ValueError, match="rotation reads the backbone, and WithAuxiliary has no 'encoder' among method"
    ):
        WithAuxiliary(method, {"rotation": (Rotation(DIM), 0.1)})


def one_step(name: str, rows: int) -> dict[str, Tensor]:
    """Loss, metrics, gradients averaged over processes and statistics of this process's share of `rows` images."""
    tasks = [Rotation(DIM), Jigsaw(DIM, orders=5, width=3), RelativePosition(DIM), CropOverlap(DIM)]
    torch.manual_seed(7)
    for task in tasks:
        with_batch_statistics(task, "global").double()
    method = WithAuxiliary(base(name), {type(task).__name__: (task, 0.5) for task in tasks})
    whole = images(method, rows, size=12)
    mine = torch.arange(rank(), rows, world())
    step = method(
        replace(
            whole,
            views={view: x[mine] for view, x in whole.views.items()},
            aux={key: x[mine] for key, x in whole.aux.items()},
            index=mine,
            position=mine,
        )
    )
    found = {f"gradient of {key}": value for key, value in gradients(method, step.loss).items()}
    if world() > 1:
        for value in found.values():
            dist.all_reduce(value)
            value /= world()
    method.after_update(progress(updated=True), {key: gather_rows(x.detach()) for key, x in step.keep.items()})
    return found | {"loss": step.loss.detach(), **step.metrics} | dict(method.named_buffers())


@pytest.mark.parametrize(
    ("name", "processes", "rows"), [("simclr", 2, 7), ("moco", 2, 8), ("byol", 2, 7), ("swav", 2, 8)]
)
def test_processes_equal_the_joined_batch(name: str, processes: int, rows: int, gloo) -> None:
    whole = one_step(name, rows)
    for share in gloo.run(processes, one_step, name, rows):
        assert share.keys() == whole.keys()
        for key, value in whole.items():
            torch.testing.assert_close(
                share[key], value, atol=1e-9, rtol=1e-12, msg=lambda text, key=key: f"{key}: {text}"
            )
