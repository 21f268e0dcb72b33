"""Values whose gradient is already known: what a sweep hands to autograd, so that nothing else is kept for backward."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def known_gradient(
    x_BD: Float[Tensor, "B D"], value_B: Float[Tensor, "B"], gradient_BD: Float[Tensor, "B D"]
) -> Float[Tensor, "B"]:
    """The values, whose gradient with respect to row i of x is row i of `gradient_BD`."""
    return _KnownGradient.apply(x_BD, value_B, gradient_BD)


class _KnownGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_BD, value_B, gradient_BD):
        ctx.save_for_backward(gradient_BD)
        ctx.dtype = x_BD.dtype
        return value_B.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream_B):
        (gradient_BD,) = ctx.saved_tensors
        return (upstream_B[:, None] * gradient_BD).to(ctx.dtype), None, None
