"""Tuning against loops of plain arithmetic in double precision; the encoder itself is never touched."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lookalike.evaluation import FINETUNE, LINEAR, Course, finetune, fingerprint
from lookalike.functional import random
from lookalike.functional.schedules import Clock

N, M, D, C = 24, 400, 5, 3
X, Y = torch.randn(N, 1, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), torch.arange(N) % C
TEST = torch.randn(M, 1, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
TRUTH = torch.arange(M) % C
SHORT = {"rate": 0.4, "epochs": 3, "batch": 8}


def views(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The images, brighter in each epoch, in batches of eight."""
    for index in torch.arange(N).roll(epoch).split(8):
        yield index, X[index] + 0.1 * epoch


def central_views() -> list[tuple[Tensor, Tensor]]:
    return [(index, TEST[index]) for index in torch.arange(M).split(64)]


def linear_net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(8, D, bias=False)).double()


def by_hand(net: nn.Module, course: Course, seed: int) -> np.ndarray:
    """Named classes of the test images: gradients written out, SGD with momentum as torch defines it."""
    E = net[1].weight.detach().numpy().copy()
    generator = random.generator("head of a probe", seed)
    W = torch.empty(C, D).normal_(0.0, 0.01, generator=generator).double().numpy()
    b = np.zeros(C)
    moments, done = [None, None, None], 0
    for epoch in range(course.epochs):
        for index, pixels in views(epoch):
            clock = Clock(step=done, steps=course.epochs * N, epoch=done / N, epochs=float(course.epochs))
            rate = course.rate * course.schedule(clock)
            x = pixels.numpy().reshape(len(index), 8)
            z = x @ E.T
            p = np.exp(z @ W.T + b)
            p /= p.sum(1, keepdims=True)
            p[np.arange(len(index)), Y[index].numpy()] -= 1
            p /= len(index)
            slopes = [(p @ W).T @ x, p.T @ z, p.sum(0)]
            for i, (weights, slope) in enumerate(zip((E, W, b), slopes, strict=True)):
                if course.frozen and i == 0:
                    continue
                slope = slope + course.weight_decay * weights
                moments[i] = slope if moments[i] is None else course.momentum * moments[i] + slope
                weights -= rate * (slope + course.momentum * moments[i] if course.nesterov else moments[i])
            done += len(index)
    return (TEST.numpy().reshape(M, 8) @ E.T @ W.T + b).argmax(1)


COURSES = {
    "finetune": Course(**SHORT, schedule=FINETUNE.schedule, nesterov=True, weight_decay=0.05, frozen=False),
    "all, plain": Course(**SHORT, frozen=False),
    "frozen": Course(**SHORT, schedule=LINEAR["moco"].schedule, weight_decay=0.02),
    "frozen, byol": Course(**SHORT, nesterov=True),
}


@pytest.mark.parametrize("name", COURSES)
def test_equals_arithmetic_by_hand(name):
    net, course = linear_net(), COURSES[name]
    named = by_hand(net, course, seed=4)
    assert len(set(named.tolist())) == C
    result = finetune(net, views, Y, central_views(), TRUTH, course=course, seed=4)
    assert result.hits.tolist() == (named == TRUTH.numpy()).tolist()
    assert (result.n_train, result.n_test) == (N, M)


def test_the_courses_differ_in_what_they_name():
    net = linear_net()
    named = {tuple(by_hand(net, course, seed=4)) for course in COURSES.values()}
    assert len(named) == len(COURSES)


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(8, D, 1)
    )


def stripes(epoch: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Images whose class is where they are bright, with noise that is new in each epoch."""
    noise = torch.randn(N, 1, 6, 6, generator=torch.Generator().manual_seed(epoch + 10)) / 4
    for row, label in enumerate(Y.tolist()):
        noise[row, 0, 2 * label : 2 * label + 2] += 2.0 if label else 4.0
    return [(index, noise[index]) for index in torch.randperm(N, generator=torch.Generator().manual_seed(1)).split(6)]


COURSE = Course(rate=0.05, epochs=8, batch=6, frozen=False)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_encoder_keeps_its_fingerprint_and_modes_and_a_copy_is_what_learns(frozen):
    net = small_net()
    net[1].eval()
    before, modes = fingerprint(net), [part.training for part in net.modules()]
    course = Course(rate=0.05, epochs=8, batch=6, frozen=frozen)
    finetune(net, stripes, Y, stripes(99), Y, course=course)
    assert fingerprint(net) == before
    assert [part.training for part in net.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_tuning_all_weights_learns_what_a_frozen_encoder_does_not_show():
    net = small_net()
    all_weights = finetune(net, stripes, Y, stripes(99), Y, course=Course(rate=0.1, epochs=40, batch=6, frozen=False))
    head_alone = finetune(net, stripes, Y, stripes(99), Y, course=Course(rate=0.1, epochs=1, batch=6))
    assert all_weights.accuracy > 0.9
    assert head_alone.accuracy < all_weights.accuracy


def test_a_function_of_the_seed_whatever_else_was_drawn():
    net = small_net()  # it holds dropout, which draws from the global generator
    one = finetune(net, stripes, Y, stripes(99), Y, course=COURSE, seed=1)
    state = torch.random.get_rng_state()
    torch.rand(7)
    two = finetune(net, stripes, Y, stripes(99), Y, course=COURSE, seed=1)
    assert torch.equal(one.hits, two.hits)
    torch.random.set_rng_state(state)
    finetune(net, stripes, Y, stripes(99), Y, course=COURSE, seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_progress_counts_views_and_every_epoch_brings_its_own():
    heard: list[int] = []
    epochs: list[int] = []

    def drawn(epoch: int) -> list[tuple[Tensor, Tensor]]:
        epochs.append(epoch)
        return stripes(epoch)

    course = Course(rate=0.1, epochs=2, batch=6)
    finetune(small_net(), drawn, Y, stripes(99), Y, course=course, on_progress=heard.append)
    assert epochs == [0, 1]
    assert heard == list(range(6, 2 * N + 1, 6))


def test_what_cannot_be_tuned_is_refused():
    with pytest.raises(ValueError, match=r"rate=0\.0, epochs=1, batch=1 tune nothing"):
        Course(rate=0.0, epochs=1, batch=1)
    with pytest.raises(ValueError, match="the views of the training images gave no batch"):
        finetune(small_net(), lambda epoch: [], Y, stripes(), Y, course=COURSE)
    with pytest.raises(ValueError, match=r"not finite after epoch 1: lower rate=1e\+30"):
        finetune(small_net(), stripes, Y, stripes(), Y, course=Course(rate=1e30, epochs=2, batch=6, frozen=False))
