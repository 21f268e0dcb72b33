"""The momentum encoder: what moves, what never does, and where BatchNorm statistics come from."""

import copy

import pytest
import torch
from torch import Tensor, nn

from lookalike.modules import MomentumEncoder, with_batch_statistics


def networks() -> tuple[nn.Module, nn.Module]:
    encoder = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU())
    return encoder, nn.Linear(4, 2)


def moved(module: nn.Module) -> None:
    """Other weights, and other statistics."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())):
            tensor.add_(torch.rand_like(tensor))
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm1d):
                layer.num_batches_tracked.fill_(17)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_closed_form_of_one_move() -> None:
    student = nn.Linear(1, 1, bias=False)
    nn.init.ones_(student.weight)
    momentum = MomentumEncoder(student)
    nn.init.zeros_(student.weight)
    momentum.follow(student, momentum=0.99)
    assert momentum.copies[0].weight.item() == pytest.approx(0.99, abs=1e-7)


def test_it_starts_as_the_network_and_runs_its_modules_in_order() -> None:
    encoder, head = networks()
    momentum, x = MomentumEncoder(encoder, head), torch.randn(8, 3)
    assert torch.equal(momentum(x), head(encoder(x)))
    features, projection = momentum.stages(x)
    assert features.shape == (8, 4)
    assert torch.equal(projection, momentum.copies[1](features))


def test_no_gradient_ever() -> None:
    encoder, head = networks()
    momentum = MomentumEncoder(encoder, head)
    z = momentum(torch.randn(8, 3, requires_grad=True))
    assert not z.requires_grad
    assert all(not p.requires_grad and p.grad is None for p in momentum.parameters())
    assert all(p.requires_grad for p in (*encoder.parameters(), *head.parameters()))


def test_follow_moves_every_parameter_and_only_those_with_own_statistics() -> None:
    encoder, head = networks()
    momentum = MomentumEncoder(encoder, head)
    before = snapshot(momentum)
    moved(encoder)
    moved(head)
    momentum.follow(encoder, head, momentum=0.75)
    now = {f"copies.{i}.{n}": t for i, m in enumerate((encoder, head)) for n, t in m.state_dict().items()}
    for name, tensor in momentum.state_dict().items():
        parameter = name.endswith(("weight", "bias"))
        expected = 0.75 * before[name] + 0.25 * now[name] if parameter else before[name]
        torch.testing.assert_close(tensor, expected, msg=name)


@pytest.mark.parametrize("batch_norm", ["own", "average"])
def test_momentum_one_leaves_every_bit(batch_norm: str) -> None:
    encoder, head = networks()
    momentum = MomentumEncoder(encoder, head, batch_norm=batch_norm)
    before = snapshot(momentum)
    moved(encoder)
    momentum.follow(encoder, head, momentum=1.0)
    counts = "num_batches_tracked"
    assert all(torch.equal(before[n], t) for n, t in momentum.state_dict().items() if counts not in n)


@pytest.mark.parametrize("momentum", [0.0, 0.99, 0.999])
def test_the_move_before_the_first_step_changes_no_bit(momentum: float) -> None:
    """Methods that move it before the keys do so at step 0 too, where it is the network still."""
    encoder, head = networks()
    follower = MomentumEncoder(encoder, head)
    before = snapshot(follower)
    follower.follow(encoder, head, momentum=momentum)
    assert all(torch.equal(before[name], tensor) for name, tensor in follower.state_dict().items())


def test_own_statistics_come_from_its_forward_passes_in_training_mode() -> None:
    encoder, head = networks()
    momentum, x = MomentumEncoder(encoder, head), torch.randn(8, 3) + 4
    layer, seen = momentum.copies[0][1], momentum.copies[0][0](x)
    momentum(x)
    torch.testing.assert_close(layer.running_mean, 0.1 * seen.mean(0))
    assert int(encoder[1].num_batches_tracked) == 0
    before = snapshot(momentum)
    momentum.eval()(x)
    assert all(torch.equal(before[name], tensor) for name, tensor in momentum.state_dict().items())


@pytest.mark.parametrize(("batch_norm", "share"), [("average", 0.75), ("copy", 0.0)])
def test_other_policies_take_statistics_from_the_network_and_normalize_with_them(batch_norm: str, share: float) -> None:
    encoder, head = networks()
    momentum = MomentumEncoder(encoder, head, batch_norm=batch_norm)
    nn.Sequential(momentum).train()
    mine, theirs = momentum.copies[0][1], encoder[1]
    assert momentum.training
    assert not mine.training
    before = mine.running_mean.clone(), mine.running_var.clone()
    moved(encoder)
    momentum.follow(encoder, head, momentum=0.75)
    torch.testing.assert_close(mine.running_mean, share * before[0] + (1 - share) * theirs.running_mean)
    torch.testing.assert_close(mine.running_var, share * before[1] + (1 - share) * theirs.running_var)
    assert int(mine.num_batches_tracked) == 17
    after, x = snapshot(momentum), torch.randn(8, 3)
    alone = torch.cat([momentum(row) for row in x.split(1)])
    torch.testing.assert_close(momentum(x), alone)
    assert all(torch.equal(after[name], tensor) for name, tensor in momentum.state_dict().items())


def test_shared_tensors_move_once_and_stay_shared() -> None:
    first = nn.Linear(3, 3)
    second = nn.Linear(3, 3)
    second.weight = first.weight
    momentum = MomentumEncoder(first, second)
    start = first.weight.detach().clone()
    nn.init.zeros_(first.weight)
    momentum.follow(first, second, momentum=0.5)
    assert momentum.copies[0].weight is momentum.copies[1].weight
    torch.testing.assert_close(momentum.copies[0].weight, 0.5 * start)


def test_state_dict_goes_on_the_same() -> None:
    encoder, head = networks()
    momentum, x = MomentumEncoder(encoder, head), torch.randn(8, 3)
    momentum(x)
    moved(encoder)
    momentum.follow(encoder, head, momentum=0.5)
    again = MomentumEncoder(*networks())
    again.load_state_dict(snapshot(momentum))
    for each in (momentum, again):
        each.follow(encoder, head, momentum=0.9)
    assert torch.equal(again(x), momentum(x))
    assert all(torch.equal(a, b) for a, b in zip(again.buffers(), momentum.buffers(), strict=True))


def test_split_statistics_see_who_shares_a_group() -> None:
    encoder, head = networks()
    momentum = with_batch_statistics(MomentumEncoder(encoder, head), "split:2")
    x, order = torch.randn(8, 3), torch.tensor([0, 2, 1, 3, 4, 6, 5, 7])
    back = torch.argsort(order)
    plain, shuffled = momentum(x), momentum(x[order])[back]
    assert not torch.allclose(plain, shuffled)
    within = torch.tensor([2, 1, 0, 3, 4, 5, 6, 7])  # 0 and 2 are in one group: nobody's company changes
    torch.testing.assert_close(momentum(x[within])[torch.argsort(within)], plain)


def test_mistakes_are_sentences() -> None:
    with pytest.raises(ValueError, match="none was given"):
        MomentumEncoder()
    encoder, head = networks()
    momentum = MomentumEncoder(encoder, head)
    with pytest.raises(ValueError, match="of 6 tensors cannot follow 4"):
        momentum.follow(encoder, momentum=0.5)
    other = copy.deepcopy(encoder)
    other[0] = nn.Linear(3, 5)
    with pytest.raises(ValueError, match=r"shape \(4, 3\) and cannot follow \(5, 3\)"):
        momentum.follow(other, head, momentum=0.5)
