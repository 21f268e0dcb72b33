"""Align and uniform: closed forms, a slow loop, the official losses, invariances, several processes."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from functional.joined import demand_joined
from lookalike.functional.collectives import rank, world
from lookalike.methods.align_uniform import AlignUniform
from methods.fixtures import batch, waves
from methods.records import Numbers, Record

SQUARE = torch.tensor([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=torch.float64)
OTHERS = {"align_weight": 0.7, "uniform_weight": 1.3, "alpha": 3.0, "t": 0.5}


def bare(**settings: float) -> AlignUniform:
    return AlignUniform(nn.Identity(), nn.Identity(), **settings)


def loss(one: Tensor, two: Tensor, **settings: float) -> Tensor:
    return bare(**settings)(batch({"view/1": one, "view/2": two})).loss


def slow_loss(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Section 4.1, row by row and pair by pair; both views share their batch statistics."""
    both = method.projector(method.encoder(torch.cat([views["view/1"], views["view/2"]])))
    z = [row / (row * row).sum().sqrt() for row in both]
    x, y = z[: len(z) // 2], z[len(z) // 2 :]
    total = torch.zeros((), dtype=torch.float64)
    for one, two in zip(x, y, strict=True):
        total = total + method.align_weight * (one - two).pow(2).sum().sqrt() ** method.alpha / len(x)
    for view in (x, y):
        pairs = [torch.exp(-method.t * (one - two).pow(2).sum()) for one, two in combinations(view, 2)]
        total = total + method.uniform_weight * (sum(pairs) / len(pairs)).log() / 2
    return total


RECORD = Record(
    recipes={
        "align_uniform_stl10": Numbers(
            epochs=200,
            batch=768,
            size=64,
            optimizer=("sgd", 0.36, 1e-4, "nothing", 0),
            heads={"projector": [512, 128]},
        ),
        "align_uniform_small": Numbers(epochs=200, batch=256, size=32, optimizer=("sgd", 0.06, 5e-4, "nothing", 10)),
        "align_uniform_photos": Numbers(
            epochs=100, batch=256, size=224, optimizer=("lars", 1.2, 1e-6, "bias_and_norm", 10)
        ),
    },
    loop=slow_loss,
    trace=[
        *(-1.593669479418458, -1.567779648810225, -1.312705099475545, -1.1980280176898699, -1.337686470288224),
        *(-1.1283105538680744, -1.4041992621331458, -0.9628316285492051, -1.4186421852163975, -0.6777836990125077),
        *(-0.9672622958125894, -1.2111698402997892, -1.5696629103198299, -1.535394826902544, -1.3058092350120214),
        *(-1.4235544757439897, -1.4428447347880669, -1.3363644424969987, -1.1142959129023362, -1.512406745749162),
    ],
)


@pytest.mark.parametrize(
    ("one", "two", "settings", "expected"),
    [
        (torch.ones(5, 3), torch.ones(5, 3), {}, 0.0),  # all images alike: a collapse
        (SQUARE[[0, 2]], SQUARE[[0, 2]], {}, -8.0),  # views agree, images are opposite: distance^2 is 4
        (SQUARE[[0, 2]], SQUARE[[2, 0]], {}, 4 - 8.0),
        (SQUARE[[0, 2]], SQUARE[[2, 0]], {"alpha": 3.0, "t": 0.5}, 8 - 2.0),
        (SQUARE[[0, 2]], SQUARE[[0, 1]], {}, 2 / 2 - (8 + 4) / 2),  # uniformity of each view by itself
        (SQUARE[[0, 2]], SQUARE[[1, 3]], {"align_weight": 3.0, "uniform_weight": 0.5}, 3 * 2 - 0.5 * 8),
    ],
)
def test_closed_forms(one, two, settings, expected) -> None:
    assert loss(one.double(), two.double(), **settings).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("settings", [{}, OTHERS])
def test_loss_and_gradients_by_loops(settings) -> None:
    views = {f"view/{number}": torch.randn(7, 4, dtype=torch.float64, requires_grad=True) for number in (1, 2)}
    found, expected = loss(*views.values(), **settings), slow_loss(bare(**settings), views)
    assert found.item() == pytest.approx(expected.item(), abs=1e-13)
    mine, theirs = (torch.autograd.grad(value, list(views.values())) for value in (found, expected))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("settings", "value", "norms", "firsts"),
    [
        ({}, -1.62098358167, [0.394276028989, 0.301220486097], [-0.0390616313504, -0.0245322492877]),
        (OTHERS, -1.04220832286, [0.170440082814, 0.124962312808], [-0.0120068514067, 0.000937657379321]),
    ],
)
def test_loss_and_gradients_are_those_of_official_code(settings, value, norms, firsts) -> None:
    """SsnL/align_uniform (e256d47), align_loss and uniform_loss, weighed as in examples/stl10/main.py, of unit rows."""
    z1, z2 = waves()
    found = loss(z1, z2, **settings)
    found.backward()
    assert found.item() == pytest.approx(value, abs=1e-9)
    assert [z1.grad.norm().item(), z2.grad.norm().item()] == pytest.approx(norms, abs=1e-9)
    assert [z1.grad[0, 0].item(), z2.grad[0, 0].item()] == pytest.approx(firsts, abs=1e-9)


def test_terms_are_logged_and_add_up() -> None:
    one, two = torch.randn(2, 6, 3, dtype=torch.float64)
    step = bare(**OTHERS)(batch({"view/1": one, "view/2": two}))
    terms = {name: value.item() for name, value in step.metrics.items()}
    assert 0.7 * terms["align_loss"] + 1.3 * terms["uniform_loss"] == pytest.approx(step.loss.item(), rel=1e-12)
    assert 0 <= terms["align_loss"] <= 2**3
    assert -4 * 0.5 <= terms["uniform_loss"] <= 0


def test_lengths_a_rotation_and_the_order_of_views_and_images_do_not_matter() -> None:
    a, b = torch.randn(2, 6, 3, dtype=torch.float64)
    order, (turn, _) = torch.randperm(6), torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    for one, two in ((b, a), (5 * a, b / 3), (a @ turn, b @ turn), (a[order], b[order])):
        assert loss(one, two).item() == pytest.approx(loss(a, b).item(), abs=1e-12)


def test_a_term_without_weight_pulls_nothing() -> None:
    a, b = (view.requires_grad_() for view in torch.randn(2, 6, 3, dtype=torch.float64))
    apart, spread = {"uniform_weight": 0.0}, {"align_weight": 0.0}
    (alone,) = torch.autograd.grad(loss(a, b, **spread), b)
    torch.testing.assert_close(torch.autograd.grad(loss(-a, b, **spread), b)[0], alone)  # the views do not meet
    same = a.detach().requires_grad_()
    assert not torch.autograd.grad(loss(a.detach(), same, **apart), same)[0].any()  # images do not repel one another


def test_there_is_no_loss_of_images_that_look_alike_to_compare_with() -> None:
    assert bare().uniform(5) is None  # it is 0, which a loss goes through in good health


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"align_weight": -1.0}, "align_weight is -1.0, uniform_weight 1.0: give 0 or more"),
        ({"alpha": 0.5}, "alpha is 0.5 and t is 2.0: give an alpha from 1 on, and a t above 0"),
        ({"t": 0.0}, "alpha is 2.0 and t is 0.0: give an alpha from 1 on, and a t above 0"),
    ],
)
def test_mistakes_are_sentences(settings, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        bare(**settings)


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="that of pairs of rows, and there is 1: use a larger batch"):
        loss(SQUARE[:1], SQUARE[:1])


def on_a_rank(one_BD: Tensor, two_BD: Tensor) -> list[Tensor]:
    views = [view_BD[rank() :: world()].clone().requires_grad_() for view_BD in (one_BD, two_BD)]
    found = loss(*views, **OTHERS)
    return [found.detach(), *torch.autograd.grad(found, views)]


@pytest.mark.parametrize(("processes", "rows"), [(2, 6), (2, 7), (3, 7)])
def test_several_processes_equal_the_joined_batch(processes: int, rows: int, gloo) -> None:
    """Gradients averaged as DDP does, those of pairs over two processes included."""
    demand_joined(gloo, processes, on_a_rank, *torch.randn(2, rows, 4, dtype=torch.float64))
