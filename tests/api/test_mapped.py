"""Which map of a network is read by masks, and how an image is scaled to its cells."""

import pytest
import torch
from torch import nn

from lookalike.api.maps import Mapped, mapped
from lookalike.api.models import Scored
from lookalike.evaluation import PixelMaps, RawPixels
from lookalike.modules import Descriptor, Encoder, backbone


def scored(module: nn.Module) -> Scored:
    return Scored(name="trained", module=module, size=32)


@pytest.mark.parametrize(
    ("stride", "size", "cells"),
    [
        (8, (480, 854), (60, 107)),  # DAVIS, as videowalk sees it
        (4, (480, 854), (60, 107)),  # twice as fine: at half the size
        (16, (480, 854), (30, 53)),
        (8, (24, 32), (3, 4)),
        (8, (1000, 600), (100, 60)),
        (32, (20, 200), (2, 6)),  # no map of a single cell
    ],
)
def test_the_shorter_side_has_60_cells_at_most_and_nothing_is_enlarged(stride, size, cells):
    model = Mapped(scored=scored(RawPixels()), encoder=PixelMaps(), level=-1, stride=stride)
    assert model.grid(*size) == cells


@pytest.mark.parametrize(
    ("name", "stem", "fine", "level", "stride"),
    [
        ("resnet18_quarter", "imagenet", False, -1, 32),
        ("resnet18_quarter", "imagenet", True, -2, 8),
        ("resnet18_quarter", "small", True, -2, 4),
        ("vit_tiny_patch16_224", "small", True, -1, 4),
    ],
)
def test_the_map_that_is_read(name, stem, fine, level, stride):
    encoder = backbone(name, stem=stem, image_size=32).eval()
    model = mapped(scored(encoder), fine=fine)
    assert (model.level, model.stride, model.features) == (level, stride, f"backbone map {level}")
    images = [torch.randint(0, 256, (3, 96, 160), dtype=torch.uint8) for _ in range(2)]
    maps = model.maps(images, torch.device("cpu"))
    assert maps.shape[2:] == model.grid(96, 160)
    again = model.maps(images[1:], torch.device("cpu"))
    torch.testing.assert_close(maps[1:], again, rtol=1e-4, atol=1e-4)


def test_of_a_descriptor_its_backbone_is_read_and_of_raw_pixels_the_pixels():
    encoder = backbone("resnet18_quarter", image_size=32)
    model = mapped(scored(Descriptor(encoder, nn.Linear(encoder.dim, 8))), fine=False)
    assert isinstance(model.encoder, Encoder)
    assert model.encoder is encoder
    pixels = mapped(scored(RawPixels()), fine=True)
    assert (pixels.features, pixels.crop) == ("pixels", "whole image in cells of 8 px")
