"""Tensors in a safetensors file: written in one pass with the same bytes every time, checked before they are read.

We write it ourselves, because the safetensors package puts metadata in random order and holds a second copy of all
values in memory; we read it with the package, after a check of ours (modules.tensor_file, which describes the format).
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lookalike.modules import tensor_file
from lookalike.modules.tensor_file import METADATA, NAMES, TensorFileError
from lookalike.training.files import CheckpointError, explained, need, replacing, write_synced


def save_weights(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file, whole or not at all. Same tensors and metadata, same bytes: no time, no path.

    Raises CheckpointError where the disk refuses, ValueError for a tensor that the format cannot hold.
    """
    chunks = encode(tensors, metadata)
    need(path.parent, size_in_bytes(tensors))
    with replacing(path) as temporary:
        write_synced(temporary, chunks)


def load_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU, contiguous. Nothing in the file is executed.

    Raises CheckpointError where it is missing, cut short, or no safetensors file.
    """
    return decode(read_checked(path), path)


def load_metadata(path: Path) -> dict[str, str]:
    """The metadata that `save_weights` was given. Raises CheckpointError like `load_weights`."""
    return tensor_file.metadata(read_checked(path))


def size_in_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Bytes that the values and, generously, their header take."""
    return sum(t.numel() * t.itemsize + 300 + len(name.encode()) for name, t in tensors.items())


def encode(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file, one tensor at a time. Strides are not kept, values are.

    Raises ValueError, before the first byte, for a dtype or layout that has no place in the format.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in NAMES or tensor.layout != torch.strided or name == METADATA:
            raise ValueError(
                f"tensor {name!r} ({tensor.dtype}, {tensor.layout}) cannot be saved: "
                f"use a dense tensor of {', '.join(str(dtype).removeprefix('torch.') for dtype in NAMES)}"
            )
    # Wide dtypes first, so that every tensor starts at a multiple of its item size.
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    return _chunks(names, tensors, metadata)


def decode(data: bytes, source: Path) -> dict[str, Tensor]:
    """The tensors in the bytes that `read_checked` gave. Raises CheckpointError."""
    try:
        return tensor_file.decode(data, source)
    except TensorFileError as error:
        raise CheckpointError(str(error)) from error


def read_checked(path: Path) -> bytes:
    """The bytes of a safetensors file; its header is checked before the values are read. Raises CheckpointError."""
    with explained(f"read {path}"):
        try:
            return tensor_file.read(path)
        except TensorFileError as error:
            raise CheckpointError(str(error)) from error


def _chunks(
    names: list[str], tensors: Mapping[str, Tensor], metadata: dict[str, str] | None
) -> Iterator[bytes | memoryview]:
    header: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    start = 0
    for name in names:
        stop = start + tensors[name].numel() * tensors[name].itemsize
        shape = list(tensors[name].shape)
        header[name] = {"dtype": NAMES[tensors[name].dtype], "shape": shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        flat = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        yield flat.numpy().data
