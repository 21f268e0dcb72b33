"""Supervised contrast: every view finds all views of its class among the other views of the global batch.

    loss_i = - 1/|P(i)| sum over p in P(i) of log softmax over a != i of (z_i . z_a / t)

P(i) are the views of i's class but i: at least the other view of its image.
b own images, N views of all ranks, D dimensions.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lookalike.functional.collectives import Group, gather_rows, mean_of_sum
from lookalike.functional.in_batch import positions, summed
from lookalike.functional.similarity import unit


def sup_con(
    z1_bD: Float[Tensor, "b D"],
    z2_bD: Float[Tensor, "b D"],
    label_b: Int64[Tensor, "b"],
    *,
    temperature: float,
    group: Group = None,
) -> Float[Tensor, ""]:
    """L_out of Khosla et al. 2020, equation 2: the mean over both views of the images of all ranks.

    Rows are normalized inside. With a class for each image it is `nt_xent`.

    >>> same = torch.ones(2, 3)                   # two images that look alike: the log of three candidates
    >>> sup_con(same, same, torch.tensor([0, 1]), temperature=0.1)
    tensor(1.0986)

    Raises ValueError for a temperature <= 0.
    """
    own_bD = torch.cat([unit(z1_bD), unit(z2_bD)])
    z_ND = torch.cat([gather_rows(half, group) for half in own_bD.chunk(2)])  # all of view 1, all of view 2
    label_N, place_b = gather_rows(label_b, group).repeat(2), positions(z1_bD, group)
    place = torch.cat([place_b, place_b + len(z_ND) // 2])

    def pulls(u_cD: Tensor, keys_ND: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        return _pulls(u_cD, keys_ND, place[rows], label_N)

    return mean_of_sum(summed(own_bD, z_ND, pulls, temperature), len(own_bD), group)


def _pulls(u_cD: Tensor, keys_ND: Tensor, place_c: Tensor, label_N: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of each row, and softmax minus the average of its positives."""
    alike_cN = (label_N[place_c, None] == label_N).scatter_(1, place_c[:, None], False)
    log_p_cN = (u_cD @ keys_ND.T).scatter_(1, place_c[:, None], -torch.inf).log_softmax(1)
    target_cN = alike_cN.to(u_cD.dtype) / alike_cN.sum(1, keepdim=True)
    loss_c = -(target_cN * log_p_cN.masked_fill(~alike_cN, 0.0)).sum(1)
    return loss_c, log_p_cN.exp_() - target_cN
