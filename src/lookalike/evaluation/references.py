"""Two references that cost little, to be scored like the trained encoder: raw pixels and random weights."""

import copy
import inspect
from collections.abc import Iterable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_unshuffle

from lookalike.functional import random


class RawPixels(nn.Module):
    """The pixels themselves as features: scaled to [0, 1], at most 32 x 32, flattened.

    Plain pixels are dominated by brightness under cosine. `centered` subtracts each image's mean over all its values,
    which makes the harder reference.
    """

    def __init__(self, *, centered: bool = False) -> None:
        super().__init__()
        self.centered = centered

    def forward(self, pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Integers are divided by the largest value of their type; floats are taken to lie in [0, 1] already."""
        x = pixels.float() if pixels.is_floating_point() else pixels.float() / torch.iinfo(pixels.dtype).max
        size = min(x.shape[2], 32), min(x.shape[3], 32)
        if size != x.shape[2:]:
            x = interpolate(x, size=size, mode="bilinear", antialias=True)
        rows_BD = x.flatten(1)
        return rows_BD - rows_BD.mean(1, keepdim=True) if self.centered else rows_BD


class PixelMaps(nn.Module):
    """The pixels of each cell as its features, 8 x 8 of them, less mid-gray; a feature map for what reads maps.

    Our choice: as many pixels as a cell of the map has that videowalk reads; without mid-gray subtracted, any two
    cells would look alike under cosine.
    """

    stride = 8

    def maps(self, pixels: Shaped[Tensor, "B C H W"], level: int = -1) -> Float[Tensor, "B D h w"]:
        """Integers are divided by the largest value of their type. There is one level, whatever is asked for."""
        x = pixels if pixels.is_floating_point() else pixels.float() / torch.iinfo(pixels.dtype).max
        return pixel_unshuffle(x - 0.5, self.stride)


def random_weights(encoder: nn.Module, seed: int, *, batches: Iterable[Tensor] | None = None) -> nn.Module:
    """A copy of the architecture with fresh weights, the same for the same seed on every device.

    Every module that has `reset_parameters` (torch) or `init_weights` (timm) draws anew. A parameter that
    keeps its value in spite of that (class tokens, tables of positions) is drawn from a normal with its own
    mean and std, our choice; constants such as a scale of one stay. Batch statistics are the identity (mean
    0, variance 1); with `batches` of pixels they are the average over these batches.
    """
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    fresh = copy.deepcopy(encoder).cpu()
    # torch's own initialization draws from the global generator: it is borrowed, and handed back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(random.key("random weights", seed) & (2**63 - 1))
        for method in ("reset_parameters", "init_weights"):
            # Children first: a parent's rule for its children holds. By name, since torch has no type for it.
            for part in reversed(list(fresh.modules())):
                _call(getattr(part, method, None))
    with torch.no_grad():
        for (name, parameter), old in zip(fresh.named_parameters(), encoder.parameters(), strict=True):
            _redraw_if_kept(parameter, old.detach().cpu(), random.generator("random weights", seed, name))
    fresh.to(device)
    if batches is not None:
        _settle(fresh, batches, device)
    return fresh


def _call(initialize: object) -> None:
    if not callable(initialize):
        return
    parameters = inspect.signature(initialize).parameters.values()
    if all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        initialize()


def _redraw_if_kept(parameter: Tensor, old: Tensor, generator: torch.Generator) -> None:
    varies = old.numel() > 1 and bool((old != old.flatten()[0]).any())
    if varies and torch.equal(parameter, old):
        noise = torch.randn(old.shape, generator=generator)
        parameter.copy_(noise * old.float().std() + old.float().mean())


def _settle(module: nn.Module, batches: Iterable[Tensor], device: torch.device) -> None:
    """Batch statistics over `batches`; every other module stays in eval mode."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    training = [(part, part.training) for part in module.modules()]
    module.eval()
    for norm in norms:
        norm.train()
        norm.momentum = None  # torch: the plain average over batches
    with torch.no_grad():
        for pixels in batches:
            module(pixels.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for part, mode in training:
        part.training = mode
