"""A module looked through for a while: in eval mode, and afterwards as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode and no gradient inside; afterwards the mode of every submodule and every buffer is as before.

    The flags are set one by one: a submodule that overrides `train` (a momentum encoder whose batch norm
    keeps learning) is in eval mode too, and comes back to its own mode. Buffers that the module writes in
    eval mode are written back.
    """
    modes = [(part, part.training) for part in module.modules()]
    buffers = [
        (part, name, buffer, buffer.detach().clone())
        for part in module.modules()
        for name, buffer in part._buffers.items()
        if buffer is not None
    ]
    try:
        for part, _ in modes:
            part.training = False
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training
        for part, name, buffer, before in buffers:
            part._buffers[name] = buffer
            _restore(buffer, before)


@torch.no_grad()
def _restore(buffer: Tensor, before: Tensor) -> None:
    """Written only where it changed: a needless write would void a backward pass that is under way."""
    if not torch.equal(buffer, before):
        buffer.copy_(before)
