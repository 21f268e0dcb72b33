"""BatchNorm over the rows of all processes, over blocks of rows, and by compiled kernels: where torch has no layer."""

from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lookalike.functional.collectives import all_sum
from lookalike.functional.machine_code import call, forked, kernels

SMALL = 2**16  # numbers of a map; below, calling a kernel costs more than it saves


class Synchronized(torch.autograd.Function):
    """BatchNorm over the rows of all processes; one all-reduce forward, one backward.

    Moments are joined in fp64 from each process's own mean and variance, so nothing cancels in fp32. The gradients
    of weight and bias are those of the own rows: averaging over processes is left to who owns the parameters.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        own, channels = x.numel() // x.shape[1], (1, -1, *[1] * (x.dim() - 2))
        others = [d for d in range(x.dim()) if d != 1]
        own_mean = x.sum(others) / own
        own_var = (x - own_mean.view(channels)).square_().sum(others) / own
        first, second = own_mean.double(), own_var.double() + own_mean.double().square()
        total = all_sum(torch.cat([first * own, second * own, first.new_full((1,), own)]))
        count = total[-1].clone()
        first, second = (total[:-1] / count).chunk(2)
        mean, var = first.to(x.dtype), (second - first.square()).clamp_min(0).to(x.dtype)
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps, ctx.channels = eps, channels
        ctx.mark_non_differentiable(mean, var, count)
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps), mean, var, count

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, *_):
        x, weight, mean, var, count = ctx.saved_tensors
        inverse = (var + ctx.eps).rsqrt()
        # sums of dy * normalized x and of dy, in one pass
        fixed = (None, mean, var, None, None, False, ctx.eps, [False, True, True])
        _, d_weight, d_bias = torch.ops.aten.native_batch_norm_backward(dy, x, *fixed)
        slope, offset = (all_sum(torch.cat([d_weight, d_bias]).double()) / count).to(x.dtype).chunk(2)
        scale = inverse if weight is None else inverse * weight
        by_x, constant = -scale * inverse * slope, scale * (mean * inverse * slope - offset)
        dx = torch.addcmul(constant.view(ctx.channels), x, by_x.view(ctx.channels))
        dx.addcmul_(dy, scale.view(ctx.channels))
        needs = ctx.needs_input_grad
        return dx, d_weight if needs[1] else None, d_bias if needs[2] else None, None


class InBlocks(torch.autograd.Function):
    """BatchNorm of each of G blocks of rows by torch's own kernel, into memory that holds them all.

    mean, var: (G, C), moved by their blocks.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, mean, var, rate, eps):
        y, rows = torch.empty_like(x), len(x) // len(mean)
        means, scales = (weight.new_empty(mean.shape) for _ in range(2))
        for own, out, *moved, saved, scale in zip(x.split(rows), y.split(rows), mean, var, means, scales, strict=True):
            facts = own, weight, bias, *moved, True, rate, eps
            torch.ops.aten.native_batch_norm.out(*facts, out=out, save_mean=saved, save_invstd=scale)
        ctx.save_for_backward(x, weight, means, scales)
        ctx.eps = eps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, weight, means, scales = ctx.saved_tensors
        dy, rows = dy.contiguous(memory_format=dense_format(x)), len(x) // len(means)
        dx, d_weight, d_bias = torch.empty_like(x), torch.empty_like(means), torch.empty_like(means)
        given = zip(dy.split(rows), x.split(rows), means, scales, strict=True)
        found = zip(dx.split(rows), d_weight, d_bias, strict=True)
        for (slope, own, mean, scale), (out, out_weight, out_bias) in zip(given, found, strict=True):
            facts = slope, own, weight, None, None, mean, scale, True, ctx.eps, [True, True, True]
            torch.ops.aten.native_batch_norm_backward.out(*facts, out0=out, out1=out_weight, out2=out_bias)
        return dx, d_weight.sum(0), d_bias.sum(0), None, None, None, None


class Fused(torch.autograd.Function):
    """max(BatchNorm of each of G blocks of rows + onto, low) of bf16 maps in channels_last on a CPU: see `fused`.

    mean, var: (C,), moved towards the average of the blocks' own. onto: maps like x, or None. Without it the result is
    not kept for the backward pass, which knows from x where it was bounded.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, mean, var, rate, eps, low, blocks, onto=None):
        y, width = torch.empty_like(x), row_of_pixels(x, blocks) * x.shape[1]
        facts = [weight.new_empty(blocks, width) for _ in range(4)]
        adds = onto is not None
        maps = (bits_of(map, blocks, width) for map in (x, y, onto if adds else x))
        moved = weight.detach(), bias.detach(), eps, low, rate, mean, var
        call(compiled_kernels, "forward", *maps, adds, *moved, *facts)
        ctx.save_for_backward(x, y if adds else x, *facts)
        ctx.low, ctx.adds = low, adds
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, y, *facts = ctx.saved_tensors
        dy, dx = dy.contiguous(memory_format=torch.channels_last), torch.empty_like(x)
        d_onto = torch.empty_like(x) if ctx.adds else dx
        d_weight, d_bias = (facts[0].new_empty(x.shape[1]) for _ in range(2))
        maps = (bits_of(map, *facts[0].shape) for map in (x, y, dy, dx, d_onto))
        call(compiled_kernels, "backward", *maps, ctx.adds, ctx.low, *facts, d_weight, d_bias)
        return dx, d_weight, d_bias, None, None, None, None, None, None, d_onto if ctx.adds else None


def fused(x: Tensor, *parameters: Tensor | None, onto: Tensor | None = None) -> bool:
    """Whether `Fused` can take these maps, weights and running statistics, and is worth it."""
    return (
        x.device.type == "cpu"
        and x.dim() == 4
        and x.numel() >= SMALL
        and all(map.dtype == torch.bfloat16 for map in (x, onto) if map is not None)
        and all(map.is_contiguous(memory_format=torch.channels_last) for map in (x, onto) if map is not None)
        and all(one is not None and one.dtype == torch.float32 for one in parameters)
        and kernels(compiled_kernels) is not None  # asked first: torch.compile cannot look into what follows
        and not forked()
    )


def compiled_kernels() -> ModuleType:
    """The kernels; importing them needs numba."""
    from lookalike.functional import batch_norm_kernels

    return batch_norm_kernels


def row_of_pixels(x: Tensor, groups: int) -> int:
    """How many pixels a kernel takes at once, to fill its vectors."""
    pixels, most = x.numel() // (x.shape[1] * groups), max(1, 128 // x.shape[1])
    return max(k for k in (1, 2, 4, 8, 16, 32, 64, 128) if k <= most and pixels % k == 0)


def bits_of(x: Tensor, groups: int, width: int) -> Tensor:
    """The memory of a map: (G, n, width)."""
    return x.permute(0, 2, 3, 1).view(torch.uint16).view(groups, -1, width)


def dense_format(x: Tensor) -> torch.memory_format:
    """channels_last (or its form for clips) where the memory of x is laid out so, otherwise contiguous."""
    for dims, layout in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if x.dim() == dims and not x.is_contiguous() and x.is_contiguous(memory_format=layout):
            return layout
    return torch.contiguous_format
