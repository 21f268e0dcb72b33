"""One-million-way instance classifier: closed forms, raw features, hardest classes, and PIC where alpha is 0."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lookalike.functional.collectives import all_sum, gather_rows, rank, world
from lookalike.methods.instance_classifier import InstanceClassifier
from lookalike.methods.pic import PIC
from lookalike.modules import InstanceClasses
from lookalike.training.checkpoint import Checkpoints
from methods.fixtures import batch, identity, progress

F64 = torch.float64
VIEWS = ("view/1", "view/2")


def classifier(weights: Tensor, **settings) -> InstanceClassifier:
    size, dim = weights.shape
    classes = InstanceClasses(size, dim, weight_decay=0.1).double()
    classes.weights.own.copy_(weights)
    return InstanceClassifier(identity(dim), identity(dim), classes, **settings)


def views(rows: int = 3, dim: int = 4) -> dict[str, Tensor]:
    return {view: torch.randn(rows, dim, dtype=F64) for view in VIEWS}


class Images:
    """A data set of vectors, as a method sees it in `enter`; it runs the real network in training mode."""

    def __init__(self, x_ND: Tensor) -> None:
        self.x_ND, self.size, self.asked = x_ND, len(x_ND), ("", "")

    def encode(self, module: nn.Module, view: str, mode: str = "eval") -> Iterator[tuple[Tensor, Tensor]]:
        self.asked = (view, mode)
        for index in torch.arange(self.size).split(5):
            with torch.no_grad():
                yield index, module.train(mode == "train")(self.x_ND[index])

    def pair(self, view: str, table: Tensor, own: float = 0.0) -> None:
        raise AssertionError("this method sets no partners")

    def generator(self, name: str) -> torch.Generator:
        raise AssertionError("this method draws nothing in enter")


@pytest.mark.parametrize(("smoothing", "expected"), [(0.0, 0.787339), (0.2, 0.937339)])
def test_smoothing_over_the_hardest(smoothing: float, expected: float) -> None:
    """Cosines 1, 1/2, 0, -1/2 at temperature 1; the two hardest are the next two."""
    angles = torch.tensor([1.0, 0.5, 0.0, -0.5], dtype=F64).arccos()
    method = classifier(
        torch.stack([angles.cos(), angles.sin()], 1), temperature=1.0, smoothing=smoothing, hardest=2, views=VIEWS[:1]
    )
    method.before_update(progress())
    found = method(batch({"view/1": torch.tensor([[1.0, 0.0]], dtype=F64)}))
    assert found.loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_all_alike_is_log_of_the_images(smoothing: float) -> None:
    method = classifier(torch.ones(50, 4, dtype=F64), smoothing=smoothing, hardest=3)
    method.before_update(progress())
    found = method(batch(dict.fromkeys(VIEWS, torch.ones(3, 4, dtype=F64))))
    assert found.loss.item() == pytest.approx(math.log(50), abs=1e-12)


def test_loss_by_loops() -> None:
    weights, x = torch.randn(9, 4, dtype=F64), views()
    method = classifier(weights, hardest=2)
    method.before_update(progress())
    total = 0.0
    for rows in x.values():
        for i, row in enumerate(rows):
            cosine = [float(row @ w) / float(row.norm() * w.norm()) for w in weights]
            near = [float(weights[i] @ w) / float(weights[i].norm() * w.norm()) for w in weights]
            two = sorted((j for j in range(9) if j != i), key=lambda j: -near[j])[:2]
            log_sum = math.log(sum(math.exp(c / 0.15) for c in cosine))
            total += log_sum - 0.8 * cosine[i] / 0.15 - sum(0.1 * cosine[j] / 0.15 for j in two)
    found = method(batch(x)).loss
    assert found.item() == pytest.approx(total / 6, abs=1e-12)
    found.backward()
    encoder, y = torch.eye(4, dtype=F64, requires_grad=True), torch.zeros(3, 9, dtype=F64)
    y.scatter_(1, method.hardest.own[:3], 0.1)[torch.arange(3), torch.arange(3)] = 0.8
    logits = normalize(torch.cat(list(x.values())) @ encoder.T, dim=1) @ normalize(weights, dim=1).T / 0.15
    torch.nn.functional.cross_entropy(logits, y.repeat(2, 1)).backward()
    torch.testing.assert_close(method.encoder.weight.grad, encoder.grad, rtol=1e-10, atol=1e-12)
    assert all(name.split(".")[0] in ("encoder", "projector") for name, _ in method.named_parameters())


@pytest.mark.parametrize("settings", [{"smoothing": 0.0}, {"hardest": 0}])
def test_no_smoothing_or_no_hardest_class_is_pic_with_all_classes(settings: dict[str, float]) -> None:
    weights, x = torch.randn(9, 4, dtype=F64), views()
    mine = classifier(weights, temperature=0.2, **settings)
    classes = InstanceClasses(9, 4, weight_decay=0.1).double()
    classes.weights.own.copy_(weights)
    pic = PIC(identity(4), identity(4), classes, large_views=VIEWS, window=None)
    for method in (mine, pic):
        method.before_update(progress())
        for step in range(3):
            found = method(batch(x))
            method.after_update(progress(step, updated=True, rate=0.3), found.keep)
    assert torch.equal(mine.classes.weights.own, pic.classes.weights.own)
    found, expected = mine(batch(x)).loss, pic(batch(x)).loss
    found.backward()
    expected.backward()
    assert torch.equal(found, expected)
    assert torch.equal(mine.encoder.weight.grad, pic.encoder.weight.grad)
    assert mine.plan(1.0)[0].order == pic.plan(1.0)[0].order


def test_weights_start_as_raw_features() -> None:
    """Without augmentation an image's first answer is its own class, with cosine 1."""
    x = torch.randn(11, 4, dtype=F64)
    method, images = classifier(torch.randn(11, 4, dtype=F64)), Images(x)
    method.classes.velocity.own.fill_(1.0)
    method.enter(method.plan(1.0)[0], images)
    assert images.asked == ("plain", "train")
    weights = method.classes.weights.own
    torch.testing.assert_close(normalize(weights, dim=1), normalize(x, dim=1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weights.norm(dim=1), torch.full((11,), 0.02, dtype=F64))  # as N(0, 0.01) in 4 numbers
    assert not method.classes.velocity.own.any()
    assert (normalize(x, dim=1) @ weights.T).argmax(1).tolist() == list(range(11))
    assert method(batch(dict.fromkeys(VIEWS, x))).loss.item() < math.log(11)
    before = weights.clone()
    classifier_without = classifier(before, raw=None)
    classifier_without.enter(method.plan(1.0)[0], images)
    assert torch.equal(classifier_without.classes.weights.own, before)


def test_the_hardest_are_found_anew_when_an_epoch_begins() -> None:
    """Ten steps an epoch (methods/fixtures.py)."""
    method = classifier(torch.randn(9, 4, dtype=F64), hardest=2)
    method.before_update(progress(0))
    first = method.hardest.own.clone()
    with torch.no_grad():
        method.classes.weights.own.copy_(torch.randn(9, 4, dtype=F64))
    method.before_update(progress(9))
    assert torch.equal(method.hardest.own, first)
    method.before_update(progress(10))
    assert not torch.equal(method.hardest.own, first)
    assert not (method.hardest.own == torch.arange(9)[:, None]).any()


@pytest.mark.parametrize(("size", "count"), [(3, 2), (60, 5), (200_000, 20), (1_100_000, 100)])
def test_how_many_are_hardest(size: int, count: int) -> None:
    method = InstanceClassifier(identity(1), identity(1), InstanceClasses(size, 1))
    assert method.hardest.own.shape == (size, count)


def test_forward_changes_nothing_and_only_an_update_moves_the_weights() -> None:
    method, x = classifier(torch.randn(9, 4, dtype=F64)), views()
    method.before_update(progress())
    before = {name: value.clone() for name, value in method.state_dict().items()}
    found = method(batch(x))
    method.after_update(progress(updated=False, rate=0.2), found.keep)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    method.after_update(progress(updated=True, rate=0.2), found.keep)
    assert not torch.equal(method.classes.weights.own, before["classes.weights.own"])
    assert method(batch(x)).loss < found.loss


def test_an_impossible_smoothing_is_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"smoothing is 1\.0"):
        classifier(torch.randn(9, 4, dtype=F64), smoothing=1.0)


def sampled(weights: Tensor, negatives: int, **settings) -> InstanceClassifier:
    classes = InstanceClasses(*weights.shape, weight_decay=0.1, sampled=True).double()
    classes.weights.write(torch.arange(len(weights)), weights)
    return InstanceClassifier(identity(4), identity(4), classes, negatives=negatives, **settings)


def stepped(method: InstanceClassifier, x: dict[str, Tensor], steps: int) -> list[float]:
    """The losses of some steps on the same views, with an epoch's beginning in between; the weights move."""
    losses = []
    for step in range(8, 8 + steps):
        method.before_update(progress(step))
        found = method(batch(x, step))
        method.after_update(progress(step, updated=True, rate=0.3), found.keep)
        losses.append(found.loss.item())
    return losses


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_all_classes_drawn_is_the_full_softmax(smoothing: float) -> None:
    weights, x = torch.randn(9, 4, dtype=F64), views()
    some = sampled(weights, 9, smoothing=smoothing, hardest=2)
    full = classifier(weights, smoothing=smoothing, hardest=2)
    for method in (some, full):
        method.before_update(progress())
    assert stepped(some, x, 5) == stepped(full, x, 5)
    assert torch.equal(some.classes.weights.own, full.classes.weights.own)
    assert torch.equal(some.hardest.own, full.hardest.own)


def test_loss_with_drawn_classes_by_loops() -> None:
    weights, x = torch.randn(30, 4, dtype=F64), views()
    method = sampled(weights, 6, hardest=2)
    method.before_update(progress(0))
    drawn = torch.randperm(30, generator=progress(3).generator("classes"))[:6].tolist()
    hardest = method.hardest.own[:3]
    part = {0, 1, 2, *drawn, *hardest.flatten().tolist()}
    assert len(part) < 15
    total = 0.0
    for rows in x.values():
        for i, row in enumerate(rows):
            cosine = [float(row @ w) / float(row.norm() * w.norm()) for w in weights]
            log_sum = math.log(sum(math.exp(cosine[j] / 0.15) for j in part))
            total += log_sum - 0.8 * cosine[i] / 0.15 - sum(0.1 * cosine[j] / 0.15 for j in hardest[i].tolist())
    assert method(batch(x, 3)).loss.item() == pytest.approx(total / 6, abs=1e-12)


def test_other_classes_are_drawn_in_other_steps() -> None:
    method, none = sampled(torch.randn(30, 4, dtype=F64), 6), torch.zeros(0, 5, dtype=torch.int64)
    first, again, later = (method.among(progress(step), none).tolist() for step in (0, 0, 1))
    assert first == again != later
    assert len(set(first)) == 6


def test_the_hardest_are_those_of_the_weights_by_now() -> None:
    """Classes that took no part for some steps have moved by momentum and decay, and only then turned."""
    method, x = sampled(torch.randn(30, 4, dtype=F64), 1, hardest=2), views()
    method.classes.velocity.own.normal_()
    method.before_update(progress(0))
    stepped(method, x, 2)  # no epoch begins
    matrix = method.classes.skipped.own.clone()
    by_now = matrix[:, :1, 0] * method.classes.weights.own + matrix[:, :1, 1] * method.classes.velocity.own
    assert not torch.equal(by_now, method.classes.weights.own)
    method.before_update(progress(10))
    torch.testing.assert_close(method.classes.weights.own, by_now, rtol=1e-12, atol=1e-12)
    cosine = normalize(by_now, dim=1) @ normalize(by_now, dim=1).T
    assert torch.equal(method.hardest.own, cosine.fill_diagonal_(-2).topk(2, dim=1).indices)


def test_drawn_classes_need_weights_that_keep_account() -> None:
    with pytest.raises(ValueError, match=r"^6 classes are to be drawn.*: build them with sampled=True"):
        classifier(torch.randn(9, 4, dtype=F64), negatives=6)


def on_a_rank(weights: Tensor, x: dict[str, Tensor]) -> tuple[list[float], Tensor]:
    """Losses of three steps, and all weights."""
    torch.manual_seed(0)
    method, own = sampled(weights, 6, hardest=2), slice(rank(), None, world())
    losses = []
    for step in range(3):
        method.before_update(progress(step))
        whole = batch(x, step)
        mine = replace(
            whole,
            views={view: rows[own] for view, rows in x.items()},
            index=whole.index[own],
            position=whole.position[own],
        )
        found = method(mine)
        kept = {name: gather_rows(rows) for name, rows in found.keep.items()}
        method.after_update(progress(step, updated=True, rate=0.3), kept)
        losses.append(found.loss.item())
    method.classes.catch_up()
    return losses, gather_rows(method.classes.weights.own)


def test_drawn_classes_on_two_processes(gloo) -> None:
    weights, x = torch.randn(30, 4, dtype=F64), views(4)
    losses, moved = on_a_rank(weights, x)
    for found, there in gloo.run(2, on_a_rank, weights, x):
        assert found == pytest.approx(losses, abs=1e-12)
        torch.testing.assert_close(there, moved, rtol=1e-12, atol=1e-12)


def learned(folder: Path | None, first: int, steps: int) -> tuple[list[float], dict[str, Tensor], int]:
    """Networks and classes by SGD on five of 13 images a step: losses, all that was learned, class numbers held here.

    Starts from a checkpoint of `folder` if it has one, and leaves one there.
    """
    checkpoints = None if folder is None else Checkpoints(folder)
    begun = checkpoints.load() if checkpoints and checkpoints.latest_step() else None
    images_NVD = torch.randn(13, 2, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
    method = InstanceClassifier(identity(4), identity(4), InstanceClasses(13, 4, weight_decay=0.1).double(), hardest=3)
    if begun:
        method.load_state_dict(begun.tensors)
    optimizer, losses = torch.optim.SGD(method.parameters(), lr=0.05), []
    for step in range(first, first + steps):
        order = torch.randperm(13, generator=torch.Generator().manual_seed(step))[:5]
        position = torch.arange(5)[rank() :: world()]
        x = dict(zip(VIEWS, images_NVD[order[position]].unbind(1), strict=True))
        method.before_update(progress(step))
        found = method(replace(batch(x, step), index=order[position], position=position))
        optimizer.zero_grad()
        found.loss.backward()
        for parameter in method.parameters():
            parameter.grad = all_sum(parameter.grad) / world()  # as DistributedDataParallel has it
        optimizer.step()
        kept = {name: gather_rows(rows.detach()) for name, rows in found.keep.items()}
        method.after_update(progress(step, updated=True, rate=0.3), kept)
        losses.append(found.loss.item())
    state = {name: value.clone() for name, value in method.state_dict().items()}
    if checkpoints and rank() == 0:
        checkpoints.save(first + steps, state, {})
    return losses, state, method.classes.weights.own.numel()


def test_twenty_steps_with_half_of_the_classes_each_are_those_of_one_process(gloo, tmp_path: Path) -> None:
    """And what two have saved is taken up by one and by three, whose shares of classes and of the batch are uneven."""
    losses, state, numbers = learned(None, 0, 20)
    later = learned(None, 0, 26)
    assert len(set(losses)) == 20
    for number, (found, there, held) in enumerate(gloo.run(2, learned, tmp_path, 0, 20)):
        assert found == pytest.approx(losses, abs=1e-9)
        assert held == numbers * (7 - number) / 13
        alike(there, state)
    shutil.copytree(tmp_path, tmp_path.with_name("again"))
    for found, there, _ in [learned(tmp_path, 20, 6), *gloo.run(3, learned, tmp_path.with_name("again"), 20, 6)]:
        assert found == pytest.approx(later[0][20:], abs=1e-9)
        alike(there, later[1])


def alike(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-9)
