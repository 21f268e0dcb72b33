"""KL divergence between distributions given by their logarithms, with a choice of what gets gradient."""

from typing import Literal, TypeAlias, get_args

from jaxtyping import Float
from torch import Tensor

StopGradient: TypeAlias = Literal["entropy", "first", "none"]


def kl_divergence(
    log_p_BN: Float[Tensor, "B N"], log_q_BN: Float[Tensor, "B N"], *, stop_gradient: StopGradient = "none"
) -> Float[Tensor, "B"]:
    """KL(p | q) = sum p log p - sum p log q for each row; the value is the same for every choice.

    "none"     both learn; where p = q, neither has a gradient
    "first"    p is constant: q learns by q - p
    "entropy"  sum p log p is constant: q learns as before, p by the cross-entropy, which sharpens it (ReLICv2)

    >>> p = torch.tensor([[0.75, 0.25]]).log()
    >>> kl_divergence(p, torch.tensor([[0.5, 0.5]]).log())
    tensor([0.1308])

    Raises ValueError for another choice.
    """
    if stop_gradient not in get_args(StopGradient):
        raise ValueError(f"stop_gradient is {stop_gradient!r}: give one of {get_args(StopGradient)}")
    p_BN = (log_p_BN.detach() if stop_gradient == "first" else log_p_BN).exp()
    held = stop_gradient != "none"
    entropy_B = (log_p_BN.detach().exp() * log_p_BN.detach()).sum(1) if held else (p_BN * log_p_BN).sum(1)
    return entropy_B - (p_BN * log_q_BN).sum(1)
