"""Tensors in a safetensors file: written in one pass with the same bytes every time, checked before they are read.

The format: 8 bytes with the header's length, a JSON header (name -> dtype, shape, first and last byte), the values.
We write it ourselves, because the safetensors package puts metadata in random order and holds a second copy of all
values in memory; we read it with the package, after a check of ours. https://github.com/huggingface/safetensors
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from lookalike.training.files import CheckpointError, explained, need, replacing, write_synced

NAMES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
SIZES = {name: dtype.itemsize for dtype, name in NAMES.items()}
METADATA = "__metadata__"
HEADER_BYTES, HEADER_TENSORS = 10_000_000, 50_000


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
    data = read_checked(path)
    return json.loads(data[8 : 8 + _header_length(data)]).get(METADATA, {})


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
    """The tensors in the bytes of a safetensors file that `check` has passed."""
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{source} is no safetensors file ({error}): fetch or save it again") from error


def read_checked(path: Path) -> bytes:
    """The bytes of a safetensors file; its header is checked before the values are read into memory."""
    with explained(f"read {path}"):
        if not path.is_file():  # a pipe of that name would block
            raise CheckpointError(f"{path} is no file: check the path")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(8)
            head += file.read(min(_header_length(head), HEADER_BYTES)) if len(head) == 8 else b""
            if problem := check(head, size):
                raise CheckpointError(f"{path} is no whole safetensors file: {problem}; fetch or save it again")
            file.seek(0)
            data = file.read()
    if len(data) != size or not data.startswith(head):
        raise CheckpointError(f"{path} changed while it was read: wait until it is written")
    return data


def check(head: bytes, size: int) -> str:
    """What is wrong with a file of `size` bytes that starts with `head` (length and header); "" if nothing is.

    At most 10 MB and 50,000 tensors; known dtypes; the values fill the rest of the file without gap or overlap.
    """
    if len(head) < 8:
        return f"it has {size} bytes"
    length = _header_length(head)
    if length > HEADER_BYTES or length + 8 != len(head):
        return f"its header claims {length:,} bytes of {size:,}"
    try:
        header = json.loads(head[8:], object_pairs_hook=_unique)
        if not isinstance(header, dict) or len(header) > HEADER_TENSORS:
            return "its header lists no tensors, or more than 50,000"
        metadata = header.pop(METADATA, {})
        if not all(isinstance(value, str) for value in metadata.values()):
            return "its metadata is not text"
        spans = sorted(_span(entry) for entry in header.values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "its header cannot be read"
    end = 0
    for start, stop in spans:
        if start != end:
            return "its tensors overlap or leave gaps"
        end = stop
    return "" if 8 + length + end == size else f"its header promises {8 + length + end:,} bytes, it has {size:,}"


def _span(entry: dict[str, Any]) -> tuple[int, int]:
    """First and last byte of a tensor. Raises where they do not fit its dtype and shape."""
    shape, (start, stop) = entry["shape"], entry["data_offsets"]
    if any(type(number) is not int or number < 0 for number in (*shape, start, stop)):
        raise ValueError("not a count")
    if len(shape) > 16 or math.prod(shape) * SIZES[entry["dtype"]] != stop - start:
        raise ValueError("shape and bytes disagree")
    return start, stop


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)


def _header_length(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")


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
