"""Networks whose BatchNorm layers take shortcut and ReLU are timm's networks: names, numbers, gradients."""

import copy

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from timm.models import resnet
from torch import Tensor, nn

from lookalike.modules import backbone, with_batch_statistics
from lookalike.modules.residual import JoinedBasicBlock, JoinedBottleneck, LastNorm, join_activations

KINDS = {"resnet18": JoinedBasicBlock, "resnet50": JoinedBottleneck, "resnext50_32x4d": JoinedBottleneck}


def both(name: str) -> tuple[nn.Module, nn.Module]:
    """timm's network in fp64, its last scales not zero, and a copy that is joined."""
    plain = timm.create_model(name, num_classes=0, zero_init_last=False).double()
    joined = copy.deepcopy(plain)
    join_activations(joined)
    return plain, joined


@pytest.mark.parametrize("name", list(KINDS))
def test_numbers_gradients_and_names_are_those_of_timm(name: str) -> None:
    plain, joined = both(name)
    assert sum(type(block) is KINDS[name] for block in joined.modules()) >= 8
    assert list(joined.state_dict()) == list(plain.state_dict())
    x = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    for training in (True, False):
        y, z = (net.train(training)(x) for net in (plain, joined))
        assert torch.equal(y, z)
        gradients = [
            torch.autograd.grad(out.square().mean(), list(net.parameters())) for out, net in ((y, plain), (z, joined))
        ]
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), joined.buffers(), strict=True))


@pytest.mark.parametrize("policy", ["global", "split:2"])
def test_a_policy_keeps_shortcut_and_relu(policy: str) -> None:
    plain, joined = both("resnet18")
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    y, z = (with_batch_statistics(net, policy)(x) for net in (plain, joined))
    torch.testing.assert_close(z, y, rtol=0, atol=1e-12)


def test_blocks_with_something_between_stay_as_they_are() -> None:
    for net in (timm.create_model("seresnet50", num_classes=0), timm.create_model("resnet18", drop_path_rate=0.2)):
        join_activations(net)
        dropped = [block for block in net.modules() if isinstance(block, resnet.BasicBlock | resnet.Bottleneck)]
        with_more = [block for block in dropped if block.se is not None or isinstance(block.drop_path, nn.Module)]
        assert with_more
        assert all(type(block) in (resnet.BasicBlock, resnet.Bottleneck) for block in with_more)
        assert not any(isinstance(layer, BatchNormAct2d) for block in with_more for layer in block.modules())


def test_in_bf16_the_kernels_are_as_near_to_fp64_as_torch() -> None:
    pytest.importorskip("numba")
    encoder = with_batch_statistics(backbone("resnet18_quarter", zero_init_last=False), "global")
    encoder.to(memory_format=torch.channels_last)
    by_torch = copy.deepcopy(encoder)
    for layer in by_torch.modules():  # an activation of another type is not that of a kernel
        if hasattr(layer, "act"):
            layer.act = nn.Sequential(layer.act)
    assert sum(type(layer).__name__ == "BatchNorm" and layer.kind is LastNorm for layer in encoder.modules()) == 8
    x, slope = torch.rand(64, 3, 32, 32), torch.randn(64, 128, dtype=torch.float64)

    def found(net: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=pixels.dtype == torch.float32):
            y = net(pixels).double()
        return y.detach(), torch.cat(
            [g.flatten() for g in torch.autograd.grad((y * slope).sum(), list(net.parameters()))]
        )

    exact = found(copy.deepcopy(by_torch).double(), x.double())
    ours, theirs = found(encoder, x), found(by_torch, x)
    for mine, other, right in zip(ours, theirs, exact, strict=True):
        assert not torch.equal(mine, other)  # they differ by rounding: both ways were taken
        assert float((mine - right).norm()) < 1.1 * float((other - right).norm())


def test_evaluation_mode_and_the_plain_average_stay() -> None:
    plain = timm.create_model("resnet18", num_classes=0)
    for norm in plain.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
    joined = copy.deepcopy(plain).eval()
    join_activations(joined)
    assert not any(part.training for part in joined.modules())
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(plain.eval()(x), joined(x))
    for net in (plain, joined):
        net.train()(x)
        net(x + 1)
    assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), joined.buffers(), strict=True))
