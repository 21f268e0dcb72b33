"""The visible tables: what a name in a recipe stands for."""

from collections.abc import Callable, Mapping

from lookalike.methods.byol import BYOL
from lookalike.methods.dino import DINO
from lookalike.methods.method import Method
from lookalike.methods.moco import MoCo
from lookalike.methods.relicv2 import ReLICv2
from lookalike.methods.sce import SCE
from lookalike.methods.simclr import SimCLR
from lookalike.methods.swav import SwAV
from lookalike.transforms import multi_crop, plans

METHODS: Mapping[str, type[Method]] = {
    "simclr": SimCLR,
    "moco": MoCo,
    "byol": BYOL,
    "sce": SCE,
    "swav": SwAV,
    "dino": DINO,
    "relicv2": ReLICv2,
}

VIEWS: Mapping[str, Callable] = {
    "simclr": plans.simclr,
    "moco_v1": plans.moco_v1,
    "moco_v2": plans.moco_v2,
    "moco_cifar": plans.moco_cifar,
    "byol": plans.byol_pair,
    "sce_weak_strong": plans.sce_weak_strong,
    "sce_pair": plans.sce_pair,
    "sce_multicrop": plans.sce_multicrop,
    "digits": plans.digits,
    "swav": multi_crop.swav,
    "dino": multi_crop.dino,
    "relicv2": multi_crop.relicv2,
}
