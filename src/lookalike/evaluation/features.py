"""The one feature extractor: rows of an encoder for a stream of pixels, leaving the encoder as it was.

Shapes: B batch, C channels, H and W pixels, D features, h and w a feature map, N all rows.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from lookalike.modules import evaluating


@dataclass(frozen=True, kw_only=True)
class Features:
    """Rows on the CPU, in the order in which they came: index[i] is the sample of rows[i]."""

    index: Int64[Tensor, "N"]
    rows: Float32[Tensor, "N D"]


def fingerprint(module: nn.Module) -> str:
    """32 hex digits over all parameters and buffers: names, dtypes, shapes, bytes.

    Equal before and after a probe, it proves that the probe left the module alone, batch statistics
    included. It does not depend on the device, the memory format, the mode or the order of registration.
    """
    digest = hashlib.blake2b(digest_size=16)
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\x1f{tensor.dtype}\x1f{tuple(tensor.shape)}\x1f".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def stream(
    encoder: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    device: torch.device | str = "cpu",
    autocast: torch.dtype | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """(index (B,), rows (B, D)) on the CPU for each (index (B,), pixels) of `batches`, one batch at a time.

    `encoder` is any module, already on `device`, that maps the pixels as they come to (B, D) or to (B, D,
    h, w), which is pooled by the mean over h and w. Between two batches the encoder is in its own mode: it
    may be trained meanwhile. Rows are float32, or float64 from a float64 encoder. ValueError if it returns
    something else.
    """
    device = torch.device(device)
    for index, pixels in batches:
        with evaluating(encoder), torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            rows_BD = _pooled(encoder(pixels.to(device, non_blocking=True)), len(index))
        yield index.cpu(), rows_BD.cpu()


def extract(
    encoder: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    device: torch.device | str = "cpu",
    autocast: torch.dtype | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Features:
    """All rows of `stream`, as float32; `on_progress` hears the number of rows done after each batch.

    The encoder is left as it was: fingerprint and modes are equal before and after. ValueError for no
    batches and for rows that are not finite.
    """
    indices: list[Tensor] = []
    parts: list[Tensor] = []
    done = 0
    for index, rows_BD in stream(encoder, batches, device=device, autocast=autocast):
        indices.append(index)
        parts.append(rows_BD)
        done += len(index)
        if on_progress is not None:
            on_progress(done)
    if not parts:
        raise ValueError(
            "there is nothing to extract features from: the data gave no batch; check its path and filters"
        )
    features = Features(index=torch.cat(indices), rows=torch.cat(parts).float())
    _demand_finite(features)
    return features


def _pooled(output: object, count: int) -> Tensor:
    if not isinstance(output, Tensor):
        raise ValueError(f"the encoder returns {type(output).__name__}; make it return a tensor (B, D) or (B, D, h, w)")
    if output.ndim not in (2, 4) or len(output) != count:
        raise ValueError(
            f"the encoder returns shape {tuple(output.shape)} for {count} images; "
            f"make it return ({count}, D) or ({count}, D, h, w)"
        )
    rows_Bx = output if output.dtype == torch.float64 else output.float()
    return rows_Bx if rows_Bx.ndim == 2 else rows_Bx.mean((2, 3))


def _demand_finite(features: Features) -> None:
    broken = ~features.rows.isfinite().all(1)
    if broken.any():
        first = int(features.index[broken][0])
        raise ValueError(
            f"{int(broken.sum())} of {len(broken)} feature rows are not finite (first: sample {first}); "
            "check the weights, or extract without autocast"
        )
