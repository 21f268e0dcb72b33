"""Any data set with a length and items by number, as a source of images; its labels are left aside."""

import hashlib
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from lookalike.data.decode import Unreadable, demand_channels, from_pillow, shown, with_channels
from lookalike.data.images import evenly

_WANTED = (
    "give Pillow images, tensors (C, H, W) or arrays (H, W, C) of 1 or 3 channels with uint8 or uint16 values "
    "or floats in [0, 1], or tuples that begin with one"
)


@runtime_checkable
class Indexed(Protocol):
    """A torch data set of the map style, a list, an array."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class Wrapped:
    """Items 0 to N-1 of a data set as images; the id of an item is its number.

    An item is a Pillow image (turned upright and converted as a file would be), a tensor (H, W) or (C, H, W), a numpy
    array (H, W) or (H, W, C), or a tuple or list that begins with one of these. Values are uint8, uint16 (divided by
    257) or floats in [0, 1] (times 255, rounded). Items have to be the same at every call: random transforms belong to
    the views. An item that the data set fails to give is Unreadable; one of another kind is a mistake: ValueError.
    """

    concurrent = False  # data sets are written for one thread a process, as torch's loader reads them
    labels = None

    def __init__(self, dataset: Indexed, *, channels: int = 3) -> None:
        demand_channels(channels)
        if len(dataset) == 0:
            raise ValueError("the data set is empty: give one that holds images")
        self.dataset, self.channels = dataset, channels
        with suppress(Unreadable):
            self.read(0)  # items of the wrong kind are found at once

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> UInt8[Tensor, "C H W"]:
        try:
            item = self.dataset[index]
            item = item[0] if isinstance(item, tuple | list) and item else item
            if isinstance(item, Image.Image):
                item.load()
                return with_channels(from_pillow(item), self.channels)
        except Exception as error:  # whatever a foreign data set raises on a broken item
            raise Unreadable(self.name(index), f"{type(error).__name__}: {' '.join(str(error).split())}") from error
        try:
            return with_channels(_pixels(item), self.channels)
        except ValueError as error:
            raise ValueError(f"item {index} of the data set {error}: {_WANTED}") from error

    def name(self, index: int) -> str:
        return str(index)

    def size(self, index: int) -> tuple[int, int]:
        _, height, width = self.read(index).shape
        return height, width

    def identity(self) -> str:
        """A hash over the length and the pixels of at most 64 items, evenly spaced."""
        digest = hashlib.blake2b(str(len(self)).encode(), digest_size=16)
        for index in evenly(len(self), 64):
            try:
                pixels = self.read(index)
            except Unreadable:
                digest.update(b"unreadable")
                continue
            digest.update(f"{index}\0{tuple(pixels.shape)}\0".encode())
            digest.update(pixels.contiguous().numpy().data)
        return digest.hexdigest()


def _pixels(item: object) -> UInt8[Tensor, "C H W"]:
    if isinstance(item, np.ndarray):
        if item.dtype.kind not in "uif":
            raise ValueError(f"has values of type {item.dtype}")
        item = torch.from_numpy(np.array(item, dtype=item.dtype.newbyteorder("=")))
        item = item.movedim(2, 0) if item.ndim == 3 else item
    if not isinstance(item, Tensor):
        raise ValueError(f"is of type {shown(type(item).__name__)}")
    if item.ndim == 2:
        item = item[None]
    if item.ndim != 3 or item.shape[0] not in (1, 3) or 0 in item.shape:
        raise ValueError(f"has the shape {tuple(item.shape)}")
    return _levels(item.detach().cpu()).contiguous()


def _levels(values: Tensor) -> Tensor:
    """uint8 values, from uint8, uint16 or floats in [0, 1]."""
    if values.dtype == torch.uint8:
        return values
    if values.dtype == torch.uint16:
        return ((values.int() + 128) // 257).to(torch.uint8)
    if not values.is_floating_point():
        raise ValueError(f"has values of type {values.dtype}")
    low, high = values.min().item(), values.max().item()
    if not (low >= 0 and high <= 1):  # also where a value is NaN
        raise ValueError(f"has values from {low:.4g} to {high:.4g}")
    return (values.float() * 255).round().to(torch.uint8)
