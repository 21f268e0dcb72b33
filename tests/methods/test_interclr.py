"""InterCLR: its reductions to MoCo and NPID, the loss by loops, the authors' numbers, clusters that stay alive."""

import math

import pytest
import torch
from torch import Tensor, nn

from lookalike.functional import random, soft_contrast, unit
from lookalike.functional.clusters import Clustering, dissolved, filled, means
from lookalike.functional.margin import Margin
from lookalike.functional.other_clusters import Sampler, negatives_of_other_clusters
from lookalike.functional.sampled import drawn_contrast
from lookalike.methods.interclr import InterCLR
from lookalike.methods.moco import MoCo
from lookalike.methods.npid import NPID
from lookalike.modules import Bank, Clusters
from methods.fixtures import batch, identity, keyed, progress, queue_of

F64 = torch.float64
LABEL = torch.arange(35) % 4
PLACES = torch.arange(1.0, 7.0, dtype=F64)
ALL = Sampler(count=35, pool=35)


def bank_of(rows: Tensor) -> Bank:
    bank = Bank(*rows.shape, dtype=F64)
    bank.fill([(torch.arange(len(rows)), rows)])
    return bank


def interclr(
    sampler: Sampler = ALL, *, label: Tensor = LABEL, clusters: Clusters | None = None, **settings
) -> InterCLR:
    if clusters is None:
        clusters = Clusters(35, 6, count=int(label.max()) + 1, smallest=1).double()
        clusters.label.copy_(label)
        clusters.center.copy_(means(keyed("bank", 35), label, clusters.center))
    parts = identity(6), identity(6), queue_of(keyed("queue", 20)), bank_of(keyed("bank", 35)), clusters.double()
    return InterCLR(*parts, sampler, **{"temperature": 0.5, **settings})


def two_views(rows: int = 5):
    q, k = torch.randn(2, rows, 6, dtype=F64, generator=random.generator("views", rows))
    return batch({"query": q, "key": k})


def by_loops(views, label, pairs, *, t: float, weight: float, margin: float) -> float:
    """pairs: for each row the positive and the negatives of the bank."""
    bank, queue, total = keyed("bank", 35), keyed("queue", 20), 0.0
    rows = (x / x.norm(dim=1, keepdim=True) for x in (views.views["query"], views.views["key"]))
    for q, k, (positive, negatives) in zip(*rows, pairs, strict=True):
        intra = [float(q @ key) / t for key in (k, *queue)]
        inter = [(float(q @ bank[positive]) - margin) / t, *(float(q @ bank[j]) / t for j in negatives)]
        total += weight * (math.log(sum(map(math.exp, intra))) - intra[0])
        total += (1 - weight) * (math.log(sum(map(math.exp, inter))) - inter[0])
    return total / len(pairs)


def test_loss_by_loops_against_all_images_of_other_clusters() -> None:
    views, pairs = two_views(), []
    for row, chance in enumerate(views.draw("inter", 2)[:, 0].tolist()):
        own = [j for j in range(35) if LABEL[j] == LABEL[row]]
        pairs.append((own[int(chance * len(own))], [j for j in range(35) if LABEL[j] != LABEL[row]]))
    found = interclr(intra_weight=0.6)(views)
    assert found.loss.item() == pytest.approx(by_loops(views, LABEL, pairs, t=0.5, weight=0.6, margin=-0.5), abs=1e-12)
    assert found.metrics["smallest"] == 8
    assert found.metrics["largest"] == 9


def test_with_weight_one_and_no_margins_and_in_the_warm_up_it_is_moco_to_the_bit() -> None:
    """InterCLR(1, 0, 0) = MoCo: loss and gradient."""
    views = two_views()
    moco = MoCo(identity(6), identity(6), queue_of(keyed("queue", 20)), temperature=0.5)
    expected = moco(views)
    expected.loss.backward()
    for settings in ({"intra_weight": 1.0, "inter_margin": Margin(0.0)}, {"warmup": 1.0}):
        method = interclr(**settings)
        found = method(views)
        found.loss.backward()
        assert torch.equal(found.loss, expected.loss)
        assert torch.equal(method.encoder.weight.grad, moco.encoder.weight.grad)
    after = batch(views.views, step=10)
    assert not torch.equal(interclr(warmup=1.0)(after).loss, moco(after).loss)


def test_with_a_cluster_for_each_image_it_is_npid_of_all_images() -> None:
    """The positive is the own row, the negatives are all others; the bank moves alike."""
    views = two_views()
    method = interclr(label=torch.arange(35), intra_weight=0.0, inter_margin=Margin(0.0), bank_momentum=0.5)
    npid = NPID(
        identity(6),
        identity(6),
        bank_of(keyed("bank", 35)),
        temperature=0.5,
        objective="cross_entropy",
        negatives=None,
    )
    found, expected = method(views), npid(batch({"view": views.views["query"]}))
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-12, atol=1e-12)
    for model, step in ((method, found), (npid, expected)):
        step.loss.backward()
        kept = dict(step.keep)
        kept["keys"] = unit(views.views["query"])  # the momentum encoder sees the same view
        model.after_update(progress(updated=True), kept)
    torch.testing.assert_close(method.encoder.weight.grad, npid.encoder.weight.grad, rtol=1e-11, atol=1e-12)
    assert torch.equal(method.bank.rows(), npid.bank.rows())


def test_the_numbers_of_clusters_do_not_matter() -> None:
    views, other = two_views(), torch.tensor([2, 0, 3, 1])
    assert torch.equal(interclr()(views).loss, interclr(label=other[LABEL])(views).loss)


@pytest.mark.parametrize(
    ("margin", "loss", "slope"),
    [
        (Margin(-0.5), 2.963041980703707, 7.071028254712475),
        (Margin(-0.5, "arc"), 3.075916513696849, 6.0570236148689105),
        (Margin(0.4, "arc"), 7.2066528683036735, 8.725943505365677),
    ],
)
def test_the_inter_loss_has_the_numbers_of_the_official_code(margin, loss, slope) -> None:
    """mmselfsup at 920deff: contrast_inter with its hard negatives in fp64, on rows of `keyed`, manual_seed(0)."""
    x, bank = keyed("x", 7).requires_grad_(), keyed("bank", 35)
    positive = torch.tensor([32, 1, 10, 3, 28, 25, 30])  # drawn there
    q = unit(x)
    negative = negatives_of_other_clusters(
        q.detach(),
        bank,
        LABEL,
        LABEL[:7],
        torch.zeros(7, dtype=F64),
        sampler=Sampler("hard", 6),
        generator=random.generator(),
    )
    assert negative[:2].tolist() == [[9, 10, 18, 15, 5, 13], [20, 10, 7, 31, 24, 19]]
    found = drawn_contrast(q, bank, positive, negative, temperature=0.2, margin=margin)
    found.backward()
    assert found.item() == pytest.approx(loss, rel=1e-12)
    assert (x.grad * PLACES).sum().item() == pytest.approx(slope, rel=1e-10)


@pytest.mark.parametrize(
    ("margin", "loss", "slope"),
    [
        (Margin(0.3), 6.647181890768569, -6.157010046024718),
        (Margin(0.4, "arc"), 6.991289803336211, -4.613373619958361),
    ],
)
def test_the_intra_loss_has_the_numbers_of_the_official_code(margin, loss, slope) -> None:
    """mmselfsup at 920deff: contrast_intra in fp64."""
    x = keyed("x", 7).requires_grad_()
    found = soft_contrast(unit(x), positive=keyed("k", 7), keys=keyed("queue", 35), temperature=0.2, margin=margin)
    found.loss.backward()
    assert found.loss.item() == pytest.approx(loss, rel=1e-12)
    assert (x.grad * PLACES).sum().item() == pytest.approx(slope, rel=1e-10)


OFFICIAL_DRAWS = {  # rule: what 300 draws of the official samplers ever gave the first two queries
    "semi_hard": (
        [2, 5, 6, 7, 9, 10, 13, 15, 18, 22, 26, 29, 30, 31, 33, 34],
        [4, 7, 8, 10, 11, 14, 15, 16, 18, 19, 20, 23, 24, 27, 31],
    ),
    "semi_easy": (
        [1, 3, 11, 14, 17, 19, 21, 23, 25, 26, 27, 30, 31, 33],
        [0, 2, 3, 6, 8, 12, 14, 18, 22, 23, 26, 28, 30, 32, 34],
    ),
    "random": tuple([j for j in range(35) if j % 4 != row] for row in range(2)),
}


@pytest.mark.parametrize("rule", OFFICIAL_DRAWS)
def test_the_samplers_draw_from_what_the_official_ones_draw_from(rule) -> None:
    """mmselfsup at 920deff: contrast_inter of 6 negatives from pools of 20, on rows of `keyed`, manual_seed(0)."""
    seen = [set[int](), set[int]()]
    for seed in range(40):
        chance = torch.full((2,), seed / 40, dtype=F64)
        drawn = negatives_of_other_clusters(
            keyed("x", 2),
            keyed("bank", 35),
            LABEL,
            LABEL[:2],
            chance,
            sampler=Sampler(rule, 6, 20),
            generator=random.generator(seed),
        )
        for row in range(2):
            seen[row] |= set(drawn[row].tolist())
    assert [sorted(rows) for rows in seen] == list(OFFICIAL_DRAWS[rule])


def test_bank_labels_and_small_clusters_move_as_in_the_official_code() -> None:
    """mmselfsup at 920deff: InterCLRMemory in fp64, momentum 0.7 (bank_momentum 0.3 here), clusters of at least 5."""
    start = torch.arange(35) % 5
    method = interclr(label=start, bank_momentum=0.3)
    method.clusters.recenter = 99
    assert (method.clusters.center * PLACES).sum().item() == pytest.approx(0.043780318407222185, rel=1e-11)
    index = torch.arange(0, 35, 3)
    method.after_update(progress(updated=True), {"index": index, "keys": keyed("k", 12)})
    label = [4, 1, 2, 4, 4, 0, 4, 2, 3, 0, 0, 1, 2, 3, 4, 0, 1, 2, 4, 4, 0, 4, 2, 3, 4, 0, 1, 1, 3, 4, 0, 1, 2, 1, 4]
    assert method.clusters.label.tolist() == label
    assert (method.bank.rows() * PLACES).sum().item() == pytest.approx(5.530621638423977, rel=1e-12)
    center = means(method.bank.rows(), method.clusters.label, method.clusters.center)
    assert (center * PLACES).sum().item() == pytest.approx(-0.4788252623117446, rel=1e-11)
    left = dissolved(method.bank.rows(), Clustering(method.clusters.label, center), smallest=5)
    gone = [4, 1, 2, 4, 4, 0, 4, 2, 0, 0, 0, 1, 2, 1, 4, 0, 1, 2, 4, 4, 0, 4, 2, 1, 4, 0, 1, 1, 4, 4, 0, 1, 2, 1, 4]
    assert left.tolist() == gone  # cluster 3 is no more
    found = filled(method.bank.rows(), Clustering(left, center), generator=random.generator())
    split = (left == 4).nonzero()[:, 0]
    assert torch.equal(found.label[left != 4], left[left != 4])
    assert set(found.label[split].tolist()) == {3, 4}  # the official 2-means starts from other rows


def test_the_bank_is_overwritten_by_keys_and_forward_moves_nothing() -> None:
    method, views = interclr(), two_views()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    step = method(views)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    method.after_update(progress(updated=True), step.keep)
    torch.testing.assert_close(method.bank.rows()[:5], unit(views.views["key"]))
    torch.testing.assert_close(method.queue.rows()[:5], unit(views.views["key"]))
    assert torch.equal(method.bank.rows()[5:], keyed("bank", 35)[5:])


def test_gradient_reaches_the_query_alone() -> None:
    method, views = interclr(Sampler(count=4, pool=9)), two_views()
    q, k = (views.views[name].requires_grad_() for name in ("query", "key"))
    method(views).loss.backward()
    assert q.grad.abs().sum() > 0
    assert k.grad is None
    assert all(parameter.grad is None for parameter in method.momentum_encoder.parameters())
    assert not any(buffer.requires_grad for buffer in method.buffers())


class Images:
    """A corpus of 35 rows that the network sees as they are."""

    size = 35

    def encode(self, module: nn.Module, view: str, mode: str = "eval"):
        assert (view, mode) == ("plain", "eval")
        for index in torch.arange(35).split(16):
            yield index, module(3 * keyed("bank", 35)[index]).detach()

    def pair(self, view: str, table: Tensor, own: float = 0.0) -> None:
        raise AssertionError("there are no partners")

    def generator(self, name: str) -> torch.Generator:
        return random.generator("corpus", name)


def test_bank_and_clusters_start_from_all_images() -> None:
    method = interclr(clusters=Clusters(35, 6, count=5, smallest=3))
    method.bank.table.zero_()
    (phase,) = method.plan(3.0)
    method.enter(phase, Images())
    torch.testing.assert_close(method.bank.rows(), keyed("bank", 35))
    assert method.clusters.sizes().min() >= 1
    for cluster in range(5):
        mean = keyed("bank", 35)[method.clusters.label == cluster].mean(0)
        torch.testing.assert_close(method.clusters.center[cluster], mean)


def test_offline_labels_stay_until_all_images_are_clustered_again() -> None:
    method = interclr(clusters=Clusters(35, 6, count=5, smallest=3, again=1.5))
    plan = method.plan(4.0)
    assert [(phase.name, phase.epochs) for phase in plan] == [
        ("clusters/1", 1.5),
        ("clusters/2", 1.5),
        ("clusters/3", 1.0),
    ]
    method.enter(plan[0], Images())
    label = method.clusters.label.clone()
    method.after_update(progress(updated=True), {"index": torch.arange(35), "keys": keyed("k", 35)})
    assert torch.equal(method.clusters.label, label)
    assert torch.equal(method.bank.rows(), unit(keyed("k", 35)))
    method.clusters.label.fill_(0)
    method.enter(plan[1], Images())
    assert method.clusters.sizes().min() >= 1
    assert torch.equal(method.bank.rows(), unit(keyed("k", 35)))  # keys stay


def test_clusters_stay_alive_whatever_the_keys_are() -> None:
    """All keys alike, all keys random: labels are numbers of clusters, none is empty, none is lost."""
    method = interclr(clusters=Clusters(35, 6, count=5, smallest=3, recenter=2))
    method.enter(method.plan(1.0)[0], Images())
    for step in range(30):
        keys = keyed(f"keys {step}", 12) if step % 3 else keyed("one", 1).repeat(12, 1)
        index = torch.randperm(35, generator=random.generator(step))[:12]
        method.after_update(progress(step, updated=True), {"index": index, "keys": keys})
        sizes = method.clusters.sizes()
        assert (len(sizes), int(sizes.sum())) == (5, 35)
        assert sizes.min() >= 1
        assert method(two_views()).loss.isfinite()


def test_a_cluster_with_all_images_leaves_mocos_loss() -> None:
    """No negative of another cluster is left: that part of the loss is 0."""
    views, clusters = two_views(), Clusters(35, 6, count=2, smallest=1)
    clusters.label.zero_()
    moco = MoCo(identity(6), identity(6), queue_of(keyed("queue", 20)), temperature=0.5)(views).loss
    assert interclr(clusters=clusters, intra_weight=0.75)(views).loss.item() == pytest.approx(0.75 * moco.item())


def test_a_batch_of_one() -> None:
    assert interclr(Sampler())(two_views(1)).loss.isfinite()


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_a_weight_that_is_no_share_is_refused(weight) -> None:
    with pytest.raises(ValueError, match="give MoCo's share of the loss, from 0 to 1"):
        interclr(intra_weight=weight)
