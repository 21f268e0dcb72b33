"""BatchNorm policies against slow loops, and against one process with the joined batch."""

import copy

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from gloo import Gloo
from lookalike.functional.batch_norm import Synchronized
from lookalike.functional.collectives import global_mean, rank, world
from lookalike.modules import BatchNorm, split, synchronize_, with_batch_statistics
from lookalike.modules.batch_statistics import in_blocks

DOUBLE = torch.float64
EXACT = {"rtol": 0, "atol": 1e-10}


def slow_split(x: Tensor, layer: nn.Module, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Output and running statistics, one row, group and channel at a time."""
    y, means, variances = torch.empty_like(x), [], []
    for group in range(groups):
        rows = [i for i in range(len(x)) if i % groups == group]
        part = torch.stack([x[i] for i in rows]).transpose(0, 1).flatten(1)  # C x values
        mean, var = part.mean(1), part.var(1, unbiased=False)
        for i in rows:
            for c in range(x.shape[1]):
                scale = 1.0 if layer.weight is None else layer.weight[c]
                offset = 0.0 if layer.bias is None else layer.bias[c]
                y[i, c] = (x[i, c] - mean[c]) / (var[c] + layer.eps) ** 0.5 * scale + offset
        means.append(0.9 * layer.running_mean + 0.1 * mean)
        variances.append(0.9 * layer.running_var + 0.1 * part.var(1))
    return y.detach(), torch.stack(means).mean(0), torch.stack(variances).mean(0)


def layer_of(dims: int, *, affine: bool = True, bias: bool = True) -> nn.Module:
    layer = (nn.BatchNorm2d if dims == 4 else nn.BatchNorm1d)(3, affine=affine).double()
    if affine:
        nn.init.uniform_(layer.weight, 0.5, 2)
        nn.init.normal_(layer.bias)
    if not bias:
        layer.register_parameter("bias", None)
    layer.running_mean.normal_()
    layer.running_var.uniform_(0.5, 2)
    return layer


@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 5), (8, 3, 2, 3)])
@pytest.mark.parametrize(("affine", "bias"), [(True, True), (True, False), (False, False)])
def test_split_is_the_slow_loop(shape: tuple[int, ...], affine: bool, bias: bool) -> None:
    plain = layer_of(len(shape), affine=affine, bias=bias)
    x = torch.randn(shape, dtype=DOUBLE) * 3 + 5
    expected, mean, var = slow_split(x, plain, groups=4)
    layer = with_batch_statistics(copy.deepcopy(plain), split(4))
    torch.testing.assert_close(layer(x), expected, **EXACT)
    torch.testing.assert_close(layer.running_mean, mean, **EXACT)
    torch.testing.assert_close(layer.running_var, var, **EXACT)
    assert int(layer.num_batches_tracked) == 1
    torch.testing.assert_close(layer.eval()(x), F.batch_norm(x, mean, var, plain.weight, plain.bias), **EXACT)


@pytest.mark.parametrize("shape", [(8, 2), (4, 2, 2), (4, 2, 1, 2)])
def test_gradient_of_split(shape: tuple[int, ...]) -> None:
    layer = with_batch_statistics((nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(2).double(), split(2))
    assert torch.autograd.gradcheck(layer, torch.randn(shape, dtype=DOUBLE).requires_grad_())


def convolutions() -> nn.Module:
    layers = (nn.Conv2d(2, 3, 3), BatchNormAct2d(3), nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4, affine=False))
    torch.manual_seed(7)
    return nn.Sequential(*layers, nn.ReLU(inplace=True), nn.Flatten()).double()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_network_computed_in_blocks_of_groups_is_the_same_network(layout: torch.memory_format) -> None:
    plain = with_batch_statistics(convolutions(), split(4)).to(memory_format=layout)
    other, x = copy.deepcopy(plain), torch.randn(12, 2, 6, 6, dtype=DOUBLE) * 3 + 5
    one, two = (x.clone().contiguous(memory_format=layout).requires_grad_() for _ in range(2))
    y, same = plain(one), in_blocks(other, two)
    torch.testing.assert_close(same, y, **EXACT)
    for rows, value in ((y, one), (same, two)):
        (rows * torch.linspace(-1, 1, rows.numel(), dtype=DOUBLE).view_as(rows)).sum().backward()
        assert value.grad.abs().sum() > 1
    torch.testing.assert_close(two.grad, one.grad, **EXACT)
    for a, b in zip(other.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, **EXACT)
    for a, b in zip(other.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(a, b, **EXACT)
    torch.testing.assert_close(in_blocks(other.eval(), x), plain.eval()(x), **EXACT)


def test_blocks_are_left_behind_whatever_happens() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("a defect of the network")

    net = with_batch_statistics(nn.Sequential(nn.BatchNorm1d(2), Broken()), "split:2")
    with pytest.raises(KeyError):
        in_blocks(net, torch.randn(4, 2))
    x = torch.tensor([[0.0], [10.0], [2.0], [12.0]]).expand(4, 2)  # every second row is a group: -1, -1, 1, 1
    torch.testing.assert_close(net[0](x)[:, 0], torch.tensor([-1.0, -1.0, 1.0, 1.0]), rtol=1e-4, atol=0)


def test_split_keeps_the_memory_format_and_gives_the_same_values() -> None:
    layer, x = with_batch_statistics(layer_of(4), split(2)), torch.randn(4, 3, 5, 5, dtype=DOUBLE)
    last = layer(x.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, layer(x), **EXACT)


def test_statistics_of_bfloat16_are_taken_in_float32() -> None:
    x = (torch.randn(64, 3, 8, 8) * 0.05 + 10).bfloat16()  # bf16 has 8 bits: a mean in it would be off by 0.03
    for policy in ("global", "split:2"):
        layer = with_batch_statistics(nn.BatchNorm2d(3), policy)
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        assert y.dtype == torch.bfloat16
        torch.testing.assert_close(layer.running_mean, 0.1 * x.float().mean((0, 2, 3)), rtol=1e-5, atol=0)
        assert layer.running_mean.dtype == torch.float32


@pytest.mark.parametrize("policy", ["global", "local", "split:2"])
def test_conversion_keeps_names_values_and_sharing(policy: str) -> None:
    shared = nn.BatchNorm2d(4)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), shared, nn.Sequential(nn.Conv2d(4, 4, 1), shared, BatchNormAct2d(4)))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    parameters = list(net.parameters())
    assert with_batch_statistics(net, policy) is net
    assert list(net.state_dict()) == list(before)
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    assert net[1] is net[2][1]
    assert all(isinstance(layer, BatchNorm) for layer in (net[1], net[2][2])) == (policy != "local")


def test_conversion_keeps_timms_activation() -> None:
    plain, x = BatchNormAct2d(3).double(), torch.randn(4, 3, 2, 2, dtype=DOUBLE)
    expected = copy.deepcopy(plain)(x)
    assert (expected == 0).any()
    torch.testing.assert_close(with_batch_statistics(plain, "global")(x), expected, **EXACT)


def test_a_policy_can_be_changed_and_shows_in_the_repr() -> None:
    net = with_batch_statistics(nn.Sequential(nn.BatchNorm1d(2)), "split:2")
    x = torch.randn(6, 2)
    assert "policy=split:2" in repr(net)
    torch.testing.assert_close(
        with_batch_statistics(net, "local")(x), F.batch_norm(x, None, None, training=True), rtol=1e-5, atol=1e-6
    )


def test_one_process_leaves_global_statistics_ordinary_and_buffers_alone() -> None:
    plain, x = layer_of(4), torch.randn(6, 3, 2, 2, dtype=DOUBLE)
    layer = with_batch_statistics(copy.deepcopy(plain), "global")
    assert torch.equal(layer(x), plain(x))
    before = layer.running_mean.clone()
    synchronize_(layer)
    assert torch.equal(layer.running_mean, before)


def test_average_over_all_batches_without_a_momentum() -> None:
    layer = with_batch_statistics(nn.BatchNorm1d(2, momentum=None).double(), "split:2")
    batches = torch.randn(5, 6, 2, dtype=DOUBLE)
    for batch in batches:
        layer(batch)
    torch.testing.assert_close(layer.running_mean, batches.mean((0, 1)), **EXACT)


@pytest.mark.parametrize("shape", [(6, 2), (4, 2, 3), (3, 2, 2, 2)])
def test_gradient_of_the_synchronized_form(shape: tuple[int, ...]) -> None:
    x = (torch.randn(shape, dtype=DOUBLE) * 2 + 3).requires_grad_()
    weight, bias = torch.rand(2, dtype=DOUBLE).requires_grad_(), torch.rand(2, dtype=DOUBLE).requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: Synchronized.apply(*a, 1e-5)[0], (x, weight, bias))
    assert torch.autograd.gradcheck(lambda a: Synchronized.apply(a, None, None, 1e-5)[0], (x,))


def test_far_from_zero_float32_keeps_its_digits() -> None:
    x = torch.randn(4096, 2) * 0.01 + 100  # mean of squares minus square of mean would lose every digit
    y, _, var, _ = Synchronized.apply(x, None, None, 1e-5)
    torch.testing.assert_close(var, x.double().var(0, unbiased=False).float(), rtol=1e-4, atol=0)
    exact = F.batch_norm(x.double(), None, None, training=True)
    one_bit = 2**-23 * 100 / 0.01  # what the last bit of x weighs in y
    assert (y - exact).abs().max() < one_bit


def test_mistakes_are_sentences() -> None:
    for policy in ("sync", "split", "split:0", "split:x", "split:-1"):
        with pytest.raises(ValueError, match=f"unknown policy of batch statistics '{policy}'"):
            with_batch_statistics(nn.BatchNorm1d(2), policy)
    with pytest.raises(ValueError, match="10 rows cannot be dealt to 4 groups"):
        with_batch_statistics(nn.BatchNorm1d(2), "split:4")(torch.randn(10, 2))
    with pytest.raises(ValueError, match="at least 1 group"):
        split(0)


# ---- several processes: equal to one process with the joined batch


def network() -> nn.Module:
    torch.manual_seed(5)
    layers = (nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4))
    return nn.Sequential(*layers, nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4, affine=False)).double()


def step(policy: str, rows: int) -> dict[str, Tensor]:
    """Forward and backward of this rank's share; gradients averaged over ranks as DistributedDataParallel does."""
    net = with_batch_statistics(network(), policy)
    generator = torch.Generator().manual_seed(6)
    batch = torch.randn(rows, 2, 4, 4, generator=generator, dtype=DOUBLE) * 3 + 7
    target = torch.randn(rows, 4, generator=generator, dtype=DOUBLE)
    mine = slice(rank(), None, world())
    x = batch[mine].clone().requires_grad_()
    y = net(x)
    loss = global_mean((y * target[mine]).sin().sum(1))
    loss.backward()
    synchronize_(net)
    found = {"y": y.detach(), "x": x.grad / world(), "loss": loss.detach()}
    for name, parameter in net.named_parameters():
        gradient = parameter.grad.clone()
        if world() > 1:
            torch.distributed.all_reduce(gradient)
        found[f"gradient {name}"] = gradient / world()
    return found | {f"buffer {name}": buffer.clone() for name, buffer in net.named_buffers()}


@pytest.mark.parametrize(
    ("policy", "rows", "ranks"), [("global", 12, 2), ("global", 13, 3), ("split:4", 12, 2), ("split:2", 8, 2)]
)
def test_processes_equal_one_process_with_the_joined_batch(gloo: Gloo, policy: str, rows: int, ranks: int) -> None:
    whole = step(policy, rows)
    for number, share in enumerate(gloo.run(ranks, step, policy, rows)):
        for name, value in share.items():
            expected = whole[name][number::ranks] if name in ("x", "y") else whole[name]
            torch.testing.assert_close(value, expected, **EXACT, msg=lambda text, name=name: f"{name}: {text}")


def buffers(policy: str) -> list[Tensor]:
    net = with_batch_statistics(nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2)), policy)
    net[1].running_mean.copy_(torch.tensor([0.1, 1 / 3]))  # equal on all ranks: must keep its bits
    net[1].eval()
    net(torch.tensor([[0.0, 1.0], [2.0, 3.0]]) + 10 * rank())
    own = net[0].running_mean.clone()
    synchronize_(net)
    return [own, net[0].running_mean, net[1].running_mean]


def test_local_buffers_are_averaged_and_equal_ones_keep_their_bits(gloo: Gloo) -> None:
    found = gloo.run(3, buffers, "local")
    assert [own.tolist() for own, _, _ in found] != [found[0][0].tolist()] * 3
    for _, averaged, equal in found:
        torch.testing.assert_close(averaged, torch.stack([own for own, _, _ in found]).mean(0))
        assert torch.equal(averaged, found[0][1])
        assert torch.equal(equal, torch.tensor([0.1, 1 / 3]))


def test_groups_must_be_dealt_to_processes(gloo: Gloo) -> None:
    with pytest.raises(ValueError, match="4 groups of batch statistics cannot be dealt to 3 processes"):
        gloo.run(3, step, "split:4", 12)
