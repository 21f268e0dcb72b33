"""Over which rows BatchNorm takes its statistics: a policy for all such layers of a module.

    "global"   the batch of all processes: a synchronized BatchNorm with exact gradients, on any device
    "split:n"  n groups of the global batch, by position mod n: the same for any number of processes that divides n,
               and without communication. It simulates n devices on one (He et al., MoCo, 2020, section 3.3)
    "local"    each process its own rows; results depend on the number of processes

With one process "global" and "local" are the ordinary BatchNorm. B rows, C channels, G groups.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lookalike.functional.batch_norm import Fused, InBlocks, Synchronized, dense_format, fused
from lookalike.functional.collectives import all_sum, world
from lookalike.modules.residual import join_activations


def split(groups: int) -> str:
    """The policy of `groups` groups: split(8) == "split:8"."""
    if groups < 1:
        raise ValueError(f"a batch is split into at least 1 group, and {groups} was given")
    return f"split:{groups}"


def with_batch_statistics(module: nn.Module, policy: str, kind: type[_BatchNorm] = _BatchNorm) -> nn.Module:
    """The module with every BatchNorm layer of a kind under the policy; parameters, buffers and names stay.

    Layers are replaced in place, the result is `module` itself unless it is a BatchNorm. A policy can be changed
    later by another call. kind: nn.BatchNorm1d are the layers of heads. In ResNets of timm the layers also apply the
    ReLU after them and add the shortcut, which a kernel can do at once. Raises ValueError for an unknown policy.
    """
    groups(policy)
    if policy != "local" and issubclass(nn.BatchNorm2d, kind):
        join_activations(module)
    converted: dict[nn.Module, nn.Module] = {}
    for name, layer in list(module.named_modules(remove_duplicate=False)):
        if isinstance(layer, BatchNorm) and issubclass(layer.kind, kind):
            layer.policy = policy
        elif isinstance(layer, kind) and not isinstance(layer, BatchNorm) and policy != "local":
            converted.setdefault(layer, BatchNorm(layer, policy))
            if name:
                module.set_submodule(name, converted[layer])
    return converted.get(module, module)


@torch.no_grad()
def synchronize_(module: nn.Module) -> None:
    """Averages over processes the running statistics that differ between them: those of split and local layers.

    One all-reduce for the whole module. Buffers that are equal everywhere keep their bits; so does everything with
    one process.
    """
    if world() == 1:
        return
    buffers = [
        buffer
        for layer in module.modules()
        if isinstance(layer, _BatchNorm) and not (isinstance(layer, BatchNorm) and layer.policy == "global")
        for buffer in (layer.running_mean, layer.running_var)
        if buffer is not None
    ]
    if not buffers:
        return
    flat = torch.cat([buffer.double().flatten() for buffer in buffers])  # in fp64 a mean of equal fp32 is exact
    means = all_sum(flat) / world()
    for buffer, mean in zip(buffers, means.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(mean.view_as(buffer))


def in_blocks(module: nn.Module, x: Tensor) -> Tensor:
    """module(x), computed with the rows of each group of split statistics lying together.

    What it saves is time: a row lies where the module's first layer wants it, and no later layer gathers its groups
    again. The module must treat rows alike but for BatchNorm, as networks do. On a CPU; elsewhere it is module(x), and
    so it is for layers in eval mode, without groups or with different ones.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, BatchNorm) and layer.training]
    counts = {groups_here(layer.policy) for layer in layers}
    count = counts.pop() if len(counts) == 1 else 0
    if count < 2 or len(x) % count or x.device.type != "cpu" or torch.compiler.is_compiling():
        return module(x)
    try:
        for layer in layers:
            layer.blocks = True
        y = module(_dealt(x, len(x) // count).contiguous(memory_format=dense_format(x)))
    finally:
        for layer in layers:
            layer.blocks = False
    return _dealt(y, count)


def _dealt(x: Tensor, hands: int) -> Tensor:
    """The rows like cards: those of positions mod (B / hands) one after another; its own inverse with B / hands."""
    return x.unflatten(0, (hands, -1)).transpose(0, 1).flatten(0, 1)


def running_statistics(module: nn.Module) -> list[Tensor]:
    """The buffers of all BatchNorm layers: means, variances, counts of batches."""
    layers = (layer for layer in module.modules() if isinstance(layer, _BatchNorm))
    return [buffer for layer in layers for buffer in layer.buffers(recurse=False)]


def unmeasured(module: nn.Module) -> bool:
    """Whether no BatchNorm layer has seen a batch: all running means 0, all variances 1. False without such layers."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    means = [layer.running_mean for layer in layers if layer.running_mean is not None]
    variances = [layer.running_var for layer in layers if layer.running_var is not None]
    return bool(means) and not any(bool(x.any()) for x in means) and all(bool((x == 1).all()) for x in variances)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Inside, what BatchNorm layers learn about batches is not kept: running statistics stay as they are.

    The layers get copies for that time, so that a backward pass under way finds what it saved.
    """
    kept = [(layer, dict(layer._buffers)) for layer in module.modules() if isinstance(layer, _BatchNorm)]
    try:
        for layer, buffers in kept:
            layer._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
        yield
    finally:
        for layer, buffers in kept:
            layer._buffers.update(buffers)


class BatchNorm(_BatchNorm):
    """A BatchNorm layer of any dimension with a policy; shares parameters and buffers with the layer it is made from.

    An activation and dropout that belong to the layer (timm's BatchNormAct2d) are kept.
    """

    def __init__(self, layer: _BatchNorm, policy: str) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum, affine=False, track_running_stats=False)
        self.affine, self.track_running_stats = layer.affine, layer.track_running_stats
        self.weight, self.bias = layer.weight, layer.bias
        self.running_mean, self.running_var = layer.running_mean, layer.running_var
        self.num_batches_tracked = layer.num_batches_tracked
        self.drop: Any = layer.drop if isinstance(layer, BatchNormAct2d) else nn.Identity()
        self.act: Any = layer.act if isinstance(layer, BatchNormAct2d) else nn.Identity()
        self.kind, self.policy = type(layer), policy
        self.blocks = False  # whether the rows of a group lie together, instead of every G-th
        self.train(layer.training)

    def forward(
        self, x: Float[Tensor, "B C *positions"], onto: Float[Tensor, "B C *positions"] | None = None
    ) -> Float[Tensor, "B C *positions"]:
        """onto: what the result is added to, before the activation.

        Raises ValueError if the groups cannot be dealt evenly to processes, or the rows to groups.
        """
        mean, var = self.running_mean, self.running_var
        if not self.training and mean is not None:
            return self._acted(F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps), onto)
        rate = self._rate()
        if self.policy == "global" and world() > 1:
            return self._acted(self._synchronized(x, rate), onto)
        count = groups_here(self.policy)
        if (count < 2 or self.blocks) and self._fused(x, onto):
            return Fused.apply(x, self.weight, self.bias, mean, var, rate, self.eps, self._low, max(count, 1), onto)
        if count > 1:
            return self._acted(self._split(x, count, rate), onto)
        return self._acted(F.batch_norm(x, mean, var, self.weight, self.bias, True, rate, self.eps), onto)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, policy={self.policy}"

    def _acted(self, y: Tensor, onto: Tensor | None) -> Tensor:
        y = self.drop(y)
        return self.act(y if onto is None else y.add_(onto))

    @property
    def _low(self) -> float:
        """The least value of the result."""
        return 0.0 if type(self.act) is nn.ReLU else -torch.inf

    def _fused(self, x: Tensor, onto: Tensor | None) -> bool:
        """Whether one kernel does all of it."""
        plain = type(self.drop) is nn.Identity and type(self.act) in (nn.Identity, nn.ReLU)
        return plain and fused(x, self.weight, self.bias, self.running_mean, self.running_var, onto=onto)

    def _rate(self) -> float:
        """How far the running statistics move in this forward; counts it."""
        if self.num_batches_tracked is None:
            return 0.0
        self.num_batches_tracked.add_(1)
        return 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum

    def _split(self, x: Tensor, groups: int, rate: float) -> Tensor:
        """Row i of this process belongs to group i mod G; in blocks, to group i // (B / G)."""
        if len(x) % groups:
            raise ValueError(
                f"{len(x)} rows cannot be dealt to {groups} groups of batch statistics ({self.policy}): "
                f"choose a batch size per process that {groups} divides"
            )
        moved = [None if t is None else t.repeat(groups, 1) for t in (self.running_mean, self.running_var)]
        facts = x, self.weight, self.bias, *moved, rate, self.eps
        if self.blocks and all(t is not None for t in (self.weight, self.bias, *moved)):
            y = InBlocks.apply(*facts)
        else:
            y = self._folded(x, groups, moved, rate)
        with torch.no_grad():
            for buffer, each in zip((self.running_mean, self.running_var), moved, strict=True):
                if buffer is not None and each is not None:
                    buffer.copy_(each.mean(0))  # moving averages are linear: the mean may follow
        return y

    def _folded(self, x: Tensor, groups: int, moved: Sequence[Tensor | None], rate: float) -> Tensor:
        """Groups as channels; for those of every G-th row a view of the memory."""
        x_B = _dealt(x, groups) if self.blocks else x
        folded = x_B.reshape(len(x) // groups, groups * x.shape[1], *x.shape[2:])
        mean, var = (None if t is None else t.view(-1) for t in moved)
        weight, bias = (None if t is None else t.repeat(groups) for t in (self.weight, self.bias))
        y = F.batch_norm(folded, mean, var, weight, bias, True, rate, self.eps).view(x.shape)
        y = _dealt(y, len(x) // groups) if self.blocks else y
        return y.contiguous(memory_format=dense_format(x))

    def _synchronized(self, x: Tensor, rate: float) -> Tensor:
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        y, mean, var, count = Synchronized.apply(wide, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.lerp_(mean.to(self.running_mean), rate)
            self.running_var.lerp_((var * (count / (count - 1))).to(self.running_var), rate)
        return y.to(x.dtype)

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of dimensions from two."""


def groups(policy: str) -> int:
    """Groups of the global batch that a policy asks for; 0 for "global" and "local". ValueError for an unknown one."""
    name, _, number = policy.partition(":")
    if policy in ("global", "local"):
        return 0
    if name != "split" or not number.isdecimal() or int(number) < 1:
        raise ValueError(f"unknown policy of batch statistics {policy!r}: it is 'global', 'local' or 'split:8'")
    return int(number)


def groups_here(policy: str) -> int:
    """Groups whose rows all lie on this process: position mod n, where this one holds positions r::R.

    Raises ValueError where the processes do not divide them.
    """
    count, processes = groups(policy), world()
    if count % processes:
        raise ValueError(
            f"{count} groups of batch statistics cannot be dealt to {processes} processes: "
            f"choose a number of groups that {processes} divides"
        )
    return count // processes
