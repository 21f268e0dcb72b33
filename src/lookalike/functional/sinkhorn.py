"""Sinkhorn-Knopp: codes that spread samples evenly over prototypes, over all processes.

With S the scores of B samples and K prototypes, the code of sample b is column b of

    Q = exp(S / epsilon)
    `iterations` times: each row of Q <- row / (K its sum), then each column of Q <- column / (B its sum)

times B: it sums to 1, and each prototype gets about B / K samples (Caron et al. 2020, section 3.1;
facebookresearch/swav, main_swav.py). The column comes last, so rows are even only in the limit.

Computed in logarithms: factors K and B cancel, nothing overflows or vanishes for any epsilon, and the code of fp32
differs from that of fp64 by rounding alone. b own samples, M earlier ones, K prototypes.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lookalike.functional.collectives import Group, all_max, all_sum, rank, world


@torch.no_grad()
def sinkhorn(
    scores_bK: Float[Tensor, "b K"],
    *,
    epsilon: float = 0.05,
    iterations: int = 3,
    earlier: Float[Tensor, "M K"] | None = None,
    group: Group = None,
) -> Float[Tensor, "b K"]:
    """The codes of this rank's samples among those of all ranks, without gradient, in float32 or float64.

    earlier: scores of further samples, equal on every rank, which share the prototypes and get no code (SwAV's queue).
    Fewer samples than prototypes are allowed: each prototype then gets less than one. A single sample, and samples
    that are all alike, get the uniform code 1 / K. Subtracting a number from all scores changes nothing.

    >>> sinkhorn(torch.eye(2), epsilon=0.5)
    tensor([[0.8808, 0.1192],
            [0.1192, 0.8808]])

    Raises ValueError for an epsilon <= 0 or fewer than 1 iteration.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon is {epsilon}: give a number above 0; the smaller it is, the harder the codes")
    if iterations < 1:
        raise ValueError(f"{iterations} iterations leave the codes unbalanced: give at least 1")
    samples = len(scores_bK)
    if earlier is not None:
        scores_bK = torch.cat([earlier[rank(group) :: world(group)].to(scores_bK), scores_bK])
    log_bK = (scores_bK if scores_bK.dtype == torch.float64 else scores_bK.float()) / epsilon
    for _ in range(iterations):
        log_bK = log_bK - _log_sum_over_samples(log_bK, group)
        log_bK = log_bK.log_softmax(1)
    return log_bK[len(log_bK) - samples :].exp()


def _log_sum_over_samples(log_bK: Tensor, group: Group) -> Float[Tensor, "K"]:
    """log of the sum over the samples of all ranks, for each prototype."""
    floor = torch.finfo(log_bK.dtype).min  # a rank may hold no sample
    top_K = all_max(torch.cat([log_bK, log_bK.new_full((1, log_bK.shape[1]), floor)]).amax(0), group)
    return top_K + all_sum((log_bK - top_K).exp().sum(0), group).log()
