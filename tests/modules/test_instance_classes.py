"""Class weights that move themselves: against torch's SGD on dense weights, skipped updates, ranks, what is saved."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from lookalike.functional import ClassTarget
from lookalike.functional.collectives import gather_rows, rank, world
from lookalike.modules import InstanceClasses

F64 = torch.float64
SIZE, DIM, STEPS = 23, 5, 6
SETTINGS = {"temperature": 0.2}


def batches(count: int = STEPS) -> list[tuple[Tensor, Tensor]]:
    """(views, classes) of some steps, the same in every process."""
    generator = torch.Generator().manual_seed(1)
    return [
        (
            normalize(torch.randn(4, 2, DIM, dtype=F64, generator=generator), dim=2),
            torch.randperm(SIZE, generator=generator)[:4],
        )
        for _ in range(count)
    ]


def rate(step: int) -> float:
    return 0.3 / (1 + step)


def classes(**settings) -> InstanceClasses:
    return InstanceClasses(SIZE, DIM, weight_decay=0.1, **settings).double()


def torch_sgd(rows: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Weights and velocity after the steps by full matrices, with a gradient of zero for classes left out."""
    weights = nn.Parameter(classes().weights.own.clone())
    optimizer = torch.optim.SGD([weights], momentum=0.9, weight_decay=0.1)
    for step, (x_BVD, own) in enumerate(batches()):
        optimizer.param_groups[0]["lr"] = rate(step)
        optimizer.zero_grad()
        logits = x_BVD @ normalize(weights, dim=1).T / 0.2
        if rows is not None:
            absent = torch.ones(SIZE, dtype=torch.bool).index_fill_(0, rows[step], False)
            logits = logits.masked_fill(absent, -torch.inf)
        cross_entropy(logits.flatten(0, 1), own.repeat_interleave(2)).backward()
        optimizer.step()
    return weights.detach(), optimizer.state[weights]["momentum_buffer"]


def trained(own_classes: InstanceClasses, rows: list[Tensor] | None = None, parts: int = 1) -> InstanceClasses:
    """The same by the module; each batch in `parts` micro-batches."""
    for step, (x_BVD, own) in enumerate(batches()):
        among = None if rows is None else rows[step]
        log_sums = []
        for x, index in zip(x_BVD.chunk(parts), own.chunk(parts), strict=True):
            mine = slice(rank(), None, world())
            found = own_classes(x[mine], ClassTarget(index[mine]), among=among, **SETTINGS)
            log_sums.append(gather_rows(found.log_sum))
        own_classes.update(x_BVD, torch.cat(log_sums), ClassTarget(own), rate=rate(step), among=among, **SETTINGS)
    return own_classes


def state(rows: list[Tensor] | None = None, **settings) -> dict[str, Tensor]:
    return trained(classes(**settings), rows).state_dict()


@pytest.mark.parametrize("remember", [False, True])
@pytest.mark.parametrize("parts", [1, 2])
def test_equals_a_dense_update(remember, parts):
    found = trained(classes(remember=remember), parts=parts)
    weights, velocity = torch_sgd()
    torch.testing.assert_close(found.weights.own, weights, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.velocity.own, velocity, rtol=1e-12, atol=1e-12)


def test_remembering_changes_no_bit():
    plain, remembered = state(), state(remember=True)
    assert all(torch.equal(remembered[name], value) for name, value in plain.items())


def test_views_that_the_weights_do_not_learn_from_are_not_remembered():
    module = classes(remember=True)
    (x_BVD, own), (others, _) = batches(2)
    found = module(x_BVD, ClassTarget(own), **SETTINGS)
    module(others, ClassTarget(own), learns=False, **SETTINGS)
    module.update(x_BVD, found.log_sum, ClassTarget(own), rate=0.1, **SETTINGS)
    plain = classes()
    plain.update(x_BVD, plain(x_BVD, ClassTarget(own), **SETTINGS).log_sum, ClassTarget(own), rate=0.1, **SETTINGS)
    assert torch.equal(module.weights.own, plain.weights.own)


def some_rows() -> list[Tensor]:
    """Which classes take part: those of the batch and a few; some stay out for many steps."""
    generator = torch.Generator().manual_seed(2)
    return [torch.cat([own, torch.randperm(SIZE, generator=generator)[:3]]).unique() for _, own in batches()]


@pytest.mark.parametrize("remember", [False, True])
def test_skipped_updates_are_made_up_for_exactly(remember):
    rows = some_rows()
    found = trained(classes(sampled=True, remember=remember), rows)
    found.catch_up()
    weights, velocity = torch_sgd(rows)
    torch.testing.assert_close(found.weights.own, weights, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.velocity.own, velocity, rtol=1e-12, atol=1e-12)


def test_skipped_updates_in_closed_form():
    """Rate 0.1, decay 0.01, momentum 0.9, weight and velocity 1, three steps."""
    module = InstanceClasses(1, 1, weight_decay=0.01, sampled=True).double()
    module.weights.own.fill_(1.0)
    module.velocity.own.fill_(1.0)
    for _ in range(3):
        module._note_skipped(0.1, torch.zeros(0, dtype=torch.int64))
    module.catch_up()
    assert module.weights.own.item() == pytest.approx(0.750836709, abs=1e-9)
    assert module.velocity.own.item() == pytest.approx(0.753542910, abs=1e-9)


def test_all_classes_take_part_in_a_sample_of_all():
    rows = [torch.arange(SIZE)] * STEPS
    found, plain = state(rows, sampled=True), state()
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("settings", [{}, {"remember": True}, {"sampled": True}])
def test_processes_equal_one(gloo, processes, settings):
    rows = some_rows() if "sampled" in settings else None
    expected = state(rows, **settings)
    for found in gloo.run(processes, state_of, rows, settings):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-10)


def state_of(rows: list[Tensor] | None, settings: dict) -> dict[str, Tensor]:
    return state(rows, **settings)


def test_first_weights():
    big = InstanceClasses(20000, 8).weights.own
    assert big.std().item() == pytest.approx(0.01, rel=0.01)
    assert big.mean().item() == pytest.approx(0.0, abs=1e-4)
    assert len(big.unique(dim=0)) == 20000
    assert not torch.equal(classes(seed=1).weights.own, classes().weights.own)


def test_some_classes_need_a_module_that_keeps_account():
    x_BVD, own = batches(1)[0]
    with pytest.raises(ValueError, match="sampled=True"):
        classes()(x_BVD, ClassTarget(own), among=torch.arange(SIZE), **SETTINGS)


def test_classes_sampled_for_each_micro_batch_cannot_share_an_update():
    with pytest.raises(ValueError, match="use accumulate=1"):
        trained(classes(sampled=True), [torch.zeros(1, dtype=torch.int64)] * STEPS, parts=2)
