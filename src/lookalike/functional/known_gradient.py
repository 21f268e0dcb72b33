"""Values whose gradient was computed beside them: nothing of the way to them is kept for backward."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def with_gradient(
    q_BD: Float[Tensor, "B D"], loss_B: Float[Tensor, "B"], gradient_BD: Float[Tensor, "B D"]
) -> Float[Tensor, "B"]:
    """The values loss_B, whose gradient with respect to row i of q is row i of gradient_BD.

    >>> q = torch.tensor([[1.0, 2.0]], requires_grad=True)
    >>> with_gradient(q, torch.tensor([5.0]), torch.tensor([[3.0, 4.0]])).sum().backward()
    >>> q.grad
    tensor([[3., 4.]])
    """
    return _KnownGradient.apply(q_BD, loss_B, gradient_BD)


class _KnownGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q_BD, loss_B, gradient_BD):
        ctx.save_for_backward(gradient_BD)
        ctx.dtype = q_BD.dtype
        return loss_B.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream_B):
        (gradient_BD,) = ctx.saved_tensors
        return (upstream_B[:, None] * gradient_BD).to(ctx.dtype), None, None
