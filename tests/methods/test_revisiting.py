"""Revisiting contrastive methods: its cases by hand, both losses by loops, the official losses, gradients, updates."""

import math

import pytest
import torch
from torch import nn

from lookalike.functional.schedules import Constant
from lookalike.methods.moco import MoCo
from lookalike.methods.revisiting import Revisiting
from lookalike.modules import Queue
from methods.fixtures import KEY, MEMORY, QUERY, batch, identity, keyed, progress, queue_of, waves

SMALL = ("small/1", "small/2")
AXES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
EAST = AXES[:1]


def revisiting(memory=MEMORY, features=None, small=(), encoder=None, **settings) -> Revisiting:
    """With the identity for networks; features of the queue are its keys, if not given."""
    encoder = encoder or identity(memory.shape[1])
    given = {"temperature": 1.0, "neighbors": 1, "small_views": small, **settings}
    method = Revisiting(encoder, identity(memory.shape[1]), queue_of(memory), **given).double()
    method.features.push(memory if features is None else features)
    return method


def loss(method, step=0, **views) -> float:
    return method(batch({name.replace("_", "/"): x for name, x in views.items()}, step)).loss.item()


def by_loops(queries, key, memory, features, neighbors: int, t: float, weight: float) -> float:
    """queries: for each view (B, D) pixels, which the identity makes both feature and projection of."""
    total = 0.0
    for view in queries:
        for q, k in zip(view, key, strict=True):
            q, k = q / q.norm(), k / k.norm()
            logits = [float(q @ row) / t for row in memory]
            out_of = sum(map(math.exp, logits))
            near = sorted(range(len(memory)), key=lambda j, q=q: -float(q @ features[j]))[:neighbors]
            total -= float(q @ k) / t - math.log(math.exp(float(q @ k) / t) + out_of)
            total -= weight * sum(logits[j] - math.log(out_of) for j in near) / neighbors
    return total / len(queries) / len(key)


def test_moco_part_by_hand():
    assert loss(revisiting(AXES, weight=0.0), query=EAST, key=EAST) == pytest.approx(0.917576, abs=1e-6)


@pytest.mark.parametrize(("neighbors", "expected"), [(1, 0.407606), (2, 0.907606)])
def test_neighbors_part_by_hand(neighbors, expected):
    step = revisiting(AXES, neighbors=neighbors)(batch({"query": EAST, "key": EAST}))
    assert step.metrics["knn"].item() == pytest.approx(expected, abs=1e-6)


def test_total_by_hand():
    assert loss(revisiting(AXES), query=EAST, key=EAST) == pytest.approx(1.080618, abs=1e-6)


def test_all_rows_as_neighbors_are_the_mean_over_the_queue_of_minus_log_softmax():
    q, memory = torch.randn(4, 6, dtype=torch.float64), keyed("queue", 20)
    step = revisiting(memory, neighbors=20)(batch({"query": q, "key": q}))
    shares = (nn.functional.normalize(q, dim=1) @ memory.T).log_softmax(1)
    assert step.metrics["knn"].item() == pytest.approx(-shares.mean().item(), abs=1e-12)


def test_without_neighbors_part_and_small_crops_it_is_moco_to_the_bit():
    """Loss and gradient."""
    q, k = torch.randn(2, 6, 2, dtype=torch.float64)
    plain = MoCo(identity(), identity(), queue_of(MEMORY), temperature=0.2)
    moco = plain(batch({"query": q, "key": k}))
    moco.loss.backward()
    for settings, step in (({"weight": 0.0}, 0), ({"warmup": 1.0}, 9)):
        method = revisiting(temperature=0.2, **settings)
        found = method(batch({"query": q, "key": k}, step))
        found.loss.backward()
        assert torch.equal(found.loss, moco.loss)
        assert torch.equal(method.encoder.weight.grad, plain.encoder.weight.grad)
        assert found.metrics.keys() == moco.metrics.keys()
    assert revisiting(temperature=0.2, warmup=1.0)(batch({"query": q, "key": k}, 10)).loss > moco.loss


def test_loss_by_loops():
    """With features in the queue that say something else than its keys, and small crops of another size."""
    memory, features = keyed("queue", 20), keyed("features", 20)
    q, k, one, two = torch.randn(4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    views = {"query": q, "key": k, "small_1": one, "small_2": two}
    method = revisiting(memory, features, SMALL, temperature=0.5, neighbors=3)
    assert loss(method, **views) == pytest.approx(by_loops([q, one, two], k, memory, features, 3, 0.5, 0.4), abs=1e-12)


def test_neighbors_are_seen_in_features_and_learned_in_projections():
    """The query's feature is near row 0 of the features; its projection must come near key 0, far as that is."""
    method = revisiting(torch.flip(AXES, [0]), features=AXES)
    step = method(batch({"query": EAST, "key": EAST}))
    assert step.metrics["knn"].item() == pytest.approx(0.407606 + 2.0, abs=1e-6)  # q . key is -1, not 1


def test_every_crop_meets_the_same_key_and_counts_alike():
    q, k, one, two = torch.randn(4, 3, 2, dtype=torch.float64)
    alone = [loss(revisiting(), query=view, key=k) for view in (q, one, two)]
    together = loss(revisiting(small=SMALL), query=q, key=k, small_1=one, small_2=two)
    assert together == pytest.approx(sum(alone) / 3, abs=1e-12)


def test_it_is_the_official_loss():
    """MoCo of wvangansbeke/Revisiting-Contrastive-SSL (builder_ours_warmup.py) at revision 20c582c, in fp64.

    Views by the formula of `waves`, a fixed linear projector, 24 keyed rows in each queue, t = 0.2, three neighbors,
    weight 0.4, two small crops; loss of the keys, of the neighbors, their sum, and the gradient of the query's pixels.
    """
    one, two = (x.detach() for x in waves(8, 6))
    q = one.clone().requires_grad_()
    crops = {"small/1": 0.7 * one + 0.3 * two.roll(1, 1), "small/2": two - 0.4 * one.roll(2, 1)}
    method = revisiting(keyed("queue", 24), keyed("features", 24), SMALL, temperature=0.2, neighbors=3, shuffle=False)
    with torch.no_grad():
        for layer in (method.projector, method.momentum_encoder.copies[1]):
            layer.weight.copy_(torch.eye(6).roll(1, 0) + 0.3 * torch.eye(6, dtype=torch.float64))
    step = method(batch({"query": q, "key": two, **crops}))
    step.loss.backward()
    knn = step.metrics["knn"].item()
    assert step.loss.item() - 0.4 * knn == pytest.approx(0.8998045905755632, abs=1e-12)
    assert knn == pytest.approx(5.11550365020327, abs=1e-12)
    assert step.loss.item() == pytest.approx(2.9460060506568713, abs=1e-12)
    assert (q.grad.norm().item(), q.grad.sum().item()) == pytest.approx(
        (0.12954275856027114, 0.06806683890479953), abs=1e-12
    )


def test_no_gradient_reaches_keys_queue_or_features_of_neighbors():
    method, q, k = revisiting(), QUERY.clone().requires_grad_(), KEY.clone().requires_grad_()
    method(batch({"query": q, "key": k})).loss.backward()
    assert q.grad.abs().sum() > 0
    assert k.grad is None
    assert all(parameter.grad is None for parameter in method.momentum_encoder.parameters())
    assert not method.near(q).mean.requires_grad


def test_momentum_moves_before_the_step_and_both_queues_after_it():
    method = revisiting(AXES, momentum=Constant(0.99))
    with torch.no_grad():
        method.encoder.weight.mul_(0.5)
    method.before_update(progress())
    torch.testing.assert_close(method.momentum_encoder.copies[0].weight, 0.995 * torch.eye(2, dtype=torch.float64))
    step = method(batch({"query": QUERY, "key": 2 * KEY}))
    assert torch.equal(method.queue.rows(), AXES)  # forward changes no state: a query never meets its own key there
    assert torch.equal(method.features.rows(), AXES)
    method.after_update(progress(updated=True), step.keep)
    torch.testing.assert_close(method.queue.rows(), torch.cat([KEY, AXES[1:]]))
    torch.testing.assert_close(method.features.rows(), torch.cat([KEY, AXES[1:]]))


def test_rows_of_both_queues_belong_to_the_same_images():
    """Whatever the batch sizes, and around the end of the ring; the projector doubles and turns what it is given."""
    turn = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        turn.weight.copy_(torch.tensor([[0.0, 2.0], [-2.0, 0.0]]))
    method = Revisiting(identity(), turn, Queue(7, 2), neighbors=1, small_views=()).double()
    for rows in (3, 5, 2, 9, 4):
        k = torch.randn(rows, 2, dtype=torch.float64)
        method.after_update(progress(updated=True), method(batch({"query": k, "key": k})).keep)
    turned = method.features.rows() @ turn.weight.T / 2
    torch.testing.assert_close(method.queue.rows(), turned)


def test_of_fewer_rows_all_are_neighbors():
    memory = torch.randn(2, 2, dtype=torch.float64)
    memory /= memory.norm(dim=1, keepdim=True)
    views = batch({"query": EAST, "key": EAST})
    assert torch.equal(revisiting(memory, neighbors=3)(views).loss, revisiting(memory, neighbors=2)(views).loss)
    with pytest.raises(ValueError, match="neighbors is 0: give 1 or more"):
        revisiting(memory, neighbors=0)


def test_a_projector_without_a_linear_layer_is_refused():
    with pytest.raises(ValueError, match="a head has linear layers, and Identity has none"):
        Revisiting(identity(), nn.Identity(), queue_of(MEMORY), neighbors=1)


def test_a_batch_of_one_and_one_larger_than_the_queue_are_contrasted_and_kept():
    method = revisiting(AXES)
    one = method(batch({"query": QUERY, "key": KEY}))
    assert torch.isfinite(one.loss)
    many = torch.randn(5, 2, dtype=torch.float64)
    step = method(batch({"query": many, "key": many}))
    method.after_update(progress(updated=True), step.keep)
    newest = nn.functional.normalize(many, dim=1)[-3:]
    assert {tuple(row) for row in method.features.rows().tolist()} == {tuple(row) for row in newest.tolist()}


@pytest.mark.parametrize("warmup", [0.0, 5.0])
def test_the_loss_where_all_embeddings_are_one_is_uniform(warmup) -> None:
    method = revisiting(EAST.repeat(7, 1), warmup=warmup, weight=0.4)
    assert method.uniform(1) == pytest.approx(loss(method, query=EAST, key=EAST))
