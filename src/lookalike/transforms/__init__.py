"""Views of images: plans as data, parameters per sample, pixels in batches."""

from lookalike.transforms.background import RemoveBackground, salient
from lookalike.transforms.chain import (
    CenterCrop,
    Chain,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    RandomResizedCrop,
    Resize,
    Solarize,
)
from lookalike.transforms.multi_crop import dino, relicv2, swav
from lookalike.transforms.plans import (
    byol_pair,
    digits,
    eval_chain,
    moco_cifar,
    moco_v1,
    moco_v2,
    sce_multicrop,
    sce_pair,
    sce_weak_strong,
    simclr,
)
from lookalike.transforms.views import Parameters, Views

__all__ = [
    "CenterCrop",
    "Chain",
    "ColorJitter",
    "GaussianBlur",
    "Grayscale",
    "HorizontalFlip",
    "Parameters",
    "RandomResizedCrop",
    "RemoveBackground",
    "Resize",
    "Solarize",
    "Views",
    "byol_pair",
    "digits",
    "dino",
    "eval_chain",
    "moco_cifar",
    "moco_v1",
    "moco_v2",
    "relicv2",
    "salient",
    "sce_multicrop",
    "sce_pair",
    "sce_weak_strong",
    "simclr",
    "swav",
]
