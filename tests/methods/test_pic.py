"""PIC: closed forms, a loop, crops that do and do not move the weights, sampling, what moves and when."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from lookalike.functional.order import Shuffle, Window
from lookalike.methods.pic import PIC
from lookalike.modules import InstanceClasses
from methods.fixtures import batch, identity, progress

F64 = torch.float64


def pic(weights: Tensor, sampled: bool = False, **settings) -> PIC:
    """On vectors that pass through, with given class weights; weight decay 0.1."""
    size, dim = weights.shape
    classes = InstanceClasses(size, dim, weight_decay=0.1, sampled=sampled).double()
    classes.weights.own.copy_(weights)
    return PIC(identity(dim), identity(dim), classes, **settings)


def steps(method: PIC, count: int = 4, rate: float = 0.2) -> PIC:
    """`count` steps on views of samples 0, 1, 2, by the class weights alone."""
    for number in range(count):
        views = {view: views_of(number, view) for view in (*method.large, *method.small)}
        found = method(batch(views))
        method.after_update(progress(number, updated=True, rate=rate), found.keep)
    return method


def views_of(number: int, view: str) -> Tensor:
    return torch.randn(3, 4, dtype=F64, generator=torch.Generator().manual_seed(10 * number + len(view)))


@pytest.mark.parametrize(("row", "expected"), [(0, 0.00676044), (1, 5.00676044)])
def test_three_classes_whose_lengths_do_not_matter(row: int, expected: float) -> None:
    weights = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-3.0, 0.0]], dtype=F64)
    other = weights[[row, 1 - row, 2]]  # the sample is number 0
    found = pic(other)(batch({"large/1": torch.tensor([[1.0, 0.0]], dtype=F64)}))
    assert found.loss.item() == pytest.approx(expected, abs=1e-8)


def test_orthonormal_classes() -> None:
    found = pic(torch.eye(5, dtype=F64))(batch({"large/1": torch.eye(5, dtype=F64)}))
    assert found.loss.item() == pytest.approx(0.026595, abs=1e-6)
    assert found.metrics["confidence"].item() == pytest.approx(math.exp(-0.026595), abs=1e-6)


def test_a_high_temperature_is_log_of_the_images() -> None:
    method = pic(torch.randn(9, 4, dtype=F64), temperature=1e6)
    assert method(batch({"large/1": views_of(0, "a")})).loss.item() == pytest.approx(math.log(9), abs=1e-5)


def test_loss_by_loops() -> None:
    weights, x = torch.randn(9, 4, dtype=F64), views_of(0, "large/1")
    total = 0.0
    for number, row in enumerate(x):
        logits = [float(row @ w) / float(row.norm() * w.norm()) / 0.2 for w in weights]
        total += math.log(sum(map(math.exp, logits))) - logits[number]
    assert pic(weights)(batch({"large/1": x})).loss.item() == pytest.approx(total / 3, abs=1e-12)


def dense(weights: Tensor, small: bool, count: int = 4, rate: float = 0.2) -> tuple[Tensor, float]:
    """Weights after the steps and the last loss, by torch's SGD on full matrices; small crops see detached weights."""
    learned = nn.Parameter(weights.clone())
    optimizer = torch.optim.SGD([learned], lr=rate, momentum=0.9, weight_decay=0.1)
    for number in range(count):
        optimizer.zero_grad()
        crops = [(views_of(number, "large/1"), learned)]
        crops += [(views_of(number, "small/10"), learned.detach())] * small
        logits = torch.cat([normalize(x, dim=1) @ normalize(w, dim=1).T / 0.2 for x, w in crops])
        loss = cross_entropy(logits, torch.arange(3).repeat(len(crops)))
        loss.backward()
        optimizer.step()
    return learned.detach(), loss.item()


@pytest.mark.parametrize("small", [False, True])
def test_weights_move_as_by_a_dense_sgd_and_small_crops_do_not_move_them(small: bool) -> None:
    weights = torch.randn(9, 4, dtype=F64)
    method = steps(pic(weights, small_views=("small/10",) if small else ()), count=3)
    views = {view: views_of(3, view) for view in (*method.large, *method.small)}
    found = method(batch(views))
    method.after_update(progress(3, updated=True, rate=0.2), found.keep)
    expected, loss = dense(weights, small)
    torch.testing.assert_close(method.classes.weights.own, expected, rtol=1e-12, atol=1e-12)
    assert found.loss.item() == pytest.approx(loss, abs=1e-12)


def test_forward_changes_nothing_and_a_dropped_or_filling_step_moves_nothing() -> None:
    method = pic(torch.randn(9, 4, dtype=F64), sampled=True, recent=4)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    found = method(batch({"large/1": views_of(0, "a")}))
    method.after_update(progress(updated=False, rate=0.2), found.keep)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


@pytest.mark.parametrize("small", [(), ("small/10", "small/200")])
def test_gradient_reaches_the_networks_from_all_crops_and_no_parameter_is_a_class(small: tuple[str, ...]) -> None:
    """That of one softmax over all crops; the projector stays the identity here."""
    weights = torch.randn(9, 4, dtype=F64)
    method, encoder = pic(weights, small_views=small), torch.eye(4, dtype=F64, requires_grad=True)
    views = {view: views_of(0, view) for view in ("large/1", *small)}
    method(batch(views)).loss.backward()
    x = normalize(torch.cat(list(views.values())) @ encoder.T, dim=1)
    cross_entropy(x @ normalize(weights, dim=1).T / 0.2, torch.arange(3).repeat(len(views))).backward()
    torch.testing.assert_close(method.encoder.weight.grad, encoder.grad, rtol=1e-10, atol=1e-12)
    assert all(not name.startswith("classes") for name, _ in method.named_parameters())
    assert not any(buffer.requires_grad for buffer in method.buffers())


def test_sampling_all_recent_images_is_the_full_softmax() -> None:
    weights = torch.randn(9, 4, dtype=F64)
    sampled, full = pic(weights, sampled=True, recent=9), pic(weights)
    sampled.visited.push(**{"class": torch.arange(9)})
    for method in (sampled, full):
        steps(method, count=1)
    for name in ("weights", "velocity"):
        one, other = (method.classes.get_submodule(name).own for method in (sampled, full))
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_recent_images_alone_take_part() -> None:
    weights = torch.randn(9, 4, dtype=F64)
    method, x = pic(weights, sampled=True, recent=2), views_of(0, "a")
    method.visited.push(**{"class": torch.tensor([8, 5, 7])})  # 8 is no longer recent
    few = weights[[0, 1, 2, 5, 7]]
    expected = pic(few)(batch({"large/1": x})).loss
    found = method(batch({"large/1": x}))
    assert found.loss.item() == pytest.approx(expected.item(), abs=1e-12)
    method.after_update(progress(updated=True), found.keep)
    assert sorted(method.visited.rows().tolist()) == [1, 2]


def test_sampling_needs_classes_that_keep_account() -> None:
    with pytest.raises(ValueError, match=r"4 recent classes .*method\.classes\.sampled=true"):
        pic(torch.randn(9, 4, dtype=F64), recent=4)


def test_the_order_is_a_window_or_whole_epochs() -> None:
    weights = torch.randn(9, 4, dtype=F64)
    assert pic(weights).plan(2.0)[0].order == Window(size=131072, shift=16384)
    assert pic(weights, window=8, shift=2, order="released").plan(2.0)[0].order == Window(
        size=8, shift=2, mode="released"
    )
    assert pic(weights, window=None).plan(2.0)[0].order == Shuffle()
