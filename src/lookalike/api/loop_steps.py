"""Steps that the slow loops share: a direction, a softmax in logarithms, a network without gradient."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def direction(row: Tensor) -> Tensor:
    """The row divided by its length."""
    return row / torch.stack([number * number for number in row]).sum().sqrt()


def log_shares(row: Tensor, keys: Sequence[Tensor], temperature: float) -> list[Tensor]:
    """log of each key's share of the softmax over row . key / temperature."""
    return log_softmax([(row * key).sum() / temperature for key in keys])


def log_softmax(logits: Sequence[Tensor]) -> list[Tensor]:
    """log of each logit's share of the softmax."""
    top = max(logit.item() for logit in logits)
    log_sum = top + torch.stack([(logit - top).exp() for logit in logits]).sum().log()
    return [logit - log_sum for logit in logits]


def slow(network: Any, pixels: Tensor) -> Tensor:
    """What a momentum encoder makes of a view: no gradient."""
    with torch.no_grad():
        return network(pixels)
