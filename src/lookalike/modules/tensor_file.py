"""Tensors read from a safetensors file, whose header is checked before any value is: for files of unknown origin.

The format: 8 bytes with the header's length, a JSON header (name -> dtype, shape, first and last byte), the values.
https://github.com/huggingface/safetensors
"""

import json
import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

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
BRACKETS = 4 * HEADER_TENSORS  # a tensor's entry has three; what is made of brackets alone takes 30 times its size
LARGEST = 2**48  # of any number in a header
NAME_LENGTH = 1000  # names stand in messages


class TensorFileError(ValueError):
    """A file that is no whole safetensors file. The message is one sentence."""


def read(path: Path) -> bytes:
    """The bytes of a safetensors file; its header is checked before the values are read into memory.

    Raises TensorFileError for a file that is missing, cut short, or no safetensors file; OSError.
    """
    with _opened(path) as file:
        head, size = _checked_head(path, file)
        file.seek(0)
        data = file.read()
    if len(data) != size or not data.startswith(head):
        raise TensorFileError(f"{path} changed while it was read: wait until it is written")
    return data


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors in a file, by its checked header alone. Raises like `read`."""
    with _opened(path) as file:
        head, _ = _checked_head(path, file)
    return {name: tuple(entry["shape"]) for name, entry in json.loads(head[8:]).items() if name != METADATA}


def decode(data: bytes, source: Path) -> dict[str, Tensor]:
    """The tensors in the bytes that `read` gave, on the CPU, contiguous. Raises TensorFileError."""
    try:
        return safetensors.torch.load(data)
    except (SafetensorError, RuntimeError, TypeError, ValueError, OverflowError, AssertionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TensorFileError(f"{source} is no safetensors file ({reason}): fetch or save it again") from error


def metadata(data: bytes) -> dict[str, str]:
    """The text that stands beside the tensors, in the bytes that `read` gave."""
    return json.loads(data[8 : 8 + header_length(data)]).get(METADATA, {})


def check(head: bytes, size: int) -> str:
    """What is wrong with a file of `size` bytes that starts with `head` (length and header); "" if nothing is.

    At most 10 MB and 50,000 tensors; known dtypes; the values fill the rest of the file without gap or overlap.
    """
    if len(head) < 8:
        return f"it has {size} bytes"
    length = header_length(head)
    if length > HEADER_BYTES or length + 8 != len(head):
        return f"its header claims {length:,} bytes of {size:,}"
    if head.count(b"{") + head.count(b"[") > BRACKETS:
        return "its header lists no tensors, or more than 50,000"
    try:
        header = json.loads(head[8:].decode(), object_pairs_hook=_unique)
        if not isinstance(header, dict) or len(header) > HEADER_TENSORS:
            return "its header lists no tensors, or more than 50,000"
        beside = header.pop(METADATA, {})
        if not all(isinstance(value, str) for value in beside.values()):
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


def header_length(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")


def _opened(path: Path) -> BinaryIO:
    if not path.is_file():  # a pipe of that name would block
        raise TensorFileError(f"{path} is no file: check the path")
    return open(path, "rb")


def _checked_head(path: Path, file: BinaryIO) -> tuple[bytes, int]:
    """Length and header of an open file, and the file's size."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(8)
    head += file.read(min(header_length(head), HEADER_BYTES)) if len(head) == 8 else b""
    if problem := check(head, size):
        raise TensorFileError(f"{path} is no whole safetensors file: {problem}; fetch or save it again")
    return head, size


def _span(entry: Any) -> tuple[int, int]:
    """First and last byte of a tensor. Raises where they do not fit its dtype and shape."""
    shape, (start, stop) = entry["shape"], entry["data_offsets"]
    if any(type(number) is not int or not 0 <= number < LARGEST for number in (*shape, start, stop)):
        raise ValueError("not a count")
    if len(shape) > 16 or math.prod(shape) * SIZES[entry["dtype"]] != stop - start:
        raise ValueError("shape and bytes disagree")
    return start, stop


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name occurs twice")
    if any(len(name) > NAME_LENGTH or not name.isprintable() for name, _ in pairs):
        raise ValueError("a name is no text")
    return dict(pairs)
