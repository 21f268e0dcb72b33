"""Encoders: stems and strides for small images, pixels in, names and mistakes."""

import pytest
import torch
from torch import Tensor, nn

from lookalike.modules import Encoder, MomentumEncoder, backbone
from lookalike.modules.backbones import IMAGENET_MEAN, IMAGENET_STD


def sides(encoder: Encoder, size: int) -> list[int]:
    """Side of the map after the stem and after each stage of a ResNet."""
    body, seen = encoder.to("meta").body, []
    for stage in (body.maxpool, body.layer1, body.layer2, body.layer3, body.layer4):
        stage.register_forward_hook(lambda _m, _i, y: seen.append(y.shape[-1]))
    encoder(torch.zeros(2, encoder.channels, size, size, device="meta"))
    return seen


def unborn(name: str, **arguments: object) -> Encoder:
    """A backbone whose weights have shapes only."""
    with torch.device("meta"):
        return backbone(name, **arguments)


def test_resnet_small_stem() -> None:
    encoder = backbone("resnet18", image_size=32)
    convolution = encoder.body.conv1
    assert (convolution.kernel_size, convolution.stride, convolution.padding) == ((3, 3), (1, 1), (1, 1))
    assert convolution.bias is None
    assert isinstance(encoder.body.maxpool, nn.Identity)
    assert encoder.dim == 512
    assert sum(p.numel() for p in encoder.parameters()) == 11_168_832  # 11,173,962 with a 10-way classifier: CIFAR nets
    assert convolution.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)
    assert sides(encoder, 32) == [32, 32, 16, 8, 4]


def test_resnet_other_stems() -> None:
    assert sides(unborn("resnet18", image_size=64, keep_pool=True), 64) == [32, 32, 16, 8, 4]
    assert sides(unborn("resnet18", image_size=128), 128) == [32, 32, 16, 8, 4]
    assert sides(unborn("resnet18"), 64) == [16, 16, 8, 4, 2]
    assert sides(unborn("resnet18", stem="small"), 32) == [32, 32, 16, 8, 4]
    assert sides(unborn("resnet18", stem="imagenet", image_size=32), 32) == [8, 8, 4, 2, 1]


@pytest.mark.parametrize(("name", "width"), [("resnet18_quarter", 16), ("resnet18_half", 32)])
def test_narrow_networks(name: str, width: int) -> None:
    encoder = backbone(name)
    assert encoder.dim == 8 * width
    assert encoder.body.conv1.weight.shape == (width, 3, 3, 3)
    widths = [stage[-1].conv2.out_channels for stage in (encoder.body.layer1, encoder.body.layer2, encoder.body.layer3)]
    assert widths == [width, 2 * width, 4 * width]
    assert encoder.body.layer1[0].downsample is None
    assert sides(encoder, 32) == [32, 32, 16, 8, 4]
    large = unborn(name, image_size=224)
    assert large.body.conv1.weight.shape == (width, 3, 7, 7)
    assert sides(large, 64) == [16, 16, 8, 4, 2]


def test_quarter_has_a_sixteenth_of_the_multiplications() -> None:
    def body(name: str) -> int:
        encoder = unborn(name, stem="small")
        return sum(p.numel() for n, p in encoder.named_parameters() if p.dim() == 4 and n[5:] != "conv1.weight")

    assert body("resnet18") == 16 * body("resnet18_quarter") == 4 * body("resnet18_half")


@pytest.mark.parametrize(
    ("name", "size", "tokens"),
    [
        ("vit_tiny_patch16_224", 32, 65),
        ("vit_tiny_patch16_224", 64, 65),
        ("convnext_atto", 32, 16),
        ("convnext_atto", 64, 16),
    ],
)
def test_vit_and_convnext_cut_small_images_finely(name: str, size: int, tokens: int) -> None:
    encoder = unborn(name, image_size=size)
    last = encoder.body.forward_features(torch.empty(2, 3, size, size, device="meta"))
    assert last.shape[1:].numel() == tokens * encoder.dim


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto"])
def test_vit_and_convnext_run_at_32_pixels(name: str) -> None:
    encoder = backbone(name, image_size=32)
    z = encoder(torch.rand(2, 3, 32, 32))
    assert z.shape == (2, encoder.dim)
    assert not torch.allclose(z[0], z[1])
    z.square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_vit_interpolates_to_other_sizes() -> None:
    encoder = unborn("vit_tiny_patch16_224", image_size=32)
    tokens = encoder.body.forward_features(torch.empty(1, 3, 48, 48, device="meta"))
    assert tokens.shape == (1, 1 + 12 * 12, 192)
    with pytest.raises(ValueError, match="50 pixels cannot be cut into patches of 6"):
        unborn("vit_tiny_patch16_224", image_size=50)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_bytes_and_floats_are_the_same_pixels(layout: torch.memory_format) -> None:
    encoder = backbone("resnet18_quarter").to(memory_format=layout).eval()
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8).contiguous(memory_format=layout)
    floats = pixels / 255
    before = floats.clone()
    assert torch.equal(encoder(pixels), encoder(floats))
    assert torch.equal(floats, before)


def test_pixels_are_normalized_by_hand() -> None:
    class Pixel(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, 0, 0]

    encoder = Encoder(Pixel(), 3, mean=IMAGENET_MEAN, std=IMAGENET_STD).double()
    found = encoder(torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1))
    by_hand = [(0.0 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (1.0 - 0.406) / 0.225]
    torch.testing.assert_close(found[0], torch.tensor(by_hand, dtype=torch.float64), rtol=0, atol=1e-6)


def test_gray_and_many_channels() -> None:
    gray = backbone("resnet18_quarter", channels=1)
    assert gray.mean.item() == pytest.approx((0.485 + 0.456 + 0.406) / 3)
    assert gray.std.item() == pytest.approx((0.229 + 0.224 + 0.225) / 3)
    assert gray(torch.zeros(2, 1, 32, 32, dtype=torch.uint8)).shape == (2, 128)
    five = unborn("vit_tiny_patch16_224", channels=5, image_size=32, mean=[0.5] * 5, std=[0.25] * 5)
    assert five(torch.empty(1, 5, 32, 32, device="meta")).shape == (1, 192)
    with pytest.raises(ValueError, match="5 channels need a mean and a std each, and 3 were given"):
        backbone("resnet18_quarter", channels=5, mean=[0.5] * 3, std=[0.5] * 3)
    with pytest.raises(ValueError, match=r"takes images \(B, 1, H, W\), and the shape \(2, 3, 32, 32\)"):
        gray(torch.zeros(2, 3, 32, 32))


def test_last_scale_of_blocks_is_a_choice() -> None:
    for choice, value in ((None, 0.0), (True, 0.0), (False, 1.0)):
        encoder = backbone("resnet18_quarter", zero_init_last=choice)
        assert encoder.body.layer1[0].bn2.weight.tolist() == [value] * 16
    with pytest.raises(ValueError, match="'convnext_atto' is none"):
        backbone("convnext_atto", zero_init_last=True)


def test_weights_are_a_function_of_the_seed() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in backbone("resnet18_quarter").parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_normalization_travels_with_the_weights() -> None:
    encoder = backbone("resnet18_quarter", mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
    again = backbone("resnet18_quarter")
    again.load_state_dict(encoder.state_dict())
    assert again.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_mistakes_are_sentences() -> None:
    with pytest.raises(ValueError, match=r"unknown backbone 'resnet18_quater': the nearest names are resnet18_quarter"):
        backbone("resnet18_quater")
    with pytest.raises(ValueError, match="unknown backbone 'hf-hub:someone/model'"):
        backbone("hf-hub:someone/model")
    with pytest.raises(ValueError, match=r"unknown backbone 'resnet50.a1_in1k': the nearest names are .*resnet50"):
        backbone("resnet50.a1_in1k")
    with pytest.raises(ValueError, match="no small stem is known for 'efficientnet_b0'"):
        backbone("efficientnet_b0", stem="small")
    with pytest.raises(ValueError, match="a positive std per channel"):
        backbone("resnet18_quarter", std=[0.5, 0.5, 0.0])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18_quarter"])
def test_residual_branches_are_skipped_in_training_and_never_by_a_momentum_encoder(name: str) -> None:
    encoder = backbone(name, drop_path=0.5, image_size=32, zero_init_last=False)
    slow, x = MomentumEncoder(encoder), torch.rand(8, 3, 32, 32)
    for module in (encoder, slow):
        for layer in module.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()
    with torch.no_grad():
        assert not torch.equal(encoder(x), encoder(x))
        assert torch.equal(slow(x), slow(x))
        encoder.eval()
        torch.testing.assert_close(encoder(x), slow(x))


@pytest.mark.parametrize(
    ("name", "last", "before"),
    [
        ("resnet18_quarter", (128, 8, 12), (64, 16, 24)),
        ("vit_tiny_patch16_224", (192, 8, 12), (192, 8, 12)),
        ("convnext_atto", (320, 4, 6), (160, 8, 12)),
    ],
)
def test_maps_know_where_things_are(name: str, last: tuple[int, ...], before: tuple[int, ...]) -> None:
    """Of an image that is wider than high; a change of its upper left corner changes that corner of the map most."""
    torch.manual_seed(0)
    encoder, pixels = backbone(name, image_size=64).eval(), torch.rand(1, 3, 64, 96)
    assert (encoder.maps(pixels)[0].shape, encoder.maps(pixels, level=-2)[0].shape) == (last, before)
    dark = pixels.clone()
    dark[:, :, :8, :8] = 0
    moved_hw = (encoder.maps(dark, level=-2) - encoder.maps(pixels, level=-2)).abs().sum((0, 1))
    assert divmod(int(moved_hw.argmax()), before[2]) in {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_features_of_a_resnet_are_the_mean_of_its_last_map() -> None:
    torch.manual_seed(0)
    encoder, pixels = backbone("resnet18_quarter", image_size=32).eval(), torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(encoder.maps(pixels).mean((2, 3)), encoder(pixels))


def test_a_body_without_maps_is_refused() -> None:
    plain = Encoder(nn.Flatten(), 3, mean=[0.5], std=[0.25])
    with pytest.raises(ValueError, match="Flatten gives no feature maps: use a ResNet, ConvNeXt or ViT of timm"):
        plain.maps(torch.rand(1, 1, 4, 4))
