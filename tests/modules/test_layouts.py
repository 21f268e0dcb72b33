"""The same network elsewhere: timm and torchvision build it from a blueprint, and detectron2's layout computes it."""

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from lookalike.modules import Encoder, backbone
from lookalike.modules.layouts import (
    detectron2_names,
    detectron2_settings,
    timm_blueprint,
    torchvision_blueprint,
)

NETWORKS = [
    ("resnet18_quarter", "small", 16, 3),
    ("resnet18_quarter", "imagenet", 32, 3),
    ("resnet18_half", "small", 16, 1),
    ("resnet18", "small", 16, 3),
    ("resnet18", "imagenet", 32, 3),
    ("resnet18d", "small", 16, 3),
    ("resnet18d", "imagenet", 32, 3),
    ("test_vit", "small", 32, 3),
    ("test_vit", "imagenet", 32, 1),
    ("test_convnext", "small", 32, 3),
    ("test_convnext", "small", 64, 3),
    ("test_convnext", "imagenet", 64, 3),
    ("test_efficientnet", "imagenet", 32, 3),
]


def trained(name: str, stem: Any, size: int, channels: int = 3) -> Encoder:
    """An encoder in which no layer is at its first value: batch norm would hide what is mixed up."""
    encoder = backbone(name, stem=stem, image_size=size, channels=channels, zero_init_last=None).eval()
    for tensor in encoder.body.state_dict().values():
        if tensor.dim() == 1:
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return encoder


def both(encoder: Encoder, network: nn.Module, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of an encoder, and of a network elsewhere."""
    pixels = torch.rand(3, encoder.channels, size, size)
    with torch.no_grad():
        return encoder(pixels), network((pixels - encoder.mean) / encoder.std)


@pytest.mark.parametrize(("name", "stem", "size", "channels"), NETWORKS)
def test_timm_builds_the_network_from_its_blueprint(name, stem, size, channels):
    encoder = trained(name, stem, size, channels)
    network = timm_blueprint(name, encoder).built(timm.create_model, encoder.body.state_dict())
    assert torch.equal(*both(encoder, network, size))


@pytest.mark.parametrize(("stem", "channels"), [("small", 3), ("imagenet", 3), ("imagenet", 1)])
def test_torchvision_builds_the_network_from_its_blueprint(stem, channels):
    encoder = trained("resnet18", stem, 32, channels)
    blueprint = torchvision_blueprint("resnet18", encoder)
    network = blueprint.built(torchvision.models.get_model, encoder.body.state_dict())
    assert torch.equal(*both(encoder, network, 32))
    assert set(network.state_dict()) == set(torchvision.models.resnet18().state_dict()) - {"fc.weight", "fc.bias"}


def test_weights_of_another_stem_are_refused():
    encoder = trained("resnet18", "small", 16)
    blueprint = timm_blueprint("resnet18", trained("resnet18", "imagenet", 16))
    with pytest.raises(RuntimeError, match=r"size mismatch for conv1\.weight"):
        blueprint.built(timm.create_model, encoder.body.state_dict())


def test_lines_name_the_layers_that_are_replaced():
    assert timm_blueprint("resnet18", trained("resnet18", "small", 16)).assignments() == [
        "model.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)",
        "model.maxpool = torch.nn.Identity()",
    ]
    assert timm_blueprint("resnet18", trained("resnet18", "imagenet", 32)).assignments() == []
    (line,) = timm_blueprint("test_convnext", trained("test_convnext", "small", 64)).assignments()
    assert line == "model.stages[0].downsample = torch.nn.Identity()"


@pytest.mark.parametrize(("name", "size"), [("resnet18", 32), ("resnet50", 32), ("resnext50_32x4d", 32)])
def test_the_layout_of_detectron2_computes_the_same(name, size):
    encoder = trained(name, "imagenet", size)
    names = detectron2_names(name, encoder)
    state = {names[own]: tensor for own, tensor in encoder.body.state_dict().items()}
    assert len(state) == len(names)
    settings = detectron2_settings(name, encoder)
    pixels = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    mean, std = (torch.tensor(settings[f"MODEL.PIXEL_{which}"]).view(-1, 1, 1) for which in ("MEAN", "STD"))
    with torch.no_grad():
        features = as_detectron2((pixels.float() - mean) / std, state, settings)
        wanted = encoder(pixels)
    assert torch.allclose(features, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    assert not state  # every weight has been used


def as_detectron2(x: torch.Tensor, state: dict[str, torch.Tensor], settings: dict[str, Any]) -> torch.Tensor:
    """A ResNet by the weights' names in detectron2, which it takes out of `state` (modeling/backbone/resnet.py)."""
    groups = settings["MODEL.RESNETS.NUM_GROUPS"]

    def conv(x: torch.Tensor, name: str, stride: int, groups: int = 1) -> torch.Tensor:
        weight = state.pop(f"{name}.weight")
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
        scale, shift, mean, var = (
            state.pop(f"{name}.norm.{part}") for part in ("weight", "bias", "running_mean", "running_var")
        )
        state.pop(f"{name}.norm.num_batches_tracked")
        return F.batch_norm(x, mean, var, scale, shift)

    x = F.max_pool2d(F.relu(conv(x, "stem.conv1", 2)), 3, 2, 1)
    for stage in range(2, 6):
        block = 0
        while f"res{stage}.{block}.conv1.weight" in state:
            name, stride = f"res{stage}.{block}", 2 if block == 0 and stage > 2 else 1
            old = conv(x, f"{name}.shortcut", stride) if f"{name}.shortcut.weight" in state else x
            if f"{name}.conv3.weight" in state:  # a bottleneck, with its stride in the 3x3
                assert settings["MODEL.RESNETS.STRIDE_IN_1X1"] is False
                x = F.relu(conv(x, f"{name}.conv1", 1))
                x = conv(F.relu(conv(x, f"{name}.conv2", stride, groups)), f"{name}.conv3", 1)
            else:
                x = conv(F.relu(conv(x, f"{name}.conv1", stride)), f"{name}.conv2", 1)
            x, block = F.relu(x + old), block + 1
        if stage == 2:
            assert x.shape[1] == settings["MODEL.RESNETS.RES2_OUT_CHANNELS"]
    return x.mean((2, 3))


def test_settings_of_detectron2_are_those_of_the_network():
    settings = detectron2_settings("resnext50_32x4d", trained("resnext50_32x4d", "imagenet", 32))
    resnet = {key.rpartition(".")[2]: value for key, value in settings.items() if ".RESNETS." in key}
    assert resnet == {
        "DEPTH": 50,
        "NUM_GROUPS": 32,
        "WIDTH_PER_GROUP": 4,
        "RES2_OUT_CHANNELS": 256,
        "STRIDE_IN_1X1": False,
    }
    assert settings["MODEL.PIXEL_MEAN"] == [123.675, 116.28, 103.53]


def test_a_network_without_a_place_in_a_layout_is_a_sentence():
    vit, quarter = trained("test_vit", "small", 32), trained("resnet18_quarter", "small", 16)
    with pytest.raises(ValueError, match="torchvision builds no test_vit with these names of weights: use --to timm"):
        torchvision_blueprint("test_vit", vit)
    with pytest.raises(ValueError, match="torchvision builds no resnet18_quarter"):
        torchvision_blueprint("resnet18_quarter", quarter)
    with pytest.raises(ValueError, match="detectron2 builds no test_vit: use --to timm"):
        detectron2_names("test_vit", vit)
    with pytest.raises(ValueError, match="detectron2 builds no resnet18 with the small stem"):
        detectron2_names("resnet18", trained("resnet18", "small", 16))
