"""The cheap references: raw pixels, and the same architecture with fresh weights."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from lookalike.evaluation import PixelMaps, RawPixels, extract, fingerprint, knn, random_weights


def plain_net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def train_a_little(net: nn.Module, size: int = 32) -> nn.Module:
    """Every parameter and statistic moves."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        net.train()(torch.randn(4, 3, size, size) + 2)
    return net.eval()


def test_a_map_of_pixels_holds_those_of_each_cell_less_mid_gray():
    pixels = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8)
    maps = PixelMaps().maps(pixels)
    assert maps.shape == (2, 192, 2, 3)
    for row in range(2):
        for column in range(3):
            block = pixels[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].flatten(1)
            torch.testing.assert_close(maps[:, :, row, column], block / 255 - 0.5, rtol=1e-6, atol=1e-6)
    assert torch.equal(PixelMaps().maps(pixels / 255), maps)


def test_raw_pixels_are_the_pixels_over_255():
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    rows = RawPixels()(pixels)
    np.testing.assert_array_equal(rows.numpy(), pixels.numpy().reshape(3, -1).astype(np.float32) / np.float32(255))
    assert torch.equal(RawPixels()(pixels.float() / 255), rows)
    assert torch.equal(RawPixels()(torch.full((1, 1, 2, 2), 65535, dtype=torch.uint16)), torch.ones(1, 4))


def test_raw_pixels_of_larger_images_are_averages_and_smaller_ones_stay():
    image = torch.zeros(1, 1, 64, 64)
    image[..., :32] = 1
    rows = RawPixels()(image).view(32, 32)
    assert torch.equal(rows[:, :15], torch.ones(32, 15))
    assert torch.equal(rows[:, 17:], torch.zeros(32, 15))
    assert rows.mean() == pytest.approx(0.5)
    assert RawPixels()(torch.rand(2, 3, 48, 20)).shape == (2, 3 * 32 * 20)


def test_centered_pixels_ignore_brightness():
    dark = torch.rand(1, 3, 8, 8) / 2
    images = torch.cat([dark, dark + 0.3, 1 - dark])  # the last is the negative of the first
    plain, centered = (nn.functional.normalize(RawPixels(centered=c)(images), dim=1) for c in (False, True))
    assert (centered @ centered.T)[0].tolist() == pytest.approx([1, 1, -1], abs=1e-5)
    assert (plain @ plain.T).min() > 0


def test_raw_pixels_find_equal_images():
    pixels = torch.randint(0, 256, (20, 3, 40, 40), dtype=torch.uint8)
    features = extract(RawPixels(), [(torch.arange(20), pixels)])
    labels = torch.arange(20)
    assert knn(features.rows, labels, features.rows, labels, k=1).accuracy == 1


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "mobilenetv3_small_050"])
def test_random_weights_keep_nothing_trained(name):
    size = {"vit_tiny_patch16_224": 224}.get(name, 32)
    net = train_a_little(timm.create_model(name, num_classes=0), size)
    before = fingerprint(net)
    fresh = random_weights(net, seed=0)
    assert fingerprint(net) == before
    assert str(fresh) == str(net)
    for (key, new), old in zip(fresh.named_parameters(), net.parameters(), strict=True):
        assert new.shape == old.shape
        assert not torch.equal(new, old), key
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        assert fresh(x).isfinite().all()
        assert not torch.allclose(fresh(x), net(x))


def test_random_weights_are_a_function_of_the_seed_alone():
    net = train_a_little(plain_net())
    first = fingerprint(random_weights(net, seed=0))
    state = torch.random.get_rng_state()
    torch.rand(5)
    assert fingerprint(random_weights(net, seed=0)) == first
    assert fingerprint(random_weights(net, seed=1)) != first
    torch.random.set_rng_state(state)
    random_weights(net, seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)  # the global generator is handed back


def test_random_weights_have_the_scale_of_a_new_network():
    net = train_a_little(timm.create_model("resnet18", num_classes=0))
    fresh, new = random_weights(net, seed=0), timm.create_model("resnet18", num_classes=0)
    for (key, a), b in zip(fresh.named_parameters(), new.parameters(), strict=True):
        assert a.detach().std().item() == pytest.approx(b.detach().std().item(), rel=0.15), key


def test_batch_statistics_are_the_identity_or_those_of_the_batches():
    net = train_a_little(plain_net())
    identity = random_weights(net, seed=0)
    assert torch.equal(identity[1].running_mean, torch.zeros(8))
    assert torch.equal(identity[1].running_var, torch.ones(8))
    batches = [torch.randn(6, 3, 32, 32) + 1, torch.randn(6, 3, 32, 32) - 2]
    fresh = random_weights(net, seed=0, batches=batches)
    outputs = [fresh[0](x).detach() for x in batches]
    mean = torch.stack([y.mean((0, 2, 3)) for y in outputs]).mean(0)
    torch.testing.assert_close(fresh[1].running_mean, mean)
    variance = torch.stack([y.transpose(0, 1).flatten(1).var(1) for y in outputs]).mean(0)
    torch.testing.assert_close(fresh[1].running_var, variance)
    assert torch.equal(fresh[0].weight, identity[0].weight)
    assert fresh[1].momentum == net[1].momentum
    assert not fresh.training


def test_what_has_no_initialization_of_its_own_is_drawn_with_its_own_scale_and_constants_stay():
    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(1, 50, 40) * 0.3 + 2)
            self.scale = nn.Parameter(torch.ones(40))
            self.register_buffer("mean", torch.tensor([0.5]))

        def init_weights(self, path: str) -> None:
            raise AssertionError("needs an argument: not ours to call")

    net = Foreign()
    fresh = random_weights(net, seed=0)
    assert not torch.equal(fresh.table, net.table)
    assert fresh.table.std().item() == pytest.approx(0.3, rel=0.1)
    assert fresh.table.mean().item() == pytest.approx(2, rel=0.05)
    assert torch.equal(fresh.scale, net.scale)
    assert torch.equal(fresh.mean, net.mean)
