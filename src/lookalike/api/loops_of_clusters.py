"""Loops for methods with pseudo-labels; see loops.py."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lookalike.api.loop_steps import direction, log_softmax, slow
from lookalike.functional import random


def interclr(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Xie et al. 2020: MoCo's loss, and a member of the own cluster among all rows of other clusters."""
    queries, keys = method.projector(method.encoder(views["query"])), slow(method.momentum_encoder, views["key"])
    memory, bank = [row.clone() for row in method.queue.rows()], [row.clone() for row in method.bank.rows()]
    label, total = method.clusters.label.tolist(), torch.zeros((), dtype=torch.float64)
    chances = random.uniform(random.key("batch", 0, 0, "inter"), torch.arange(len(queries)), 2)[:, 0].tolist()
    for own, (query, key) in enumerate(zip(queries, keys, strict=True)):
        q = direction(query)
        friends = [row for row, cluster in zip(bank, label, strict=True) if cluster == label[own]]
        others = [row for row, cluster in zip(bank, label, strict=True) if cluster != label[own]]
        friend = friends[int(chances[own] * len(friends))]
        for weight, margin, candidates in (
            (method.intra_weight, method.intra_margin, [direction(key), *memory]),
            (1 - method.intra_weight, method.inter_margin, [friend, *others]),
        ):
            first, *rest = [(q * candidate).sum() for candidate in candidates]
            logits = [(value / method.temperature) for value in (first - margin.size, *rest)]
            total = total - weight * log_softmax(logits)[0]
    return total / len(queries)
