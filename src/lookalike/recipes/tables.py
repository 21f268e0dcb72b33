"""The visible tables: what a name in a recipe stands for."""

from collections.abc import Callable, Mapping

from lookalike.methods.align_uniform import AlignUniform
from lookalike.methods.ascl import ASCL
from lookalike.methods.barlow_twins import BarlowTwins
from lookalike.methods.byol import BYOL
from lookalike.methods.dcl import DCL
from lookalike.methods.debiased import Debiased
from lookalike.methods.dino import DINO
from lookalike.methods.instance_classifier import InstanceClassifier
from lookalike.methods.interclr import InterCLR
from lookalike.methods.method import Method
from lookalike.methods.mochi import MoCHi
from lookalike.methods.moco import MoCo
from lookalike.methods.moco_v3 import MoCoV3
from lookalike.methods.nnclr import NNCLR
from lookalike.methods.npid import NPID
from lookalike.methods.pic import PIC
from lookalike.methods.qk_iteration import QKIteration
from lookalike.methods.relicv2 import ReLICv2
from lookalike.methods.ressl import ReSSL
from lookalike.methods.revisiting import Revisiting
from lookalike.methods.sce import SCE
from lookalike.methods.simclr import SimCLR
from lookalike.methods.simsiam import SimSiam
from lookalike.methods.supcon import SupCon
from lookalike.methods.swav import SwAV
from lookalike.methods.vicreg import VICReg
from lookalike.methods.with_auxiliary import WithAuxiliary
from lookalike.methods.with_curation import WithCuration
from lookalike.modules import CropOverlap, Jigsaw, RelativePosition, Rotation, Task
from lookalike.transforms import multi_crop, plans

METHODS: Mapping[str, type[Method]] = {
    "simclr": SimCLR,
    "moco": MoCo,
    "byol": BYOL,
    "sce": SCE,
    "simsiam": SimSiam,
    "barlow_twins": BarlowTwins,
    "vicreg": VICReg,
    "moco_v3": MoCoV3,
    "dcl": DCL,
    "debiased": Debiased,
    "nnclr": NNCLR,
    "ressl": ReSSL,
    "supcon": SupCon,
    "npid": NPID,
    "ascl": ASCL,
    "mochi": MoCHi,
    "swav": SwAV,
    "dino": DINO,
    "relicv2": ReLICv2,
    "pic": PIC,
    "instance_classifier": InstanceClassifier,
    "interclr": InterCLR,
    "qk_iteration": QKIteration,
    "revisiting": Revisiting,
    "align_uniform": AlignUniform,
}

# the argument that fills a method's derived bank with features of the backbone, instead of what its head makes of them
FEATURES: Mapping[str, str] = {"qk_iteration": "live_head"}

TASKS: Mapping[str, type[Task]] = {
    "rotation": Rotation,
    "jigsaw": Jigsaw,
    "relative_position": RelativePosition,
    "crop_overlap": CropOverlap,
}

# what may stand in the section `with`: around any method
WRAPPERS: Mapping[str, type[Method]] = {**dict.fromkeys(TASKS, WithAuxiliary), "curation": WithCuration}

VIEWS: Mapping[str, Callable] = {
    "simclr": plans.simclr,
    "moco_v1": plans.moco_v1,
    "moco_v2": plans.moco_v2,
    "moco_v3": plans.moco_v3,
    "moco_cifar": plans.moco_cifar,
    "byol": plans.byol_pair,
    "sce_weak_strong": plans.sce_weak_strong,
    "sce_pair": plans.sce_pair,
    "sce_multicrop": plans.sce_multicrop,
    "simsiam": plans.simsiam,
    "vicreg_cifar": plans.vicreg_cifar,
    "npid": plans.npid,
    "npid_cifar": plans.npid_cifar,
    "stl10": plans.stl10,
    "supcon": plans.supcon,
    "ressl_multicrop": plans.ressl_multicrop,
    "pic": plans.pic,
    "pic_multicrop": plans.pic_multicrop,
    "instance_classifier": plans.instance_classifier,
    "interclr": plans.interclr,
    "interclr_cifar": plans.interclr_cifar,
    "digits": plans.digits,
    "copy_edits": plans.copy_edits,
    "swav": multi_crop.swav,
    "dino": multi_crop.dino,
    "relicv2": multi_crop.relicv2,
    "revisiting": multi_crop.revisiting,
}
