"""How fine the feature maps of an encoder are, and a finer one of the same weights."""

import copy
from typing import Any

import timm
import torch
from timm.layers.blur_pool import BlurPool2d
from torch import nn

from lookalike.modules.backbones import Encoder
from lookalike.modules.modes import evaluating

PROBE = 128  # pixels of an image that is looked at to find out


def cell(encoder: Encoder, level: int = -1) -> int:
    """How many pixels wide a cell of `Encoder.maps` is at a level.

    Raises ValueError for a network without maps, and for one that takes images of a single size.
    """
    body: Any = encoder.body
    if isinstance(body, timm.models.VisionTransformer):
        if not body.dynamic_img_size:
            raise ValueError(
                f"this {type(body).__name__} takes images of one size alone: use a ResNet, ConvNeXt or ViT of timm"
            )
        return int(body.patch_embed.feat_ratio())  # of a hybrid, whose patches are cells of a ResNet, that of both
    pixels = torch.zeros(1, encoder.channels, PROBE, PROBE, device=encoder.mean.device)
    try:
        with evaluating(encoder):
            return PROBE // encoder.maps(pixels, level).shape[-1]
    except AssertionError as error:
        raise ValueError(
            f"{type(body).__name__} takes images of one size alone ({error}): use a ResNet, ConvNeXt or ViT of timm"
        ) from None


def finer(encoder: Encoder) -> Encoder:
    """A copy whose third stage keeps the size of its maps, where the network is a ResNet; otherwise the encoder itself.

    As videowalk reads ResNets (ajabri/videowalk, resnet.py): the stride of every convolution of layer3 is 1, the
    weights are the same. ResNets that pool on the way are left as they are.
    """
    if not isinstance(encoder.body, timm.models.ResNet):
        return encoder
    fine = copy.deepcopy(encoder)
    parts = list(fine.body.get_submodule("layer3").modules())
    if any(isinstance(part, nn.AvgPool2d | BlurPool2d) for part in parts):
        return encoder
    for part in parts:
        if isinstance(part, nn.Conv2d):
            part.stride = (1, 1)
    return fine
