"""One pass over many keys: log of the sum of exponentials and softmax average, without the matrix of logits.

    logits_BN = q_BD K_ND^T        log_sum_B = logsumexp(logits)        mean_BD = softmax(logits) K

The queries carry the temperature: pass q / t. The state of a pass, (log_sum, mean), is a commutative monoid
under `merge`; tiles of keys, columns outside the memory and shards on other ranks are joined with it.
B queries, N keys, D dimensions.
"""

from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Backend: TypeAlias = Literal["auto", "attention", "tiles"]
ROWS = 1024  # queries in one block of tiles
BIAS = 2**22  # entries of a tile's mask, as numbers, for attention


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

    Computes in float64 if q is, else in float32; keys of another dtype are converted `tile` keys at a time. Safe for
    any size of the logits. No gradient. Entries that are true in `mask` are ignored.

    backend "attention" is torch's flash attention for the CPU, called with the keys as values; "tiles" is a loop of
    matrix products with a running maximum, for any device. "auto" takes attention on the CPU. It takes 0.2 to
    0.95 of the time there (with a mask 1.1), least where other processes, such as workers that decode images, compete
    for the cores: it waits for its threads once, not at every tile (benchmarks/results/engine-*.json).
    Raises ValueError for another backend, or if attention is asked for on another device.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend is {backend!r}: give one of {get_args(Backend)}")
    q_BD = q_BD.to(torch.float64 if q_BD.dtype == torch.float64 else torch.float32)
    on_cpu = q_BD.device.type == "cpu"
    if backend == "attention" and not on_cpu:
        raise ValueError(f"backend 'attention' is for the CPU, and the queries are on {q_BD.device}: use 'auto'")
    with torch.autocast(q_BD.device.type, enabled=False):
        if on_cpu and backend != "tiles" and q_BD.numel():
            return _attention(q_BD, keys_ND, mask, tile)
        return _tiles(q_BD, keys_ND, mask, tile)


def merge(a: Swept, b: Swept) -> Swept:
    """The state after the keys of both: associative, commutative, neutral for a state without keys."""
    log_sum_B = torch.logaddexp(a.log_sum, b.log_sum)
    floor_B = log_sum_B.clamp_min(torch.finfo(log_sum_B.dtype).min)  # no key on either side: exp gives 0, not NaN
    weight_a_B, weight_b_B = (torch.exp(part.log_sum - floor_B) for part in (a, b))
    return Swept(log_sum_B, weight_a_B[:, None] * a.mean + weight_b_B[:, None] * b.mean)


def _attention(q_BD: Tensor, keys_ND: Tensor, mask: Tensor | None, tile: int | None) -> Swept:
    whole = mask is None and keys_ND.dtype == q_BD.dtype and keys_ND.stride(1) == 1
    tile = tile or (max(len(keys_ND), 1) if whole else max(BIAS // len(q_BD), 256))
    state = Swept(q_BD.new_full((len(q_BD),), -torch.inf), torch.zeros_like(q_BD))
    for start in range(0, len(keys_ND), tile):
        part = slice(start, start + tile)
        keys_TD = keys_ND[part].to(q_BD.dtype)
        if keys_TD.stride(1) != 1:
            keys_TD = keys_TD.contiguous()
        seen = _flash(q_BD, keys_TD, None if mask is None else mask[:, part])
        state = seen if start == 0 else merge(state, seen)
    return state


def _flash(q_BD: Tensor, keys_TD: Tensor, mask_BT: Tensor | None) -> Swept:
    """The kernel wants contiguous rows, and misreads strided queries without an error (torch 2.14)."""
    q, keys, bias = q_BD.contiguous()[None, None], keys_TD[None, None], None
    if mask_BT is not None:
        bias = (mask_BT * q_BD.new_tensor(torch.finfo(q_BD.dtype).min))[None, None]
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    mean, log_sum = flash(q, keys, keys, attn_mask=bias, scale=1.0)
    if mask_BT is None:
        return Swept(log_sum[0, 0], mean[0, 0])
    none_B = mask_BT.all(1)  # the kernel's answer for such rows is not that of an empty sum
    return Swept(log_sum[0, 0].masked_fill(none_B, -torch.inf), mean[0, 0].masked_fill(none_B[:, None], 0.0))


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
