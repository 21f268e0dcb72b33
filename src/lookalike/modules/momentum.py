"""The momentum encoder: a slow copy of a network, moved towards it and never trained."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Literal

import torch
from jaxtyping import Shaped
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lookalike.functional.ema import ema_
from lookalike.functional.shuffle import shuffled


class MomentumEncoder(nn.Module):
    """Deep copies of the given modules, run one after another; no gradient, ever.

    batch_norm says where the copies' BatchNorm gets its running statistics:

    "own"      from its own forward passes in training mode, as in MoCo, BYOL, ReSSL, SCE and ASCL (official code)
    "average"  by the same moving average as the parameters; the copies normalize with them, in eval mode
    "copy"     taken from the followed network at each `follow`; eval mode as well

    A key that should share batch statistics with other images than its query does (MoCo, section 3.3) takes "split"
    statistics (modules.batch_statistics) and a shuffled batch.

    >>> net = nn.Linear(3, 2)
    >>> slow = MomentumEncoder(net)
    >>> with torch.no_grad():
    ...     _ = net.bias.add_(1)
    >>> slow.follow(net, momentum=0.75)
    >>> (net(torch.zeros(1, 3)) - slow(torch.zeros(1, 3))).detach()
    tensor([[0.7500, 0.7500]])

    Copies skip no residual branch, whatever the networks do (stochastic depth; the teacher of DINO's official code).
    Buffers other than BatchNorm's are taken for constants of the architecture and stay. Tensors shared between or
    within the modules are shared between the copies too.
    """

    def __init__(self, *modules: nn.Module, batch_norm: Literal["own", "average", "copy"] = "own") -> None:
        super().__init__()
        if not modules:
            raise ValueError("a momentum encoder follows at least one module, and none was given")
        self.batch_norm = batch_norm
        self.copies = deepcopy(nn.ModuleList(modules)).requires_grad_(False)
        for layer in self.copies.modules():
            if isinstance(layer, DropPath):
                layer.drop_prob = 0.0
        self.train()

    @torch.no_grad()
    def forward(self, x: Shaped[Tensor, "B *pixels"], shuffle: torch.Generator | None = None) -> Shaped[Tensor, "B D"]:
        """The last module's output. With a generator, equal on all ranks, of a shuffled batch, put back in order."""
        if shuffle is None:
            return self.stages(x)[-1]
        mixed, in_order = shuffled(x, shuffle)
        return in_order(self.stages(mixed)[-1])

    @torch.no_grad()
    def stages(
        self, x: Shaped[Tensor, "B *pixels"], shuffle: torch.Generator | None = None
    ) -> tuple[Shaped[Tensor, "B _"], ...]:
        """The output of each module, for methods that also need the features of the copied backbone."""
        if shuffle is not None:
            mixed, in_order = shuffled(x, shuffle)
            return tuple(in_order(rows) for rows in self.stages(mixed))
        outputs = []
        for module in self.copies:
            x = module(x)
            outputs.append(x)
        return tuple(outputs)

    @torch.no_grad()
    def follow(self, *modules: nn.Module, momentum: float) -> None:
        """Moves the parameters: theta <- momentum * theta + (1 - momentum) * theta of `modules`.

        The modules are those of the constructor, in the same order. Raises ValueError if their structure differs.
        """
        followed = nn.ModuleList(modules)
        ema_(list(self.copies.parameters()), list(followed.parameters()), momentum)
        if self.batch_norm != "own":
            self._follow_statistics(followed, momentum if self.batch_norm == "average" else 0.0)

    def train(self, mode: bool = True) -> "MomentumEncoder":
        """Follows the mode with batch_norm="own"; otherwise BatchNorm stays in eval mode."""
        super().train(mode)
        if self.batch_norm != "own":
            for layer in _norms(self.copies):
                layer.eval()
        return self

    def _follow_statistics(self, followed: nn.Module, momentum: float) -> None:
        pairs = [
            (mine, theirs)
            for layer, source in zip(_norms(self.copies), _norms(followed), strict=True)
            for mine, theirs in zip(layer.buffers(), source.buffers(), strict=True)
        ]
        averaged = [(mine, theirs) for mine, theirs in pairs if mine.is_floating_point()]
        ema_([mine for mine, _ in averaged], [theirs for _, theirs in averaged], momentum)
        for mine, theirs in pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)  # number of batches seen


def _norms(module: nn.Module) -> Iterator[_BatchNorm]:
    return (layer for layer in module.modules() if isinstance(layer, _BatchNorm))
