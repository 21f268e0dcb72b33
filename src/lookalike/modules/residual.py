"""ResNets of timm whose BatchNorm layers add the shortcut and apply the ReLU after them: one pass where a kernel can.

Names of parameters and buffers, and the numbers, are those of timm's networks.
"""

from typing import Any

from jaxtyping import Float
from timm.layers import BatchNormAct2d
from timm.models import resnet
from torch import Tensor, nn

Maps = Float[Tensor, "B C H W"]


class LastNorm(BatchNormAct2d):
    """The last BatchNorm of a block: ReLU(BatchNorm(x) + onto)."""

    def forward(self, x: Maps, onto: Maps | None = None) -> Maps:
        y = nn.BatchNorm2d.forward(self, x)
        return self.act(y if onto is None else y.add_(onto))


class JoinedBasicBlock(resnet.BasicBlock):
    """A BasicBlock without drop or attention, whose last BatchNorm takes the shortcut."""

    def forward(self, x: Maps) -> Float[Tensor, "B C2 H2 W2"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        last: Any = self.bn2
        return last(self.conv2(self.bn1(self.conv1(x))), shortcut)


class JoinedBottleneck(resnet.Bottleneck):
    """A Bottleneck without drop or attention, whose last BatchNorm takes the shortcut."""

    def forward(self, x: Maps) -> Float[Tensor, "B C2 H2 W2"]:
        shortcut = x if self.downsample is None else self.downsample(x)
        last: Any = self.bn3
        return last(self.conv3(self.bn2(self.conv2(self.bn1(self.conv1(x))))), shortcut)


JOINED: dict[type, tuple[type, int]] = {
    resnet.BasicBlock: (JoinedBasicBlock, 2),
    resnet.Bottleneck: (JoinedBottleneck, 3),
}


def join_activations(module: nn.Module) -> None:
    """Changes the ResNets of timm in a module in place, wherever a BatchNorm and its ReLU have nothing between them."""
    for block in list(module.modules()):
        if type(block) is resnet.ResNet and _plain(block, 1):
            _join(block, 1, BatchNormAct2d)
        kind, last = JOINED.get(type(block), (None, 0))
        if kind is not None and all(_plain(block, number) for number in range(1, last + 1)):
            for number in range(1, last):
                _join(block, number, BatchNormAct2d)
            _join(block, last, LastNorm)
            block.__class__ = kind


def _plain(block: Any, number: int) -> bool:
    between = [getattr(block, name, None) for name in ("drop_block", "aa", "se", "drop_path")]
    norm, act = getattr(block, f"bn{number}"), getattr(block, f"act{number}")
    nothing = all(part is None or type(part) is nn.Identity for part in between)
    return nothing and type(norm) is nn.BatchNorm2d and type(act) is nn.ReLU


def _join(block: Any, number: int, kind: type[BatchNormAct2d]) -> None:
    norm: nn.BatchNorm2d = getattr(block, f"bn{number}")
    joined = kind(norm.num_features, norm.eps)
    joined.momentum = norm.momentum  # None is the average of all batches
    joined.train(norm.training)
    joined.weight, joined.bias = norm.weight, norm.bias
    joined._buffers.update(norm._buffers)
    setattr(block, f"bn{number}", joined)
    setattr(block, f"act{number}", nn.Identity().train(norm.training))
