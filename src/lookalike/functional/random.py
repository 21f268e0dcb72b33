"""Random numbers as a pure function of what they are for: counter-based, keyed, nothing to save.

`uniform(key("crop", seed, epoch), index, columns)` gives one row per sample; a row depends on the key and on its
own index only, so it is the same for any batch, any number of workers and any number of processes.
The generator is Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
"""

import hashlib
import math

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint32(0x9E3779B9), np.uint32(0xBB67AE85))
_LOW = np.uint64(0xFFFFFFFF)


def key(*parts: int | str) -> int:
    """64 bits that depend on every part and on their order; the same on every machine and in every process."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def philox(counter: tuple[np.ndarray, ...], key: int) -> tuple[np.ndarray, ...]:
    """Ten rounds over four uint32 words of counter, with a 64-bit key; four uint32 words out."""
    x0, x1, x2, x3 = (word.astype(np.uint32) for word in counter)
    k0, k1 = np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32 & 0xFFFFFFFF)
    with np.errstate(over="ignore"):
        for _ in range(10):
            a, b = x0 * _MULTIPLIERS[0], x2 * _MULTIPLIERS[1]  # uint32 * uint64: the full 64-bit product
            high_a, low_a = (a >> np.uint64(32)).astype(np.uint32), (a & _LOW).astype(np.uint32)
            high_b, low_b = (b >> np.uint64(32)).astype(np.uint32), (b & _LOW).astype(np.uint32)
            x0, x1, x2, x3 = high_b ^ x1 ^ k0, low_b, high_a ^ x3 ^ k1, low_a
            k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return x0, x1, x2, x3


def uniform(key: int, index: Int64[Tensor, "B"], columns: int) -> Float64[Tensor, "B {columns}"]:
    """Numbers in [0, 1) with 32 random bits each; row i is a function of (key, index[i]) alone."""
    rows, blocks = index.numpy(force=True).astype(np.uint64)[:, None], -(-columns // 4)
    shape = (len(rows), blocks)
    counter = (
        np.broadcast_to(rows & _LOW, shape),
        np.broadcast_to(rows >> np.uint64(32), shape),
        np.broadcast_to(np.arange(blocks, dtype=np.uint64), shape),
        np.zeros(shape, np.uint64),
    )
    words = np.stack(philox(counter, key), axis=-1).reshape(len(rows), 4 * blocks)
    return torch.from_numpy(words[:, :columns] * 2.0**-32)


def normal(key: int, index: Int64[Tensor, "B"], columns: int) -> Float64[Tensor, "B {columns}"]:
    """Standard normal numbers (Box-Muller), one row per index."""
    u = uniform(key, index, 2 * columns)
    radius = torch.sqrt(-2 * torch.log1p(-u[:, :columns]))
    return radius * torch.cos(2 * math.pi * u[:, columns:])


def generator(*parts: int | str) -> torch.Generator:
    """A torch generator on the CPU, seeded by the parts: for permutations and initial values."""
    return torch.Generator().manual_seed(key(*parts) & (2**63 - 1))
