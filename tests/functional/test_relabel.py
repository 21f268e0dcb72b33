"""Targets with neighbors: the written example, slow oracles, clipping, identities, the authors' numbers, processes."""

import math

import pytest
import torch

from lookalike.functional import Target, byol_distance, soft_contrast, unit
from lookalike.functional.collectives import global_mean, rank, world
from lookalike.functional.relabel import relabeled, relabeled_distance
from methods.fixtures import KEY, MEMORY, QUERY, keyed

F64 = torch.float64
RULES = {"ascl": "soft", "ahcl": "adaptive", "hard": "hard"}  # names of the official code
# rule, K, t_m -> loss and norm of its gradient by q: _forward_moco of MrChenFeng/ASCL_ICPR2022 at b31e15b, t 0.1
OFFICIAL = [
    ("ascl", 1, 0.05, 8.759787386661474, 3.6902265540102492),
    ("ascl", 1, 0.2, 8.304068834739827, 3.5511104356494325),
    ("ascl", 2, 0.05, 8.794675639884824, 3.641075604675262),
    ("ascl", 2, 0.2, 8.358346632714232, 3.3755345004933663),
    ("ascl", 5, 0.05, 8.70358996095786, 3.5336500249698704),
    ("ascl", 5, 0.2, 8.417406317410608, 3.1066550629556984),
    ("ahcl", 1, 0.05, 8.954768969694182, 3.769273544519415),
    ("ahcl", 5, 0.05, 8.380537451886475, 3.102707071302895),
    ("ahcl", 5, 0.2, 8.39369696773758, 3.249961477504137),
    ("hard", 1, 0.05, 9.029387496911228, 3.77078695596119),
    ("hard", 2, 0.2, 8.820193489395297, 3.438430238005938),
    ("hard", 5, 0.05, 8.364560108868067, 3.0806335307602),
]


def slow(teacher, keys, t: float, neighbors: int, rule: str) -> list[float]:
    """y of one row, the positive first, by loops (Feng & Patras 2022, section 3)."""
    d = [float(teacher @ key) / t for key in keys]
    q = [math.exp(one) / sum(map(math.exp, d)) for one in d]
    c = 1 + sum(p * math.log(p) for p in q) / math.log(len(q))
    near = sorted(range(len(q)), key=lambda j: -d[j])[:neighbors]
    each = {"hard": 1.0, "adaptive": c}
    y = [1.0] + [min(1.0, c * neighbors * p) if rule == "soft" else each[rule] * (j in near) for j, p in enumerate(q)]
    return [one / sum(y) for one in y]


def assert_is(target, expected: list[list[float]], keys) -> None:
    """Share, average key and entropy of targets that are written out."""
    y_BN = torch.tensor(expected, dtype=F64)[:, 1:]
    share_B = y_BN.sum(1)
    torch.testing.assert_close(target.share, share_B, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(target.mean * share_B[:, None], y_BN @ keys, rtol=1e-10, atol=1e-12)
    p_BN = y_BN / share_B[:, None]
    torch.testing.assert_close(target.entropy, -torch.xlogy(p_BN, p_BN).sum(1), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("rule", "neighbors", "y", "loss"),
    [
        ("soft", 1, [0.567683, 0.016932, 0.415385], 1.208455),
        ("soft", 2, [0.485519, 0.028963, 0.485519], 1.153146),
        ("soft", 5, [0.465304, 0.069392, 0.465304], 1.151529),
        ("hard", 1, [0.5, 0.0, 0.5], 1.154304),
        ("adaptive", 1, [1 / 1.761546, 0.0, 0.761546 / 1.761546], 1.203036),
    ],
)
def test_the_written_example(rule, neighbors, y, loss) -> None:
    """q = (0.6, 0.8), k = (1, 0), a queue of two; the last two soft ones are clipped at 1."""
    target = relabeled(KEY, MEMORY, temperature=0.25, neighbors=neighbors, rule=rule)
    assert target.share.item() == pytest.approx(1 - y[0], abs=1e-6)
    torch.testing.assert_close(
        target.share * target.mean[0], torch.tensor(y[1:], dtype=F64) @ MEMORY, rtol=0, atol=2e-6
    )
    q = QUERY.clone().requires_grad_()
    found = soft_contrast(q, positive=KEY, keys=MEMORY, temperature=0.5, target=target)
    assert found.loss.item() == pytest.approx(loss, abs=1e-6)
    over = torch.tensor([[0.219961, 0.328143, 0.451895]], dtype=F64) - torch.tensor([y], dtype=F64)  # softmax of q
    slope = torch.autograd.grad(found.loss, q)[0]
    torch.testing.assert_close(slope, over @ torch.cat([KEY, MEMORY]) / 0.5, rtol=0, atol=1e-5)
    entropy = -sum(one * math.log(one) for one in y if one)
    assert found.target_entropy.item() == pytest.approx(entropy, abs=1e-5)


@pytest.mark.parametrize("rule", ["soft", "hard", "adaptive"])
@pytest.mark.parametrize("neighbors", [1, 2, 5, 12])
@pytest.mark.parametrize("temperature", [0.02, 0.1, 1.0])
def test_by_loops(rule, neighbors, temperature) -> None:
    teacher, keys = keyed("k", 7), keyed("queue", 35)
    expected = [slow(row, keys, temperature, neighbors, rule) for row in teacher]
    assert_is(relabeled(teacher, keys, temperature=temperature, neighbors=neighbors, rule=rule), expected, keys)


def test_the_clip_is_met_by_these_tests() -> None:
    teacher, keys = keyed("k", 7), keyed("queue", 35)
    assert max(max(slow(row, keys, 0.02, 5, "soft")[1:]) / slow(row, keys, 0.02, 5, "soft")[0] for row in teacher) == 1


@pytest.mark.parametrize(("name", "neighbors", "t_m", "loss", "slope"), OFFICIAL)
def test_the_numbers_of_the_official_code(name, neighbors, t_m, loss, slope) -> None:
    """On the rows of `keyed`, in fp64 with targets in fp32."""
    q, k, keys = keyed("q", 7).requires_grad_(), keyed("k", 7), keyed("queue", 35)
    target = relabeled(k, keys, temperature=t_m, neighbors=neighbors, rule=RULES[name])
    found = soft_contrast(unit(q), positive=k, keys=keys, temperature=0.1, target=target).loss
    assert found.item() == pytest.approx(loss, rel=1e-6)
    assert torch.autograd.grad(found, q)[0].norm().item() == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(
    ("neighbors", "loss", "slope"),
    [(1, 1.9618627372381268, 0.6204127834686255), (5, 1.9452850956380254, 0.6108761639657823)],
)
def test_the_numbers_of_the_official_code_for_byol(neighbors, loss, slope) -> None:
    """_forward_byol of the same file, with the identity for a predictor."""
    p, k = keyed("q", 7).requires_grad_(), keyed("k", 7)
    found = relabeled_distance(p, k, temperature=0.05, neighbors=neighbors).loss
    assert found.item() == pytest.approx(loss, rel=1e-12)
    assert torch.autograd.grad(found, p)[0].norm().item() == pytest.approx(slope, rel=1e-10)


@pytest.mark.parametrize("rule", ["soft", "hard", "adaptive"])
def test_the_distance_by_loops(rule) -> None:
    p, k = keyed("q", 7), keyed("k", 7)
    total = 0.0
    for i in range(7):
        others = [j for j in range(7) if j != i]
        y = slow(k[i], k[others], 0.3, 2, rule)
        total += 2 - 2 * sum(w * float(p[i] @ k[j]) for w, j in zip(y, (i, *others), strict=True))
    found = relabeled_distance(3 * p, 0.2 * k, temperature=0.3, neighbors=2, rule=rule)
    assert found.loss.item() == pytest.approx(total / 7, abs=1e-12)


def test_no_neighbor_leaves_the_positive() -> None:
    q, k, keys = keyed("q", 7), keyed("k", 7), keyed("queue", 35)
    target = relabeled(k, keys, temperature=0.05, neighbors=0)
    found = soft_contrast(q, positive=k, keys=keys, temperature=0.1, target=target)
    assert torch.equal(found.loss, soft_contrast(q, positive=k, keys=keys, temperature=0.1).loss)
    alone = relabeled_distance(q, k, temperature=0.05, neighbors=0).loss
    torch.testing.assert_close(alone, global_mean(byol_distance(q, k)), rtol=1e-12, atol=1e-12)


def test_a_teacher_that_is_sure_of_nothing_leaves_the_positive() -> None:
    same = keyed("queue", 1).expand(9, -1)
    target = relabeled(keyed("k", 7), same, temperature=0.05, neighbors=3)
    assert target.share.max() < 1e-12


@pytest.mark.parametrize("rule", ["soft", "hard", "adaptive"])
def test_a_very_sharp_teacher_gives_half_to_the_nearest(rule) -> None:
    teacher, keys = keyed("k", 7), keyed("queue", 35)
    target = relabeled(teacher, keys, temperature=1e-4, neighbors=1, rule=rule)
    torch.testing.assert_close(target.share, torch.full((7,), 0.5, dtype=F64), rtol=1e-9, atol=0)
    torch.testing.assert_close(target.mean, keys[(teacher @ keys.T).argmax(1)], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("neighbors", [1, 2, 5])
def test_neighbors_weigh_no_more_than_their_number_times_the_confidence(neighbors) -> None:
    """Before the division the sum of y is at most 1 + c K, and that where nothing is clipped; after it, 1."""
    teacher, keys = keyed("k", 7), keyed("queue", 35)
    clipped = 0
    for temperature in (0.02, 0.1, 1.0):
        share_B = relabeled(teacher, keys, temperature=temperature, neighbors=neighbors).share
        for row, share in zip(teacher, share_B.tolist(), strict=True):
            q = (row @ keys.T / temperature).softmax(0)
            c = 1 - -torch.xlogy(q, q).sum().item() / math.log(35)
            over = max(neighbors * c * q.max().item() - 1, 0.0)
            assert share / (1 - share) <= neighbors * c + 1e-12
            assert (share / (1 - share) == pytest.approx(neighbors * c, abs=1e-10)) == (over < 1e-10)
            clipped += over > 0
            assert sum(slow(row, keys, temperature, neighbors, "soft")) == pytest.approx(1, abs=1e-12)
    assert (clipped > 0) == (neighbors > 1)


def test_one_neighbor_is_sce_with_a_coefficient_for_each_row() -> None:
    """lambda = 1 / (1 + c): min(1, c q') is never clipped. Loss and gradient."""
    q, k, keys = keyed("q", 7).requires_grad_(), keyed("k", 7), keyed("queue", 35)
    target = relabeled(k, keys, temperature=0.2, neighbors=1)
    found = soft_contrast(q, positive=k, keys=keys, temperature=0.1, target=target, reduction="none").loss
    for row in range(7):
        c = 1 - (-(s := (k[row] @ keys.T / 0.2).softmax(0)) * s.log()).sum().item() / math.log(35)
        sce = soft_contrast(
            q[row : row + 1],
            positive=k[row : row + 1],
            keys=keys,
            temperature=0.1,
            teacher=k[row : row + 1],
            teacher_temperature=0.2,
            mix=1 / (1 + c),
        )
        assert found[row].item() == pytest.approx(sce.loss.item(), abs=1e-10)
        slopes = [torch.autograd.grad(loss, q, retain_graph=True)[0] for loss in (found[row], sce.loss)]
        torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-12)


def test_the_order_of_the_keys_does_not_matter() -> None:
    teacher, keys = keyed("k", 7), keyed("queue", 35)
    one = relabeled(teacher, keys, temperature=0.05, neighbors=5)
    other = relabeled(teacher, keys[torch.randperm(35)], temperature=0.05, neighbors=5)
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule", ["soft", "hard", "adaptive"])
def test_few_keys(rule) -> None:
    """More neighbors than keys: all of them. A single key: no confidence. A batch of one: BYOL."""
    teacher, keys = keyed("k", 7), keyed("queue", 3)
    if rule != "soft":
        many = relabeled(teacher, keys, temperature=0.05, neighbors=9, rule=rule)
        torch.testing.assert_close(many, relabeled(teacher, keys, temperature=0.05, neighbors=3, rule=rule))
    single = relabeled(teacher, keys[:1], temperature=0.05, neighbors=2, rule=rule)
    assert single.share.tolist() == [0.5 if rule == "hard" else 0.0] * 7
    p, k = keyed("q", 1), keyed("k", 1)
    one = relabeled_distance(p, k, temperature=0.05, neighbors=2, rule=rule).loss
    assert one.item() == pytest.approx(byol_distance(p, k).item(), abs=1e-12)


@pytest.mark.parametrize("rule", ["soft", "hard", "adaptive"])
@pytest.mark.parametrize("neighbors", [1, 4])
def test_rows_with_unequal_numbers_of_keys(neighbors, rule) -> None:
    """Each is what it is among its own keys alone; without a key only the positive is left."""
    teacher, keys = keyed("k", 7), keyed("queue", 9)
    mask = torch.arange(9) >= torch.tensor([9, 7, 5, 3, 2, 1, 0])[:, None]
    found = relabeled(teacher, keys, temperature=0.1, neighbors=neighbors, rule=rule, mask=mask)
    expected = []
    for row, hidden in zip(teacher, mask, strict=True):
        own = keys[~hidden]
        y = slow(row, own, 0.1, neighbors, rule) if len(own) > 1 else [1.0]
        if len(own) == 1:  # no confidence
            y = [0.5, 0.5] if rule == "hard" else [1.0, 0.0]
        expected.append(y + [0.0] * (10 - len(y)))
    some = torch.tensor(expected, dtype=F64)[:, 1:].sum(1) > 0
    assert_is(Target(*(part[some] for part in found)), [y for y, one in zip(expected, some, strict=True) if one], keys)
    assert found.share[~some].tolist() == [0.0] * int((~some).sum())


def test_no_gradient_reaches_the_targets() -> None:
    p, k = keyed("q", 7).requires_grad_(), keyed("k", 7).requires_grad_()
    relabeled_distance(p, k, temperature=0.05, neighbors=2).loss.backward()
    assert p.grad.abs().sum() > 0
    assert k.grad is None
    for rule in ("soft", "hard", "adaptive"):
        assert not any(part.requires_grad for part in relabeled(k, p, temperature=0.05, neighbors=2, rule=rule))


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="the temperature is 0"):
        relabeled(keyed("k", 7), keyed("queue", 35), temperature=0.0, neighbors=1)


def on_a_rank(rule):
    own = keyed("q", 7)[rank() :: world()].clone().requires_grad_()
    k = keyed("k", 7)[rank() :: world()]
    found = relabeled_distance(own, k, temperature=0.3, neighbors=2, rule=rule)
    found.loss.backward()
    return found.loss.detach(), found.target_entropy, own.grad


@pytest.mark.parametrize("rule", ["soft", "hard", "adaptive"])
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_equal_the_joined_batch(processes, rule, gloo) -> None:
    loss, entropy, slope = on_a_rank(rule)
    for r, (mine, surprise, own) in enumerate(gloo.run(processes, on_a_rank, rule)):
        torch.testing.assert_close((mine, surprise), (loss, entropy), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(own / processes, slope[r::processes], rtol=1e-10, atol=1e-12)
