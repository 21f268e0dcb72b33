"""What export can make of an encoder: the bytes of a file, the Python that loads it, and the features it gives."""

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
import torchvision
from torch import Tensor, nn

from lookalike.api.programs import (
    INPUT,
    OPSET,
    OUTPUT,
    Features,
    as_pixels,
    onnx_program,
    opened_onnx,
    opened_torch,
    torch_program,
)
from lookalike.modules import Descriptor, Encoder
from lookalike.modules.layouts import (
    Blueprint,
    detectron2_names,
    detectron2_settings,
    timm_blueprint,
    torchvision_blueprint,
)
from lookalike.recipes import Recipe, view_size
from lookalike.recipes.build import head_section
from lookalike.recipes.schema import Backbone
from lookalike.training.weights import decode, encode

FILE = '"FILE"'  # stands for the path in what loads a file


@dataclass(frozen=True)
class Subject:
    """What is exported: a network, and the recipe that it was built from; pixels: what programs take."""

    network: Encoder | Descriptor
    recipe: Recipe
    pixels: str = "uint8"

    @property
    def encoder(self) -> Encoder:
        """The network, or its backbone."""
        return self.network.backbone if isinstance(self.network, Descriptor) else self.network

    @property
    def backbone(self) -> Backbone:
        return self.recipe.backbone

    @property
    def size(self) -> int:
        """The side of the images."""
        return view_size(self.recipe)

    def example(self) -> Tensor:
        """Two images as a program takes them; one alone would be taken for a batch that is always one."""
        images = torch.zeros(2, self.encoder.channels, self.size, self.size, dtype=torch.uint8)
        return as_pixels(images, self.pixels)

    def normalized(self, network: nn.Module) -> Features:
        """The features that a network without normalization gives for uint8 images."""
        mean, std = self.encoder.mean, self.encoder.std
        return lambda images: network((as_pixels(images, "float") - mean) / std)

    def numbers(self, name: str) -> list[float]:
        """The normalization's mean or std, one number per channel, in as few digits as are exact."""
        return [float(str(number)) for number in self.encoder.get_buffer(name).numpy().ravel()]


@dataclass(frozen=True)
class Artifact:
    """One file. code: Python that loads "FILE" and gives the `features` of `pixels`; features: of uint8 images.

    hint: a sentence for who loads it; config: timm's description of the network, where the file is for timm.
    """

    content: bytes
    code: str
    features: Features
    hint: str = ""
    config: Mapping[str, Any] | None = None


def own(subject: Subject) -> Artifact:
    """The file that --init and `load_weights` read: network and normalization, and a descriptor's head."""
    content, copy, section = _file(subject.network.state_dict()), deepcopy(subject.network), subject.backbone
    copy.load_state_dict(_read(content))
    arguments = f'"{section.name}", stem="{section.stem}", image_size={subject.size}, channels={copy.channels}'
    names, lines = "backbone", [f"encoder = backbone({arguments}).eval()"]
    if isinstance(subject.network, Descriptor):
        head = head_section(subject.recipe)
        names = "Descriptor, backbone, head"
        lines += [
            f'layers = head("{head.shape}", encoder.dim, hidden={head.hidden}, out={head.out})',
            "encoder = Descriptor(encoder, layers).eval()",
        ]
    lines = [
        f"from lookalike.modules import {names}, load_weights",
        "",
        *lines,
        f"load_weights(encoder, {FILE})",
        "features = encoder(pixels)",
    ]
    return Artifact(content, "\n".join(lines), copy, "lookalike pretrain DATA --init FILE starts a run from it.")


def for_timm(subject: Subject) -> Artifact:
    """The network's weights under timm's names, and timm's description of it."""
    blueprint = timm_blueprint(subject.backbone.name, subject.encoder)
    content = _file(subject.encoder.body.state_dict())
    network = blueprint.built(timm.create_model, _read(content))
    arguments = "".join(f", {name}={_literal(value)}" for name, value in blueprint.arguments.items())
    create = f'model = timm.create_model("{blueprint.architecture}"{arguments}'
    if blueprint.layers:
        load = [f"{create})", *blueprint.assignments(), f"timm.models.load_checkpoint(model, {FILE})"]
        hint = f"timm builds {blueprint.architecture} otherwise: replace {_places(blueprint)} before loading."
    else:
        load, hint = [f"{create}, checkpoint_path={FILE})"], ""
    lines = ("import timm", "import torch", "", *load, *_normalizing(subject))
    return Artifact(content, "\n".join(lines), subject.normalized(network), hint, _description(subject, blueprint))


def for_torchvision(subject: Subject) -> Artifact:
    """A ResNet's weights as torchvision names them."""
    blueprint = torchvision_blueprint(subject.backbone.name, subject.encoder)
    content = _file(subject.encoder.body.state_dict())
    network = blueprint.built(torchvision.models.get_model, _read(content))
    lines = (
        "import torch",
        "import torchvision",
        "from safetensors.torch import load_file",
        "",
        f"model = torchvision.models.{blueprint.architecture}()",
        *blueprint.assignments(),
        f"model.load_state_dict(load_file({FILE}))",
        *_normalizing(subject),
    )
    hint = f"torchvision builds {blueprint.architecture} with a classifier: replace {_places(blueprint)} first."
    return Artifact(content, "\n".join(lines), subject.normalized(network), hint)


def for_detectron2(subject: Subject) -> Artifact:
    """A ResNet's weights as detectron2 names those of its backbone, and the settings that go with them."""
    body, names = deepcopy(subject.encoder.body), detectron2_names(subject.backbone.name, subject.encoder)
    content = _file({names[name]: tensor for name, tensor in body.state_dict().items()})
    there = _read(content)
    body.load_state_dict({own: there[name] for own, name in names.items()})
    settings = detectron2_settings(subject.backbone.name, subject.encoder)
    lines = (
        "import torch",
        "from safetensors.torch import load_file",
        "",
        f'torch.save({{"model": load_file({FILE})}}, "detectron2.pth")',
        'settings = {"MODEL.WEIGHTS": "detectron2.pth"}',
        *(f'settings["{key}"] = {_literal(value)}' for key, value in settings.items()),
        "cfg.merge_from_list([word for setting in settings.items() for word in setting])",
    )
    hint = "detectron2 reads no safetensors: save them once as .pth, and take over the settings."
    return Artifact(content, "\n".join(lines), subject.normalized(body), hint)


def for_torch(subject: Subject) -> Artifact:
    """A program of torch.export; loading it takes torch alone."""
    content = torch_program(subject.network, subject.example())
    lines = ("import torch", "", f"features = torch.export.load({FILE}).module()(pixels)")
    return Artifact(content, "\n".join(lines), _taking(subject, opened_torch(content)), _pixels(subject))


def for_onnx(subject: Subject) -> Artifact:
    """An ONNX model; running it takes onnxruntime, or what else reads ONNX."""
    content = onnx_program(subject.network, subject.example())
    lines = (
        "import onnxruntime",
        "",
        f"session = onnxruntime.InferenceSession({FILE})",
        f'(features,) = session.run(["{OUTPUT}"], {{"{INPUT}": pixels.numpy()}})',
    )
    hint = f"{_pixels(subject)} ONNX opset {OPSET}."
    return Artifact(content, "\n".join(lines), _taking(subject, opened_onnx(content)), hint)


class Target(NamedTuple):
    """How a file's name ends, and what makes it."""

    suffix: str
    make: Callable[[Subject], Artifact]


TARGETS: dict[str, Target] = {
    "safetensors": Target(".safetensors", own),
    "timm": Target(".safetensors", for_timm),
    "torch": Target(".pt2", for_torch),
    "onnx": Target(".onnx", for_onnx),
    "torchvision": Target(".safetensors", for_torchvision),
    "detectron2": Target(".safetensors", for_detectron2),
}


def _file(state: Mapping[str, Tensor]) -> bytes:
    return b"".join(encode(state))


def _read(content: bytes) -> dict[str, Tensor]:
    return decode(content, Path("the exported file"))


def _literal(value: Any) -> str:
    """The value as Python writes it, text in double quotes."""
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _taking(subject: Subject, features: Features) -> Features:
    return lambda images: features(as_pixels(images, subject.pixels))


def _places(blueprint: Blueprint) -> str:
    return " and ".join(blueprint.layers)


def _normalizing(subject: Subject) -> tuple[str, ...]:
    mean, std = (f"torch.tensor({subject.numbers(name)}).view(-1, 1, 1)" for name in ("mean", "std"))
    return f"mean = {mean}", f"std = {std}", "features = model.eval()((pixels / 255 - mean) / std)"


def _pixels(subject: Subject) -> str:
    kind = {"uint8": "uint8, 0 to 255", "float": "float32, 0 to 1"}[subject.pixels]
    return f"Pixels are {kind}, (batch, {subject.encoder.channels}, {subject.size}, {subject.size}), any batch."


def _description(subject: Subject, blueprint: Blueprint) -> dict[str, Any]:
    """What timm keeps beside weights on the Hub."""
    arguments = {name: value for name, value in blueprint.arguments.items() if name != "num_classes"}
    return {
        "architecture": blueprint.architecture,
        "num_classes": 0,
        "num_features": subject.encoder.dim,
        "model_args": arguments,
        "pretrained_cfg": {
            "mean": subject.numbers("mean"),
            "std": subject.numbers("std"),
            "input_size": [subject.encoder.channels, subject.size, subject.size],
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "num_classes": 0,
        },
    }
