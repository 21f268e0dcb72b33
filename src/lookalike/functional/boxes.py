"""Crops as boxes: how much two of them share."""

import torch
from jaxtyping import Float
from torch import Tensor


def overlap(one_B4: Float[Tensor, "B 4"], two_B4: Float[Tensor, "B 4"]) -> Float[Tensor, "B"]:
    """Area that two boxes of an image share, over the area that both cover (IoU), from 0 to 1.

    Boxes are left, top, right, bottom. Two boxes without area share nothing.

    >>> overlap(torch.tensor([[0.0, 0.0, 0.5, 1.0]]), torch.tensor([[0.25, 0.0, 1.0, 1.0]]))
    tensor([0.2500])
    """
    sides_B2 = torch.minimum(one_B4[:, 2:], two_B4[:, 2:]) - torch.maximum(one_B4[:, :2], two_B4[:, :2])
    shared_B = sides_B2.clamp(min=0).prod(1)
    covered_B = _area(one_B4) + _area(two_B4) - shared_B
    return torch.where(covered_B > 0, shared_B / covered_B.clamp(min=torch.finfo(covered_B.dtype).tiny), 0.0)


def _area(box_B4: Tensor) -> Tensor:
    return (box_B4[:, 2:] - box_B4[:, :2]).clamp(min=0).prod(1)
