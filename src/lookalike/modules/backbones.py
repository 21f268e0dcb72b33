"""Backbones: features (B, dim) from pixels, by timm's networks with stems for small images."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal

import timm
import torch
from jaxtyping import Float, UInt8
from timm.models import resnet
from torch import Tensor, nn

from lookalike.modules.batch_statistics import in_blocks

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NARROW = {"resnet18_quarter": 16, "resnet18_half": 32}  # channels of the first stage; ResNet-18 has 64
SMALL = 64  # pixels; larger images get the network's own stem
WITH_SMALL_STEM = ("resnet", "convnext", "vision_transformer")  # modules of timm.models

Stem = Literal["auto", "small", "imagenet"]


class Encoder(nn.Module):
    """A network with its normalization: uint8 pixels, or floats in [0, 1], to features of `dim` numbers.

    mean and std, one per channel, are subtracted and divided by first; they are buffers and travel with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, dim: int, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"normalization takes a mean and a positive std per channel, and {mean}, {std} was given")
        self.body, self.dim, self.channels = body, dim, len(mean)
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, x: UInt8[Tensor, "B C H W"] | Float[Tensor, "B C H W"]) -> Float[Tensor, "B dim"]:
        """Raises ValueError for pixels of another type or number of channels."""
        if x.dtype != torch.uint8 and not x.is_floating_point():
            raise ValueError(f"an encoder takes pixels as uint8, or as floats in [0, 1], and {x.dtype} was given")
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(
                f"this encoder takes images (B, {self.channels}, H, W), and the shape {tuple(x.shape)} was given: "
                f"build the backbone with the number of channels of the images"
            )
        return in_blocks(self.body, self._normalized(x))

    def maps(
        self, x: UInt8[Tensor, "B C H W"] | Float[Tensor, "B C H W"], level: int = -1
    ) -> Float[Tensor, "B dim h w"]:
        """The feature map of a level of the network, -1 the last; patches of a ViT in their places, of its last block.

        Raises ValueError for a network without maps.
        """
        body: Any = self.body
        if not hasattr(body, "forward_intermediates"):  # bodies that are not timm's may lack it
            raise ValueError(f"{type(body).__name__} gives no feature maps: use a ResNet, ConvNeXt or ViT of timm")
        (maps,) = body.forward_intermediates(self._normalized(x), indices=[level], intermediates_only=True)
        return maps

    def _normalized(self, x: Tensor) -> Tensor:
        pixels = x.to(self.mean.dtype) / 255 if x.dtype == torch.uint8 else x.to(self.mean.dtype)
        return (pixels - self.mean) / self.std


def backbone(
    name: str,
    *,
    stem: Stem = "auto",
    image_size: int | None = None,
    channels: int = 3,
    keep_pool: bool = False,
    zero_init_last: bool | None = None,
    drop_path: float = 0.0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Encoder:
    """An encoder with random weights: a network of timm by its name, or a narrow ResNet-18 (NARROW). No download.

    The small stem is for images of at most 64 pixels, where "auto" takes it; narrow networks also without image_size.

    ResNet     3x3 convolution of stride 1 without max-pooling (SimCLR's CIFAR-10 networks); keep_pool=True keeps it
               (ASCL's networks for 64 pixels)
    ConvNeXt   first stride 1 up to 63 pixels and 2 at 64, not 4, so that the last map is at least 4x4 (our choice)
    ViT        patches of image_size / 8 pixels: 4 at 32, 8 at 64 (our choice)

    Other families have no small stem. A ViT is built for image_size and interpolates its positions for other sizes.
    zero_init_last: whether the last BatchNorm scale of a ResNet's blocks starts at 0 (None: timm's choice, yes; BYOL's
    authors report that it hurts large networks). drop_path: stochastic depth, the chance in the last block.
    mean and std: ImageNet's for 3 channels, otherwise their average for each channel.
    Raises ValueError for an unknown name, with the nearest ones, and for what a family cannot do.
    """
    family = _family(name)
    small = _small(name, family, stem, image_size)
    arguments: dict[str, Any] = {"in_chans": channels, "num_classes": 0} | _stochastic(drop_path)
    if family == "resnet" and zero_init_last is not None:
        arguments["zero_init_last"] = zero_init_last
    elif zero_init_last:
        raise ValueError(f"zero_init_last is for ResNets, and {name!r} is none: leave it out")
    size = image_size or (32 if small else None)
    body = _network(name, family, small, size, keep_pool, arguments)
    mean, std = mean or _per_channel(IMAGENET_MEAN, channels), std or _per_channel(IMAGENET_STD, channels)
    if len(mean) != channels:
        raise ValueError(f"{channels} channels need a mean and a std each, and {len(mean)} were given")
    return Encoder(body, int(body.head_hidden_size), mean=mean, std=std)


def _stochastic(drop_path: float) -> dict[str, Any]:
    """Not every network knows the argument: it is given where it matters."""
    return {"drop_path_rate": drop_path} if drop_path > 0 else {}


def _per_channel(imagenet: tuple[float, ...], channels: int) -> Sequence[float]:
    return imagenet if channels == len(imagenet) else [sum(imagenet) / len(imagenet)] * channels


def _small(name: str, family: str, stem: Stem, image_size: int | None) -> bool:
    if stem == "small" and family not in WITH_SMALL_STEM:
        raise ValueError(f"no small stem is known for {name!r}: use stem='imagenet', or a ResNet, ConvNeXt or ViT")
    if stem != "auto":
        return stem == "small"
    if image_size is None:
        return name in NARROW
    return image_size <= SMALL and family in WITH_SMALL_STEM


def _family(name: str) -> str:
    """The timm module that builds the network."""
    if name in NARROW:
        return "resnet"
    known = timm.list_models()
    if name not in known:
        nearest = get_close_matches(name, [*NARROW, *known], n=3, cutoff=0.3)
        raise ValueError(f"unknown backbone {name!r}: the nearest names are {', '.join(nearest) or 'none'}")
    return timm.models.model_entrypoint(name).__module__.rpartition(".")[2]


def _network(name: str, family: str, small: bool, size: int | None, keep_pool: bool, arguments: dict[str, Any]) -> Any:
    if family == "resnet":
        return _resnet(name, small, keep_pool, arguments)
    if family == "convnext" and small and size is not None:
        return _small_convnext(name, max(1, min(4, size // 32)), arguments)
    if family == "vision_transformer":
        return _vit(name, size, {"patch_size": max(1, size // 8)} if small and size else {}, arguments)
    return timm.create_model(name, **arguments)


def _resnet(name: str, small: bool, keep_pool: bool, arguments: dict[str, Any]) -> Any:
    body: Any = _narrow(NARROW[name], arguments) if name in NARROW else timm.create_model(name, **arguments)
    if small or name in NARROW:
        kernel, stride, padding = (3, 1, 1) if small else (7, 2, 3)
        width = body.bn1.num_features
        body.conv1 = nn.Conv2d(arguments["in_chans"], width, kernel, stride, padding, bias=False)
        nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")  # as the other convolutions
    if small and not keep_pool:
        body.maxpool = nn.Identity()
    return body


def _narrow(width: int, arguments: dict[str, Any]) -> nn.Module:
    """ResNet-18 with `width` channels in its first stage; timm narrows the stem only of its "deep" type."""
    block: Any = resnet.BasicBlock
    channels = (width, 2 * width, 4 * width, 8 * width)
    return resnet.ResNet(block, (2, 2, 2, 2), channels=channels, stem_type="deep", stem_width=width // 2, **arguments)


def _small_convnext(name: str, stride: int, arguments: dict[str, Any]) -> Any:
    body: Any = timm.create_model(name, patch_size=stride, **arguments)
    if body.stem[0].stride != (stride, stride):
        raise ValueError(f"no small stem is known for {name!r}, whose stem overlaps: use stem='imagenet'")
    body.stages[0].downsample = nn.Identity()  # timm adds one after a stem of stride 2
    return body


def _vit(name: str, size: int | None, patch: dict[str, Any], arguments: dict[str, Any]) -> Any:
    sized: dict[str, Any] = {} if size is None else {"img_size": size}
    body: Any = timm.create_model(name, dynamic_img_size=True, **sized, **patch, **arguments)
    side = body.patch_embed.patch_size[0]
    if size is not None and size % side:
        raise ValueError(f"images of {size} pixels cannot be cut into patches of {side}: choose a multiple of {side}")
    return body
