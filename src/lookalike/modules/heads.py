"""Projection and prediction heads: one function that builds an MLP, and a table of the papers' shapes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

Norm = Literal["none", "plain", "no_bias", "no_affine"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """An MLP: widths of the hidden layers (None: that of the input), width of the output, norms, biases, activation."""

    hidden: tuple[int | None, ...]
    out: int
    norm: Norm = "none"
    last_norm: Norm = "none"
    bias: bool = True
    last_bias: bool = True
    activation: Literal["relu", "gelu"] = "relu"
    deviation: float | None = None  # of truncated normal weights, with zero biases; None: torch's first weights


_SIMCLR = Shape(hidden=(None,), out=128, norm="plain", last_norm="no_bias", bias=False, last_bias=False)
_BYOL = Shape(hidden=(4096,), out=256, norm="plain", last_bias=False)
_PROJECTOR = Shape(hidden=(4096,), out=256, norm="plain", last_norm="no_affine", bias=False, last_bias=False)
_PREDICTOR = Shape(hidden=(4096,), out=256, norm="plain", bias=False, last_bias=False)
_LINEAR = Shape(hidden=(), out=128)
_TWO_LINEAR = Shape(hidden=(None,), out=128)

# As in the official code of each method; "projector" follows the backbone, "predictor" the projector.
SHAPES: dict[str, Shape] = {
    "simclr": _SIMCLR,  # google-research/simclr, model_util.py
    "simclr_v2": Shape(hidden=(None, None), out=128, norm="plain", last_norm="no_bias", bias=False, last_bias=False),
    "moco_v1": _LINEAR,  # facebookresearch/moco, builder.py
    "moco_v2": _TWO_LINEAR,
    "moco_cifar": _LINEAR,  # its CIFAR-10 notebook
    "moco_v3/projector": _PROJECTOR,  # facebookresearch/moco-v3, builder.py: ResNet-50
    "moco_v3/predictor": _PREDICTOR,
    "moco_v3_vit/projector": Shape(
        hidden=(4096, 4096), out=256, norm="plain", last_norm="no_affine", bias=False, last_bias=False
    ),
    "moco_v3_vit/predictor": _PROJECTOR,  # with the last norm, unlike ResNet-50's
    "byol/projector": _BYOL,  # google-deepmind/deepmind-research, byol/utils/networks.py
    "byol/predictor": _BYOL,
    "sce/projector": Shape(
        hidden=(2048, 2048), out=256, norm="plain", last_norm="no_affine", bias=False, last_bias=False
    ),  # CEA-LIST/SCE: ImageNet; hidden layers of 4096 with multi-crop
    "sce/predictor": _PREDICTOR,
    "sce_cifar": Shape(hidden=(512,), out=128, norm="plain", bias=False),
    "simsiam/projector": Shape(
        hidden=(None, None), out=2048, norm="plain", last_norm="no_affine", bias=False, last_bias=False
    ),  # facebookresearch/simsiam, builder.py
    "simsiam_cifar/projector": Shape(
        hidden=(2048,), out=2048, norm="plain", last_norm="no_affine", bias=False, last_bias=False
    ),
    "simsiam/predictor": Shape(hidden=(512,), out=2048, norm="plain", bias=False),
    "barlow_twins": Shape(hidden=(8192, 8192), out=8192, norm="plain", bias=False, last_bias=False),
    "vicreg": Shape(hidden=(8192, 8192), out=8192, norm="plain", last_bias=False),
    "dcl": Shape(hidden=(512,), out=128, norm="plain", bias=False),  # chingyaoc/DCL and raminnakhli's, model.py
    "nnclr/projector": Shape(hidden=(2048, 2048), out=256, norm="plain", last_norm="plain"),
    "nnclr/predictor": Shape(hidden=(4096,), out=256, norm="plain"),  # vturrisi/solo-learn, methods/nnclr.py
    "ressl": Shape(hidden=(4096,), out=512),  # mingkai-zheng/ReSSL
    "ascl": Shape(hidden=(2048,), out=128),  # MrChenFeng/ASCL_ICPR2022
    "ascl/predictor": Shape(hidden=(512,), out=128, norm="plain"),
    "npid": _LINEAR,  # zhirongw/lemniscate.pytorch, resnet.py
    "supcon": _TWO_LINEAR,  # HobbitLong/SupContrast, resnet_big.py
    "swav": Shape(hidden=(2048,), out=128, norm="plain"),  # facebookresearch/swav, resnet50.py
    "dino": Shape(hidden=(2048, 2048), out=256, activation="gelu", deviation=0.02),  # facebookresearch/dino, DINOHead
    "dino_bn": Shape(hidden=(2048, 2048), out=256, norm="plain", activation="gelu", deviation=0.02),  # use_bn_in_head
}


def head(name: str, dim: int, *, hidden: int | None = None, out: int | None = None) -> nn.Sequential:
    """The head that SHAPES lists under `name`, on features of `dim` numbers.

    `hidden` and `out` replace the paper's widths.

    >>> head("moco_v2", 16, out=4)
    Sequential(
      (0): Linear(in_features=16, out_features=16, bias=True)
      (1): ReLU()
      (2): Linear(in_features=16, out_features=4, bias=True)
    )

    Raises ValueError for a name that is not listed.
    """
    if name not in SHAPES:
        raise ValueError(f"unknown head {name!r}: it is one of {', '.join(SHAPES)}")
    shape = SHAPES[name]
    layers = mlp(
        dim,
        [*(hidden or width or dim for width in shape.hidden), out or shape.out],
        norm=shape.norm,
        last_norm=shape.last_norm,
        bias=shape.bias,
        last_bias=shape.last_bias,
        activation={"relu": nn.ReLU, "gelu": nn.GELU}[shape.activation],
    )
    for layer in layers:
        if shape.deviation is not None and isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=shape.deviation)
            nn.init.zeros_(layer.bias)
    return layers


def mlp(
    dim: int,
    widths: Sequence[int],
    *,
    norm: Norm = "plain",
    last_norm: Norm = "none",
    bias: bool = True,
    last_bias: bool = True,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Linear layers of the given widths on `dim` numbers; hidden ones are followed by BatchNorm and activation.

    `norm` and `bias` are those of hidden layers, `last_norm` and `last_bias` of the last, which has no activation:
    "none", "plain", "no_bias" (scale only), "no_affine" (neither scale nor offset).
    """
    if not widths:
        raise ValueError("a head has at least one layer, and no width was given")
    layers: list[nn.Module] = []
    for width in widths[:-1]:
        layers += [nn.Linear(dim, width, bias=bias), *_norm(norm, width), activation()]
        dim = width
    layers += [nn.Linear(dim, widths[-1], bias=last_bias), *_norm(last_norm, widths[-1])]
    return nn.Sequential(*layers)


def takes(layers: nn.Module) -> int:
    """How many numbers a head takes: those of its first linear layer. Raises ValueError where it has none.

    >>> takes(head("moco_v2", 16, out=4))
    16
    """
    return _linear(layers)[0].in_features


def gives(layers: nn.Module) -> int:
    """How many numbers a head gives: those of its last linear layer. Raises ValueError where it has none.

    >>> gives(head("moco_v2", 16, out=4))
    4
    """
    return _linear(layers)[-1].out_features


def _linear(layers: nn.Module) -> list[nn.Linear]:
    linear = [layer for layer in layers.modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ValueError(f"a head has linear layers, and {type(layers).__name__} has none: give one that has")
    return linear


def _norm(norm: Norm, width: int) -> list[nn.Module]:
    if norm == "none":
        return []
    layer = nn.BatchNorm1d(width, affine=norm != "no_affine")
    if norm == "no_bias":
        layer.register_parameter("bias", None)
    return [layer]
