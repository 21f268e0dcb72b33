"""Random views of images: parameters drawn per sample by a pure function, pixels computed in batches.

    >>> from lookalike.transforms import simclr
    >>> views, images = Views(simclr(size=32)), torch.zeros(2, 3, 48, 40, dtype=torch.uint8)
    >>> parameters = views.draw(torch.tensor([7, 3]), seed=0, epoch=(0, 3))        # of the samples 7 and 3
    >>> {name: tuple(pixels.shape) for name, pixels in views.render(images, parameters).items()}
    {'view/1': (2, 3, 32, 32), 'view/2': (2, 3, 32, 32)}

A sample's parameters depend on (seed, epoch, view name, attempt) and its index alone; its pixels on its image and its
parameters alone (and on the other images that these name, where a chain has CopyEdits), to the last bit: whatever else
is in the batch, for any number of threads and processes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Shaped, UInt8
from torch import Tensor

from lookalike.functional import random
from lookalike.functional.memory import VIEWS, keep_freed_memory
from lookalike.transforms.background import Masks, RemoveBackground, salient
from lookalike.transforms.chain import Chain, Change, CopyEdits, HorizontalFlip
from lookalike.transforms.crops import Geometry, OverlappingCrop, Resize, Sizes, Values
from lookalike.transforms.edits.view import Others
from lookalike.transforms.either import changed_rows
from lookalike.transforms.geometry import Region, products_fit, resample, resample_together
from lookalike.transforms.ops import rounded

TILE = 200_000  # numbers of a batch that are changed together: few enough to stay in a cache meanwhile


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What was drawn: for each view, the values of each transform of its chain, one row per sample of index (B,)."""

    index: Int64[Tensor, "B"]
    views: Mapping[str, tuple[Values, ...]]


class Views:
    """A view plan, name -> Chain, and how its views are drawn and rendered.

    masks: what RemoveBackground leaves of an image, by its number and pixels; a classical stand-in if not given.
    others: the other images that CopyEdits puts beside, below or on one.
    On Linux it has the process keep the memory that rendering frees: see functional.memory.
    Raises ValueError where the plan or a chain is empty, where a chain does not begin with the geometry that fixes
    its size, where geometry comes after a change of pixels, and where a crop is to overlap one that is not there.
    """

    def __init__(self, plan: Mapping[str, Chain], masks: Masks = salient, others: Others | None = None) -> None:
        if not plan or not all(plan):
            raise ValueError(f"a view plan maps at least one name to a chain and no name is empty, got {list(plan)}")
        keep_freed_memory(VIEWS)
        self.plan, self.masks = dict(plan), masks
        self._parts = {name: _parts(name, _with_others(chain, others)) for name, chain in plan.items()}
        _check_overlaps(plan)

    def draw(
        self,
        index_B: Int64[Tensor, "B"],
        *,
        seed: int,
        epoch: tuple[int, int],
        attempt: int = 0,
        names: Sequence[str] | None = None,
    ) -> Parameters:
        """Parameters of the samples: a pure function of (seed, epoch, sample, view name, attempt).

        epoch: the number of the phase and the epoch within it.
        """

        @cache
        def drawn(name: str) -> tuple[Values, ...]:
            chain = self.plan[name]
            columns = [transform.columns for transform in chain]
            key = random.key("view", name, seed, *epoch, attempt)
            pieces = random.uniform(key, index_B, sum(columns)).split(columns, dim=1)
            values: list[Values] = [transform.draw(u_BK) for transform, u_BK in zip(chain, pieces, strict=True)]
            if isinstance(chain[0], OverlappingCrop):
                anchor = drawn(chain[0].of)[0]
                values[0] = {**values[0], **{f"of/{part}": value for part, value in anchor.items()}}
            return tuple(values)

        known = _known(self.plan if names is None else names, self.plan)
        return Parameters(index=index_B, views={name: drawn(name) for name in known})

    def render(
        self, images: Tensor | Sequence[Tensor], parameters: Parameters, names: Sequence[str] | None = None
    ) -> dict[str, UInt8[Tensor, "B C S S"]]:
        """Pixels of the views (default: all that were drawn), from uint8 (B, C, H, W) or a list of (C, H, W).

        Resampling ends in uint8; what follows is computed in float and rounded once, at the end.
        Raises ValueError for other pixels, and for a number of images other than was drawn for.
        """
        images = _checked(images, len(parameters.index))
        names = _known(parameters.views if names is None else names, parameters.views)
        return {name: self._render(name, images, parameters) for name in names}

    def boxes(self, parameters: Parameters, sizes: Sizes) -> dict[str, Float[Tensor, "B 4"]]:
        """Where each view lies in its image: left, top, right, bottom as fractions, before any flip.

        sizes: (height, width) of each image.
        """
        boxes = {}
        for name, values in parameters.views.items():
            before, geometry, _ = self._parts[name]
            steps = zip(*_regions(geometry, values[len(before) :], sizes), strict=True)
            rows = [_source_box(regions, size) for regions, size in zip(steps, sizes, strict=True)]
            boxes[name] = torch.tensor(rows, dtype=torch.float64).view(-1, 4).float()
        return boxes

    def _render(self, name: str, images: Sequence[Tensor], parameters: Parameters) -> Tensor:
        before, geometry, changes = self._parts[name]
        images = self._prepared(images, before, parameters.views[name], parameters.index.tolist())
        values = parameters.views[name][len(before) :]
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        regions = list(zip(*_regions(geometry, values, sizes), strict=True))
        channels, side = images[0].shape[0], geometry[-1].size
        pixels = torch.empty(len(images), channels, side, side, dtype=torch.uint8, device=images[0].device)
        rows = max(1, TILE // pixels[0].numel())
        for start in range(0, len(images), rows):
            tile = pixels[start : start + rows]
            _resampled(images[start : start + rows], regions[start : start + rows], tile)
            drawn = [_at(slice(start, start + rows), v) for v in values[len(geometry) :]]
            if changes:
                tile.copy_(_changed(tile, changes, drawn))
        return pixels

    def _prepared(
        self, images: Sequence[Tensor], before: Sequence[RemoveBackground], drawn: Sequence[Values], index: list[int]
    ) -> Sequence[Tensor]:
        """The images as the first crop sees them."""
        for preparation, values in zip(before, drawn, strict=False):
            images = [
                preparation.prepare(image, self._mask(sample, image)) if applies else image
                for image, sample, applies in zip(images, index, values["applies"].tolist(), strict=True)
            ]
        return images

    def _mask(self, sample: int, image: Tensor) -> Tensor:
        """Raises ValueError where `masks` gives none."""
        mask = self.masks(sample, image)
        if mask is None:
            raise ValueError(f"sample {sample} has no mask: give one for every image, or that of transforms.salient")
        return mask


class _Parts(NamedTuple):
    """A chain in the order in which it is executed."""

    before: tuple[RemoveBackground, ...]
    geometry: tuple[Geometry, ...]
    changes: tuple[Change, ...]


def _resampled(images: Sequence[Tensor], regions: Sequence[Sequence[Region]], out: Tensor) -> None:
    """The regions of each image, one after another, into `out`."""
    if len(regions[0]) == 1 and products_fit(images, [one for (one,) in regions]):
        out.copy_(resample_together(torch.stack(list(images)), [one for (one,) in regions]))
        return
    for row, (image, steps) in zip(out, zip(images, regions, strict=True), strict=True):
        for region in steps:
            image = resample(image, region)
        row.copy_(image)


def _changed(pixels_BCHW: Tensor, changes: Sequence[Change], drawn: Sequence[Values]) -> UInt8[Tensor, "B C H W"]:
    """The changes one after another, each on the rows where it applies; may write into its argument."""
    x = pixels_BCHW
    for change, values in zip(changes, drawn, strict=True):
        if not isinstance(change, HorizontalFlip | CopyEdits) and bool(values["applies"].any()):
            x = x.float()
        x = changed_rows(x, change, values)
    return x if x.dtype == torch.uint8 else rounded(x)


def _at(rows: slice | Tensor, values: Values) -> dict[str, Shaped[Tensor, "b ..."]]:
    return {name: value[rows] for name, value in values.items()}


def _regions(geometry: Sequence[Geometry], values: tuple[Values, ...], sizes: Sizes) -> list[list[Region]]:
    """For each step of the geometry, the region of each image."""
    steps = []
    for transform, drawn in zip(geometry, values, strict=False):
        regions = transform.regions(drawn, sizes)
        sizes = [(region.out_height, region.out_width) for region in regions]
        steps.append(regions)
    return steps


def _source_box(regions: Sequence[Region], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The regions, each of the one before, as one box of the image: left, top, right, bottom as fractions."""
    left, top, right, bottom = 0.0, 0.0, 1.0, 1.0
    height, width = size
    for region in regions:
        across, down = (right - left) / width, (bottom - top) / height
        left, top = left + across * region.left, top + down * region.top
        right, bottom = left + across * region.width, top + down * region.height
        height, width = region.out_height, region.out_width
    return left, top, right, bottom


def _with_others(chain: Chain, others: Others | None) -> Chain:
    """The chain whose edits take other images from `others`, if it is given."""
    return tuple(
        replace(step, others=others) if others is not None and isinstance(step, CopyEdits) else step for step in chain
    )


def _parts(name: str, chain: Chain) -> _Parts:
    """The chain's preparations, its geometry and its changes of pixels."""
    before = tuple(transform for transform in chain if isinstance(transform, RemoveBackground))
    geometry = tuple(transform for transform in chain if isinstance(transform, Geometry))
    changes = tuple(transform for transform in chain if isinstance(transform, Change))
    if not geometry or (*before, *geometry, *changes) != chain or isinstance(geometry[-1], Resize):
        raise ValueError(
            f"the chain of view {name!r} must begin with its geometry, RandomResizedCrop, Whole or CenterCrop last, "
            f"and have none later, got {', '.join(type(transform).__name__ for transform in chain) or 'no transform'}"
        )
    return _Parts(before, geometry, changes)


def _check_overlaps(plan: Mapping[str, Chain]) -> None:
    """An OverlappingCrop comes first in its chain, and the view that it overlaps begins with its anchor."""
    for name, chain in plan.items():
        for place, crop in enumerate(chain):
            if isinstance(crop, OverlappingCrop) and (place > 0 or plan.get(crop.of, chain)[0] != crop.anchor):
                raise ValueError(
                    f"the crop of view {name!r} must come first, and overlap a view that begins with its anchor, "
                    f"which {crop.of!r} does not: name another view, or give that view's crop"
                )


def _known(names: Iterable[str], views: Mapping[str, object]) -> list[str]:
    """The names asked for, if there are any and the views have them."""
    names = list(names)
    if not names or not all(name in views for name in names):
        raise ValueError(f"there are the views {', '.join(views)}, asked for were {', '.join(names) or 'none'}")
    return names


def _checked(images: Tensor | Sequence[Tensor], count: int) -> Sequence[Tensor]:
    """The images one by one, if they are what render takes."""
    images = list(images)
    if len(images) != count or not images:
        raise ValueError(f"got {len(images)} images for the parameters of {count}: draw for the samples you render")
    for image in images:
        if image.dtype != torch.uint8 or image.ndim != 3 or len(image) != len(images[0]) or image.numel() == 0:
            raise ValueError(
                "views are made of uint8 pixels (C, H, W) with equally many channels, "
                f"got {image.dtype} {tuple(image.shape)}: decode images to levels from 0 to 255"
            )
    return images
