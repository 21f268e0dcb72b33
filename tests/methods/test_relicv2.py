"""ReLICv2: closed forms, the loss by loops, its reduction to InfoNCE, candidates, what moves and what learns."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lookalike.functional import in_batch_contrast
from lookalike.functional.schedules import Constant
from lookalike.methods.moco_v3 import MoCoV3
from lookalike.methods.relicv2 import ReLICv2
from methods.fixtures import batch, identity, progress

F64 = torch.float64
PAIR, THREE = ("large/1", "large/2"), ("large/1", "large/2", "small/1")


def relic(dim: int, **settings) -> ReLICv2:
    given = {"large_views": PAIR, "small_views": (), "temperature": 1.0, "others": None}
    return ReLICv2(identity(dim), identity(dim), **{**given, **settings})


def step_of(method: ReLICv2, *views: torch.Tensor, at: int = 0):
    return method(replace(batch(dict(zip(THREE, views, strict=False))), progress=progress(at)))


def units(views: int, rows: int, dim: int = 3) -> torch.Tensor:
    return nn.functional.normalize(torch.randn(views, rows, dim, dtype=F64), dim=2)


def slow(views: list[torch.Tensor], large: int, index: list[list[int]], t: float, b: float, same: bool = True) -> float:
    """Plain loops over pairs of views, images and candidates; views beyond `large` are small."""

    def p(one: int, m: int, i: int) -> list[float]:
        logits = [float(views[one][i] @ views[m][k]) / t for k in index[i]]
        total = sum(map(math.exp, logits))
        return [math.exp(x) / total for x in logits]

    total, count = 0.0, 0
    for one in range(len(views)):
        for m in range(large):
            if not same and one == m:
                continue
            count += 1
            for i in range(len(index)):
                mine = p(one, m, i)
                other = p(m, one, i) if one < large else p((m + 1) % large, m, i)
                kl = sum(x * math.log(x / y) for x, y in zip(mine, other, strict=True))
                total += (-math.log(mine[0]) + b * kl) / len(index)
    return total / count


def all_of(rows: int) -> list[list[int]]:
    return [[i, *(j for j in range(rows) if j != i)] for i in range(rows)]


def test_two_orthogonal_images() -> None:
    """log(1 + 1/e) for each pair, also m = l, and no divergence."""
    e = torch.eye(2, dtype=F64)
    step = step_of(relic(2), e, e)
    assert step.loss.item() == pytest.approx(0.313262, abs=1e-6)
    assert step.metrics["kl"].item() == pytest.approx(0.0, abs=1e-12)


def test_two_turned_images() -> None:
    """I against [[.6, .8], [-.8, .6]]: cross-entropy 0.509278, divergence 0.281614 (one way)."""
    a, b = torch.eye(2, dtype=F64), torch.tensor([[0.6, 0.8], [-0.8, 0.6]], dtype=F64)
    only = relic(2, large_views=("large/2",), small_views=("large/1",), same_view=False, invariance=0.0)
    assert step_of(only, a, b).loss.item() == pytest.approx(0.509278, abs=1e-6)
    index = only.candidates(batch({"large/1": a}))
    each = -only.log_share(a, b[index])[:, 0]
    torch.testing.assert_close(each, torch.tensor([0.220417, 0.798139], dtype=F64), rtol=0, atol=1e-6)
    both = step_of(relic(2, same_view=False), a, b)
    back = sum(
        p * math.log(p / q)
        for i in range(2)
        for p, q in zip((b[i] @ a.T).softmax(0).tolist(), (a[i] @ b.T).softmax(0).tolist(), strict=True)
    )
    assert both.metrics["kl"].item() == pytest.approx((0.281614 + back / 2) / 2, abs=1e-6)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.2, "invariance": 3.0}, {"same_view": False}])
def test_loss_by_loops(settings, small) -> None:
    z = units(3 if small else 2, 5)
    method = relic(3, small_views=("small/1",) if small else (), **settings)
    t, b, same = method.temperature, method.invariance, settings.get("same_view", True)
    expected = slow(list(z), 2, all_of(5), t, b, same)
    assert step_of(method, *z).loss.item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("others", [1, 3])
def test_loss_by_loops_over_a_few_others(others) -> None:
    z = units(2, 6)
    method = relic(3, others=others)
    for step in (0, 7):
        given = replace(batch(dict(zip(PAIR, z, strict=True))), progress=progress(step))
        index = method.candidates(given).tolist()
        assert method(given).loss.item() == pytest.approx(slow(list(z), 2, index, 1.0, 1.0), abs=1e-10)


def test_candidates_are_the_own_row_and_distinct_others_chosen_evenly() -> None:
    method, counts = relic(3, others=3), torch.zeros(6, 6)
    for step in range(600):
        index = method.candidates(replace(batch({"large/1": torch.zeros(6, 3)}), progress=progress(step)))
        assert index[:, 0].tolist() == list(range(6))
        assert all(len(set(row)) == 4 for row in index.tolist())
        counts.scatter_add_(1, index[:, 1:], torch.ones(6, 3))
    assert counts.diagonal().sum() == 0
    off = counts[~torch.eye(6, dtype=torch.bool)]
    assert (off - 600 * 3 / 5).abs().max() < 60


def test_more_others_than_there_are_means_all() -> None:
    z = units(2, 4)
    expected = step_of(relic(3), *z).loss.item()
    assert step_of(relic(3, others=10), *z).loss.item() == pytest.approx(expected, rel=1e-12)


def test_without_invariance_and_own_views_it_is_info_nce_with_a_slow_partner() -> None:
    """Of all others, with the loss and the gradient of MoCo v3 without a predictor, but for its factor 4 t."""
    one, two = units(2, 7)
    method = relic(3, invariance=0.0, same_view=False, temperature=0.3, others=6)
    found = step_of(method, one, two).loss
    there, back = (in_batch_contrast(q, k, temperature=0.3) for q, k in ((one, two), (two, one)))
    assert found.item() == pytest.approx((there + back).item() / 2, abs=1e-10)
    moco = MoCoV3(identity(3), identity(3), nn.Identity(), temperature=0.3)
    expected = moco(batch({"view/1": one, "view/2": two})).loss / (4 * 0.3)
    assert found.item() == pytest.approx(expected.item(), abs=1e-10)
    found.backward()
    expected.backward()
    torch.testing.assert_close(method.encoder.weight.grad, moco.encoder.weight.grad, rtol=0, atol=1e-12)


def test_choices_of_what_learns_differ_in_gradient_alone() -> None:
    z = units(2, 5)
    losses, gradients = [], []
    for choice in ("entropy", "first", "none"):
        method = relic(3, stop_gradient=choice)
        step = step_of(method, *z)
        step.loss.backward()
        losses.append(step.loss.item())
        gradients.append(method.encoder.weight.grad)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-12)
    assert all((gradients[a] - gradients[b]).abs().max() > 1e-3 for a, b in ((0, 1), (0, 2), (1, 2)))


def test_no_gradient_reaches_the_target() -> None:
    method = relic(3)
    step_of(method, *units(2, 5)).loss.backward()
    assert method.projector.weight.grad is not None
    assert all(p.grad is None and not p.requires_grad for p in method.target.parameters())


def test_the_target_sees_large_views_alone_and_moves_after_the_step() -> None:
    method = relic(3, small_views=("small/1",), momentum=Constant(0.996))
    seen = list[int]()
    method.target.register_forward_hook(lambda module, given, out: seen.append(len(given[0])))
    step = step_of(method, *units(3, 5))
    assert seen == [10]
    with torch.no_grad():
        method.encoder.weight.zero_()
    method.after_update(progress(updated=False), step.keep)
    weight = method.target.copies[0].weight
    torch.testing.assert_close(weight, torch.eye(3, dtype=F64))
    method.after_update(progress(updated=True), step.keep)
    torch.testing.assert_close(weight, 0.996 * torch.eye(3, dtype=F64))


def test_scale_of_embeddings_does_not_matter() -> None:
    z = units(2, 5)
    assert step_of(relic(3), 3.0 * z[0], 0.2 * z[1]).loss.item() == pytest.approx(step_of(relic(3), *z).loss.item())


def test_what_cannot_be_told_apart_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of one image has no others"):
        step_of(relic(3), *units(2, 1))
    with pytest.raises(ValueError, match="make no pair"):
        relic(3, large_views=("large/1",), same_view=False)
