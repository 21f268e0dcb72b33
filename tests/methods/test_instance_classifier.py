"""One-million-way instance classifier: closed forms, raw features, hardest classes, and PIC where alpha is 0."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lookalike.methods.instance_classifier import InstanceClassifier
from lookalike.methods.pic import PIC
from lookalike.modules import InstanceClasses
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
    assert method(batch(x)).loss.item() == pytest.approx(total / 6, abs=1e-12)


def test_smoothing_zero_is_pic_with_all_classes() -> None:
    weights, x = torch.randn(9, 4, dtype=F64), views()
    mine = classifier(weights, smoothing=0.0, temperature=0.2)
    classes = InstanceClasses(9, 4, weight_decay=0.1).double()
    classes.weights.own.copy_(weights)
    pic = PIC(identity(4), identity(4), classes, large_views=VIEWS, window=None)
    for method in (mine, pic):
        method.before_update(progress())
        for step in range(3):
            found = method(batch(x))
            method.after_update(progress(step, updated=True, rate=0.3), found.keep)
    assert torch.equal(mine.classes.weights.own, pic.classes.weights.own)
    assert mine(batch(x)).loss.item() == pic(batch(x)).loss.item()
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


@pytest.mark.parametrize(("size", "count"), [(3, 2), (60, 5), (200_000, 20), (3_000_000, 100)])
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
