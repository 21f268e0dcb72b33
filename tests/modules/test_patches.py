"""Fixed patches: what learns and what does not, positions by hand, first weights, copies and saved state."""

import math

import pytest
import torch
from torch import nn

from lookalike.modules import Encoder, MomentumEncoder, backbone, fixed_patches

SIDE, DIM = 8, 192  # patches of 4 pixels in 32; the width of ViT-Tiny


def vit() -> Encoder:
    torch.manual_seed(0)
    return fixed_patches(backbone("vit_tiny_patch16_224", stem="small", image_size=32))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return vit()


def test_an_optimizer_moves_all_but_projection_and_positions() -> None:
    encoder = vit()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1, weight_decay=0.1)
    encoder(torch.rand(2, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    still = {name for name, value in encoder.state_dict().items() if torch.equal(before[name], value)}
    fixed = {"body.pos_embed", "body.patch_embed.proj.weight", "body.patch_embed.proj.bias"}
    assert still == {"mean", "std"} | fixed
    assert fixed & dict(encoder.named_parameters()).keys() == set()


def test_positions_are_sines_and_cosines_of_row_and_column(encoder) -> None:
    """Each place by loops, whatever the order of channels; the class token has none."""
    positions = encoder.body.pos_embed[0]
    assert not positions[0].any()
    for row in range(SIDE):
        for column in range(SIDE):
            angles = [at / 10000 ** (k / (DIM // 4)) for at in (row, column) for k in range(DIM // 4)]
            expected = sorted([math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles])
            found = sorted(positions[1 + row * SIDE + column].tolist())
            assert found == pytest.approx(expected, abs=1e-5)


def test_first_weights_are_those_of_the_official_code(encoder) -> None:
    """facebookresearch/moco-v3, vits.py: uniform within sqrt(6 / (inputs + outputs)), q, k and v each by itself."""
    projection, block = encoder.body.patch_embed.proj, encoder.body.blocks[3]
    assert projection.weight.shape == (DIM, 3, 4, 4)
    for weight, ends in (
        (projection.weight, 3 * 4 * 4 + DIM),
        (block.attn.qkv.weight, 2 * DIM),
        (block.mlp.fc1.weight, DIM + 4 * DIM),
    ):
        assert weight.abs().max().item() == pytest.approx(math.sqrt(6 / ends), rel=0.01)
        assert weight.std().item() == pytest.approx(math.sqrt(2 / ends), rel=0.03)
    assert not projection.bias.any()
    assert encoder.body.cls_token.abs().max() < 1e-5


def test_a_momentum_encoder_has_the_same_patches_and_follows_the_rest() -> None:
    encoder = vit()
    slow = MomentumEncoder(encoder)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1)
    slow.follow(encoder, momentum=0.5)
    assert torch.equal(slow.copies[0].body.patch_embed.proj.weight, encoder.body.patch_embed.proj.weight)
    assert not torch.equal(slow.copies[0].body.blocks[0].mlp.fc1.weight, encoder.body.blocks[0].mlp.fc1.weight)


def test_they_are_saved_under_the_names_of_any_such_network() -> None:
    encoder, plain = vit(), backbone("vit_tiny_patch16_224", stem="small", image_size=32)
    plain.load_state_dict(encoder.state_dict())
    pixels = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(plain.eval()(pixels), encoder.eval()(pixels))
    assert encoder(torch.rand(2, 3, 48, 48)).shape == (2, DIM)  # positions are interpolated


@pytest.mark.parametrize("name", ["resnet18_quarter", "convnext_atto"])
def test_other_networks_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"fixed patches are for vision transformers, and (ResNet|ConvNeXt) is none"):
        fixed_patches(backbone(name, image_size=32))


def test_the_same_seed_gives_the_same_patches(encoder) -> None:
    again = vit()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in encoder.state_dict().items())
    assert isinstance(again.body.patch_embed.proj, nn.Conv2d)
