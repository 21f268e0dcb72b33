"""How wide a cell of a map is, measured on images, and a ResNet read in finer cells by the same weights."""

import pytest
import torch

from lookalike.modules import Encoder, backbone, cell, finer


@pytest.mark.parametrize(
    ("name", "size", "level", "expected"),
    [
        ("resnet18_quarter", 224, -1, 32),
        ("resnet18_quarter", 224, -2, 16),
        ("resnet18_quarter", 32, -2, 4),
        ("vit_tiny_patch16_224", 32, -1, 4),
        ("convnext_atto", 64, -1, 16),
    ],
)
def test_a_cell_is_as_wide_as_maps_show(name, size, level, expected):
    encoder = backbone(name, image_size=size, stem="imagenet" if size == 224 else "auto").eval()
    assert cell(encoder, level) == expected
    with torch.no_grad():
        maps = encoder.maps(torch.rand(1, 3, 3 * expected, 5 * expected), level)
    assert maps.shape[2:] == (3, 5)


def test_a_network_for_images_of_one_size_is_refused():
    with pytest.raises(ValueError, match="takes images of one size alone"):
        cell(backbone("resmlp_12_224", stem="imagenet"))


def test_a_finer_map_is_that_of_the_same_weights_without_the_stride():
    encoder = backbone("resnet18_quarter", stem="imagenet").eval()
    fine = finer(encoder)
    assert (cell(fine, -3), cell(fine, -2), cell(fine, -1)) == (8, 8, 16)
    assert cell(encoder, -2) == 16
    with torch.no_grad():
        x = encoder.maps(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), level=-3)
        step, far = (one.body.get_submodule("layer3.0.conv1")(x) for one in (fine, encoder))
    assert torch.equal(step[..., ::2, ::2], far)
    assert all(torch.equal(a, b) for a, b in zip(fine.parameters(), encoder.parameters(), strict=True))


def test_what_is_no_plain_resnet_is_left_as_it_is():
    pooling, patches = (backbone(name, image_size=32) for name in ("resnet10t", "vit_tiny_patch16_224"))
    assert finer(pooling) is pooling
    assert finer(patches) is patches


def test_weights_in_one_copy_do_not_move_the_other():
    encoder: Encoder = backbone("resnet18_quarter", stem="imagenet")
    fine = finer(encoder)
    with torch.no_grad():
        next(fine.parameters()).zero_()
    assert next(encoder.parameters()).any()


def test_a_transformer_of_one_size_is_refused_before_it_sees_an_image():
    with pytest.raises(ValueError, match="this VisionTransformer takes images of one size alone"):
        cell(backbone("deit_tiny_patch16_224"))


def test_a_resnet_that_blurs_on_its_way_down_is_left_as_it_is():
    network = backbone("resnetblur18")
    assert finer(network) is network
