"""Contrast with keys that are made anew in every step: a head that learns, over fixed features of all images.

    k_j = unit(head(f_j))      loss_i = logsumexp_j(q_i k_j / t) - q_i k_i / t      p_ij = exp(q_i k_j / t - logsumexp)
    d loss / d head = sum_j (d k_j / d head) sum_i (p_ij - [j = i's own]) q_i / t

Two sweeps over tiles of features, neither of which keeps a key: the first for the log of the sums, the second for the
gradient of the head, which is added up tile by tile. Per step that is the head forward twice and backward once over all
N rows, and four products of all queries and keys; memory does not grow with N.
B queries, N images, E features, D dimensions, T images of a tile.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from lookalike.functional.collectives import Group, all_sum, global_mean, world
from lookalike.functional.contrast import Contrast
from lookalike.functional.known_gradient import known_gradient
from lookalike.functional.similarity import demand_temperature, unit
from lookalike.functional.sweep import Swept, merge, sweep

Keys: TypeAlias = Callable[[Tensor], Tensor]  # features (T, E) -> unit rows (T, D)

TILE = 4096  # features at a time: with 2,048 hidden units their activations take 32 MiB


def live_contrast(
    q_BD: Float[Tensor, "B D"],
    features_NE: Shaped[Tensor, "N E"],
    index: Int64[Tensor, "B"],
    head: nn.Module,
    *,
    temperature: float,
    tile: int = TILE,
    group: Group = None,
) -> Contrast:
    """Cross-entropy of the query's softmax over unit(head(features)); the positive of row i is row index[i].

    Gradient reaches q and the parameters of `head`. The head must treat each row by itself: without BatchNorm.
    Half precision is computed in float32. Raises ValueError for a temperature <= 0.
    """
    demand_temperature(temperature)
    with torch.autocast(q_BD.device.type, enabled=False):
        u_BD = q_BD.detach().to(torch.promote_types(q_BD.dtype, torch.float32)) / temperature

        def keys(rows_TE: Tensor) -> Tensor:
            return unit(head(rows_TE.to(u_BD)))

        with torch.no_grad():
            seen, own_BD = _seen(u_BD, features_NE, keys, tile), keys(features_NE[index])
            loss_B = seen.log_sum - (u_BD * own_BD).sum(1)
        learned = _learned(u_BD, seen.log_sum, features_NE, index, keys, head, tile)
        loss = global_mean(known_gradient(q_BD, loss_B, (seen.mean - own_BD) / temperature), group)
        weight = world(group) / all_sum(u_BD.new_tensor(len(u_BD)), group)  # of a row: as `global_mean` gives it
        held = weight * learned
    confidence = global_mean(torch.exp(-loss_B), group)
    return Contrast(loss + (held - held.detach()), torch.zeros_like(confidence), confidence)


def _seen(u_BD: Tensor, features_NE: Tensor, keys: Keys, tile: int) -> Swept:
    first, *others = features_NE.split(tile)
    seen = sweep(u_BD, keys(first))
    for rows_TE in others:
        seen = merge(seen, sweep(u_BD, keys(rows_TE)))
    return seen


def _learned(
    u_BD: Tensor, log_sum_B: Tensor, features_NE: Tensor, index: Tensor, keys: Keys, head: nn.Module, tile: int
) -> Tensor:
    """A number whose gradient is that of the head, of the sum of all losses; its value means nothing."""
    parameters = [p for p in head.parameters() if p.requires_grad]
    if not (parameters and torch.is_grad_enabled()):
        return u_BD.new_zeros(())
    total = [torch.zeros_like(p) for p in parameters]
    for keys_TD, slope_TD in _slopes(u_BD, log_sum_B, features_NE, index, keys, tile):
        for whole, part in zip(total, torch.autograd.grad(keys_TD, parameters, slope_TD), strict=True):
            whole.add_(part)
    return torch.stack([(p * g).sum() for p, g in zip(parameters, total, strict=True)]).sum()


def _slopes(
    u_BD: Tensor, log_sum_B: Tensor, features_NE: Tensor, index: Tensor, keys: Keys, tile: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Keys with graph and d (sum of losses) / d keys: of every tile, then of the positives."""
    for rows_TE in features_NE.split(tile):
        keys_TD = keys(rows_TE)
        p_BT = torch.exp(u_BD @ keys_TD.detach().T - log_sum_B[:, None])
        yield keys_TD, p_BT.T @ u_BD
    yield keys(features_NE[index]), -u_BD
