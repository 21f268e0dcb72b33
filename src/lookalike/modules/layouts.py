"""The same network elsewhere: how timm and torchvision build it, and what detectron2 calls its weights."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import timm
from torch import Tensor, nn

from lookalike.modules.backbones import NARROW, Encoder

# named alike in timm and torchvision, with the same layers under the same names
SHARED = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
)
# detectron2/modeling/backbone/resnet.py: stem, res2 to res5, a norm inside each convolution
DETECTRON2 = (
    (r"^(?!layer)", "stem."),
    (r"^layer(\d)", lambda found: f"res{int(found[1]) + 1}"),
    (r"bn(\d)", r"conv\1.norm"),
    (r"downsample\.0", "shortcut"),
    (r"downsample\.1", "shortcut.norm"),
)


@dataclass(frozen=True)
class Blueprint:
    """How a library builds a network: an architecture by name, its arguments, and layers that are then replaced."""

    architecture: str
    arguments: Mapping[str, Any]
    layers: Mapping[str, nn.Module] = field(default_factory=dict)

    def built(self, create: Callable[..., nn.Module], state: Mapping[str, Tensor]) -> nn.Module:
        """The network in eval mode, from the library's own function, with these weights.

        Raises RuntimeError unless all names and shapes fit.
        """
        model = create(self.architecture, **self.arguments)
        for place, layer in self.layers.items():
            model.set_submodule(place, layer)  # the layer becomes part of the network, and takes up its weights
        model.load_state_dict(state)
        return model.eval()

    def assignments(self) -> list[str]:
        """The lines of Python that replace layers of `model`."""
        indexed = {place: re.sub(r"[.]([0-9]+)", r"[\1]", place) for place in self.layers}
        return [f"model.{indexed[place]} = {_constructor(layer)}" for place, layer in self.layers.items()]


def timm_blueprint(name: str, encoder: Encoder) -> Blueprint:
    """How timm alone builds the network inside an encoder that `backbone(name, ...)` made."""
    body: Any = encoder.body
    arguments: dict[str, Any] = {"num_classes": 0} | ({"in_chans": encoder.channels} if encoder.channels != 3 else {})
    if name in NARROW:
        width = NARROW[name]
        widths = {"channels": (width, 2 * width, 4 * width, 8 * width), "stem_type": "deep", "stem_width": width // 2}
        return Blueprint("resnet18", arguments | widths, _stem(body))
    if isinstance(body, timm.models.ResNet):
        return Blueprint(name, arguments, _stem(body) if _is_small(body) else {})
    if isinstance(body, timm.models.VisionTransformer):
        sizes = {"img_size": body.patch_embed.img_size[0], "patch_size": body.patch_embed.patch_size[0]}
        return Blueprint(name, arguments | sizes | {"dynamic_img_size": body.dynamic_img_size})
    if isinstance(body, timm.models.ConvNeXt) and (patch := int(body.get_parameter("stem.0.weight").shape[-1])) < 4:
        return Blueprint(name, arguments | {"patch_size": patch}, {"stages.0.downsample": nn.Identity()})
    return Blueprint(name, arguments)


def torchvision_blueprint(name: str, encoder: Encoder) -> Blueprint:
    """How torchvision alone builds the network, without its classifier. Raises ValueError where it has none such."""
    if name not in SHARED:
        raise ValueError(
            f"torchvision builds no {name} with these names of weights: use --to timm, torch or onnx, or train one of "
            f"{', '.join(SHARED)}"
        )
    body: Any = encoder.body
    stem = _stem(body) if _is_small(body) or encoder.channels != 3 else {}
    return Blueprint(name, {}, {"fc": nn.Identity(), **stem})


def detectron2_names(name: str, encoder: Encoder) -> dict[str, str]:
    """timm's name -> detectron2's, of every weight. Raises ValueError for a network that detectron2 does not build."""
    body: Any = encoder.body
    if name not in SHARED or _is_small(body):
        what = f"{name} with the small stem" if name in SHARED else name
        raise ValueError(
            f"detectron2 builds no {what}: use --to timm, torch or onnx, or train one of {', '.join(SHARED)} "
            "with backbone.stem=imagenet"
        )
    return {own: _renamed(own) for own in body.state_dict()}


def detectron2_settings(name: str, encoder: Encoder) -> dict[str, Any]:
    """What detectron2's configuration must say for these weights; ResNets here have their stride in the 3x3."""
    body: Any = encoder.body
    first = body.layer1[0]
    (depth,) = re.findall(r"resne[x]?t(\d+)", name)
    scaled = {key: [round(255 * x, 3) for x in v.flatten().tolist()] for key, v in encoder.named_buffers(recurse=False)}
    return {
        "MODEL.RESNETS.DEPTH": int(depth),
        "MODEL.RESNETS.NUM_GROUPS": first.conv2.groups,
        "MODEL.RESNETS.WIDTH_PER_GROUP": first.conv2.out_channels // first.conv2.groups,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": _last_norm(first).num_features,
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "INPUT.FORMAT": "RGB" if encoder.channels == 3 else "L",
        "MODEL.PIXEL_MEAN": scaled["mean"],
        "MODEL.PIXEL_STD": scaled["std"],
    }


def _last_norm(block: Any) -> nn.BatchNorm2d:
    return [layer for name, layer in block.named_children() if name.startswith("bn")][-1]


def _renamed(name: str) -> str:
    for pattern, replacement in DETECTRON2:
        name = re.sub(pattern, replacement, name, count=1)
    return name


def _is_small(body: Any) -> bool:
    """Whether the first convolution of a ResNet keeps the size of the image."""
    return isinstance(body.conv1, nn.Conv2d) and body.conv1.stride == (1, 1)


def _stem(body: Any) -> dict[str, nn.Module]:
    """The layers of a ResNet that differ from the library's own: its first convolution, and no pooling after it."""
    own = body.conv1
    conv = nn.Conv2d(own.in_channels, own.out_channels, own.kernel_size, own.stride, own.padding, bias=False)
    return {"conv1": conv} | ({"maxpool": nn.Identity()} if isinstance(body.maxpool, nn.Identity) else {})


def _constructor(layer: nn.Module) -> str:
    if not isinstance(layer, nn.Conv2d):
        return f"torch.nn.{type(layer).__name__}()"
    numbers = (layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0], layer.padding[0])
    return f"torch.nn.Conv2d({', '.join(map(str, numbers))}, bias=False)"
