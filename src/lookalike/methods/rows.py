"""Rows and views of a batch, for wrappers: its views of full size, and a batch in which some rows are another's."""

from dataclasses import replace

import torch
from torch import Tensor

from lookalike.methods.method import Batch


def largest_first(batch: Batch) -> list[str]:
    """The views by falling side; those of one side in their order."""
    return sorted(batch.views, key=lambda view: -batch.views[view].shape[-1])


def full_size(batch: Batch) -> list[str]:
    """The views that are no small crops, in order."""
    views = largest_first(batch)
    return [view for view in views if batch.views[view].shape[-1] == batch.views[views[0]].shape[-1]]


def mixed(batch: Batch, other: Batch, take_b: Tensor) -> Batch:
    """The batch, with the rows of another one where `take_b` says so."""

    def pick(mine: Tensor, theirs: Tensor) -> Tensor:
        return torch.where(take_b.view(-1, *[1] * (mine.dim() - 1)), theirs, mine)

    def optional(mine: Tensor | None, theirs: Tensor | None) -> Tensor | None:
        return None if mine is None or theirs is None else pick(mine, theirs)

    return replace(
        batch,
        views={name: pick(pixels, other.views[name]) for name, pixels in batch.views.items()},
        index=pick(batch.index, other.index),
        group=optional(batch.group, other.group),
        labels=optional(batch.labels, other.labels),
        aux={name: pick(values, other.aux[name]) for name, values in batch.aux.items()},
    )
