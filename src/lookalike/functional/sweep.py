"""One pass over many keys: log of the sum of exponentials and softmax average, without the matrix of logits.

    logits_BN = q_BD K_ND^T        log_sum_B = logsumexp(logits)        mean_BD = softmax(logits) K

The queries carry the temperature: pass q / t. The state of a pass, (log_sum, mean), is a commutative monoid
under `merge`; tiles of keys, columns outside the memory and shards on other ranks are joined with it.
B queries, N keys, D dimensions.
"""

from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Backend: TypeAlias = Literal["auto", "attention", "tiles"]
ROWS = 1024  # queries in one block


class Swept(NamedTuple):
    """What B queries know of the keys seen so far: log of the sum of exp(logits), softmax average.

    No key yet: -inf and zeros.
    """

    log_sum: Float[Tensor, "B"]
    mean: Float[Tensor, "B D"]


@torch.no_grad()
def sweep(
    q_BD: Float[Tensor, "B D"],
    keys_ND: Float[Tensor, "N D"],
    *,
    mask: Bool[Tensor, "B N"] | None = None,
    backend: Backend = "auto",
    tile: int | None = None,
) -> Swept:
    """Softmax attention of q over (keys, keys) with its log-sum-exp, in memory that does not grow with N.

    Computes in float64 if q is, else in float32; keys of another dtype are converted tile by tile. Safe for any
    size of the logits. No gradient. Entries that are true in `mask` are ignored.

    backend "attention" is torch's flash attention on the CPU, called with the keys as values; "tiles" is a loop
    over `tile` keys at a time with a running maximum, which can do everything. "auto" takes attention whenever
    it can: on the machine of benchmarks/results/engine-*.json it is up to a fifth faster, and it suffers less
    from other load. Raises ValueError if attention is asked for what it cannot do.
    """
    wide = torch.float64 if q_BD.dtype == torch.float64 else torch.float32
    q_BD = q_BD.to(wide)
    obstacle = _attention_obstacle(q_BD, keys_ND, mask)
    if backend == "attention" and obstacle:
        raise ValueError(f"backend 'attention' {obstacle}: use 'auto' or 'tiles'")
    if obstacle or backend == "tiles":
        with torch.autocast(q_BD.device.type, enabled=False):
            return _tiles(q_BD, keys_ND, mask, tile)
    return _attention(q_BD, keys_ND)


def merge(a: Swept, b: Swept) -> Swept:
    """The state after the keys of both: associative, commutative, neutral for a state without keys."""
    log_sum_B = torch.logaddexp(a.log_sum, b.log_sum)
    floor_B = log_sum_B.clamp_min(torch.finfo(log_sum_B.dtype).min)  # no key on either side: exp gives 0, not NaN
    weight_a_B, weight_b_B = (torch.exp(part.log_sum - floor_B) for part in (a, b))
    return Swept(log_sum_B, weight_a_B[:, None] * a.mean + weight_b_B[:, None] * b.mean)


def _attention_obstacle(q_BD: Tensor, keys_ND: Tensor, mask: Tensor | None) -> str:
    """Why the CPU's flash attention cannot be used; empty if it can."""
    if q_BD.device.type != "cpu":
        return f"runs on the CPU, not on {q_BD.device.type}"
    if keys_ND.dtype != q_BD.dtype:
        return f"needs keys of the computing dtype {q_BD.dtype}, not {keys_ND.dtype}"
    if mask is not None:
        return "takes no mask"
    if keys_ND.stride(1) != 1:  # the kernel reads past it without an error (torch 2.14)
        return "needs keys with contiguous rows"
    if min(*q_BD.shape, *keys_ND.shape) == 0:  # the kernel divides by the sizes
        return "needs at least one query, one key and one dimension"
    return ""


def _attention(q_BD: Tensor, keys_ND: Tensor) -> Swept:
    q, keys = q_BD.contiguous()[None, None], keys_ND[None, None]
    mean, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, keys, keys, scale=1.0)
    return Swept(log_sum[0, 0], mean[0, 0])


def _tiles(q_BD: Tensor, keys_ND: Tensor, mask: Tensor | None, tile: int | None) -> Swept:
    blocks = q_BD.split(ROWS)
    masks = mask.split(ROWS) if mask is not None else [None] * len(blocks)
    parts = [_block(q, keys_ND, m, tile or _tile(q)) for q, m in zip(blocks, masks, strict=True)]
    return Swept(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _tile(q_BD: Tensor) -> int:
    """Keys at a time: one tile of logits fits the cache of a CPU core (1 MiB), or keeps an accelerator busy."""
    entries = 2**18 if q_BD.device.type == "cpu" else 2**24
    return min(max(entries // max(len(q_BD), 1), 256), 2**16)


def _block(q_BD: Tensor, keys_ND: Tensor, mask: Tensor | None, tile: int) -> Swept:
    """Online softmax (Milakov & Gimelshein 2018, "Online normalizer calculation for softmax")."""
    lowest = torch.finfo(q_BD.dtype).min
    top_B1 = q_BD.new_full((len(q_BD), 1), lowest)  # finite, so that a wholly masked tile leaves exp(0) * 0
    sum_B1, weighted_BD = torch.zeros_like(top_B1), torch.zeros_like(q_BD)
    scratch = q_BD.new_empty(len(q_BD) * min(tile, len(keys_ND)))
    for start in range(0, len(keys_ND), tile):
        keys_TD = keys_ND[start : start + tile].to(q_BD.dtype)
        logits_BT = scratch[: len(q_BD) * len(keys_TD)].view(len(q_BD), len(keys_TD))
        torch.mm(q_BD, keys_TD.T, out=logits_BT)
        if mask is not None:
            logits_BT.masked_fill_(mask[:, start : start + tile], -torch.inf)
        before_B1, top_B1 = top_B1, torch.maximum(top_B1, logits_BT.amax(1, keepdim=True))
        shrink_B1 = torch.exp(before_B1 - top_B1)
        weights_BT = logits_BT.sub_(top_B1).exp_()
        sum_B1.mul_(shrink_B1).add_(weights_BT.sum(1, keepdim=True))
        weighted_BD.mul_(shrink_B1).addmm_(weights_BT, keys_TD)
    none_B1 = sum_B1 == 0
    mean_BD = weighted_BD / sum_B1.masked_fill(none_B1, 1.0)
    return Swept((top_B1 + sum_B1.log()).masked_fill(none_B1, -torch.inf)[:, 0], mean_BD)
