"""MoCHi: its reductions to MoCo, the loss by loops, no gradient through mixes, own older keys, what is refused."""

import math

import pytest
import torch

from lookalike.functional.schedules import Constant
from lookalike.methods.mochi import MoCHi
from lookalike.methods.moco import MoCo
from methods.fixtures import KEY, MEMORY, QUERY, batch, identity, keyed, progress, queue_of


def mochi(memory=MEMORY, **settings) -> MoCHi:
    dim = memory.shape[1]
    given = {"temperature": 0.5, "hardest": 2, "pairs": 3, "with_query": 2, **settings}
    return MoCHi(identity(dim), identity(dim), queue_of(memory), **given)


def by_loops(q, k, memory, chances, pairs: int, hardest: int, t: float) -> float:
    total = 0.0
    for a, b, line in zip(q / q.norm(dim=1, keepdim=True), k / k.norm(dim=1, keepdim=True), chances, strict=True):
        hard, keys = sorted(memory, key=lambda key, a=a: -float(a @ key))[:hardest], [b, *memory]
        for number, (i, j, share) in enumerate(line.tolist()):
            one, other = hard[int(i * len(hard))], hard[int(j * len(hard))]
            h = share * one + (1 - share) * other if number < pairs else share / 2 * a + (1 - share / 2) * other
            keys.append(h / h.norm())
        logits = [float(a @ key) / t for key in keys]
        total -= logits[0] - math.log(sum(map(math.exp, logits)))
    return total / len(q)


def test_loss_by_loops() -> None:
    views = batch({"query": torch.randn(5, 6, dtype=torch.float64), "key": torch.randn(5, 6, dtype=torch.float64)})
    memory = keyed("queue", 20)
    found = mochi(memory, hardest=4)(views).loss.item()
    chances = views.draw("mixes", 5, 3)
    expected = by_loops(views.views["query"], views.views["key"], memory, chances, 3, 4, 0.5)
    assert found == pytest.approx(expected, abs=1e-12)


def test_without_mixes_and_during_the_warm_up_it_is_moco_to_the_bit() -> None:
    """Loss and gradient."""
    q, k = torch.randn(2, 6, 2, dtype=torch.float64)
    plain = MoCo(identity(), identity(), queue_of(MEMORY), temperature=0.5)
    moco = plain(batch({"query": q, "key": k}))
    moco.loss.backward()
    for settings, step in (({"pairs": 0, "with_query": 0}, 0), ({"warmup": 1.0}, 9)):
        method = mochi(**settings)
        found = method(batch({"query": q, "key": k}, step))
        found.loss.backward()
        assert torch.equal(found.loss, moco.loss)
        assert torch.equal(method.encoder.weight.grad, plain.encoder.weight.grad)
    assert mochi(warmup=1.0)(batch({"query": q, "key": k}, step=10)).loss > moco.loss


def test_no_gradient_flows_through_the_mixes() -> None:
    """As if they were further keys of the queue."""
    views = batch({"query": torch.randn(1, 6, dtype=torch.float64), "key": torch.randn(1, 6, dtype=torch.float64)})
    memory, q = keyed("queue", 20), views.views["query"].requires_grad_()
    mochi(memory, hardest=4)(views).loss.backward()
    slope, q.grad = q.grad, None
    a = (q / q.norm()).detach()[0]
    hard = sorted(memory, key=lambda key: -float(a @ key))[:4]
    more = []
    for number, (i, j, share) in enumerate(views.draw("mixes", 5, 3)[0].tolist()):
        one, weight = (hard[int(i * 4)], share) if number < 3 else (a, share / 2)
        h = weight * one + (1 - weight) * hard[int(j * 4)]
        more.append(h / h.norm())
    longer = MoCo(identity(6), identity(6), queue_of(torch.stack([*memory, *more])), temperature=0.5)
    longer(views).loss.backward()
    torch.testing.assert_close(slope, q.grad, rtol=1e-10, atol=1e-12)


def test_mixes_do_not_join_the_queue() -> None:
    method = mochi(momentum=Constant(0.99))
    with torch.no_grad():
        method.encoder.weight.mul_(0.5)
    method.before_update(progress())
    torch.testing.assert_close(method.momentum_encoder.copies[0].weight, 0.995 * torch.eye(2, dtype=torch.float64))
    step = method(batch({"query": QUERY, "key": KEY}))
    assert torch.equal(method.queue.rows(), MEMORY)  # forward changes no state
    method.after_update(progress(updated=True), step.keep)
    torch.testing.assert_close(method.queue.rows(), torch.cat([KEY, MEMORY[1:]]))


def test_older_keys_of_the_own_image_are_left_out_on_request() -> None:
    q, k = torch.randn(2, 2, 6, dtype=torch.float64)
    memory, views = keyed("queue", 20), batch({"query": q, "key": k})
    method = mochi(memory, skip_own=True, hardest=4)
    assert torch.equal(method(views).loss, mochi(memory, hardest=4)(views).loss)  # the first keys are nobody's
    method.after_update(progress(updated=True), method(views).keep)
    assert method.sources.rows()[:3].tolist() == [0, 1, -1]
    total = 0.0
    for row in range(2):
        seen = torch.cat([method.queue.rows()[:row], method.queue.rows()[row + 1 :]])
        chances = views.draw("mixes", 5, 3)[row : row + 1]
        total += by_loops(q[row : row + 1], k[row : row + 1], seen, chances, 3, 4, 0.5) / 2
    assert method(views).loss.item() == pytest.approx(total, abs=1e-12)


def test_no_gradient_reaches_keys_or_queue() -> None:
    method, q, k = mochi(), QUERY.clone().requires_grad_(), KEY.clone().requires_grad_()
    method(batch({"query": q, "key": k})).loss.backward()
    assert q.grad.abs().sum() > 0
    assert k.grad is None
    assert all(parameter.grad is None for parameter in method.momentum_encoder.parameters())


def test_more_hardest_than_rows_are_all_rows() -> None:
    views = batch({"query": QUERY, "key": KEY})
    assert torch.equal(mochi(hardest=1024)(views).loss, mochi(hardest=2)(views).loss)


@pytest.mark.parametrize("settings", [{"hardest": 0}, {"pairs": -1}, {"with_query": -1}])
def test_what_makes_no_sense_is_refused(settings) -> None:
    with pytest.raises(ValueError, match="give 1, 0, 0 or more"):
        mochi(**settings)
