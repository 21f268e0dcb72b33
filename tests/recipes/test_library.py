"""The library: each recipe says what it is, is complete, holds the numbers of its paper, and its smoke twin trains."""

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

from lookalike.functional import random
from lookalike.functional.schedules import Clock
from lookalike.modules import MomentumEncoder
from lookalike.recipes import (
    METHODS,
    Recipe,
    RecipeError,
    build_encoder,
    build_method,
    build_optimization,
    build_views,
    header,
    load,
    method_name,
    names,
    text,
    view_size,
)
from lookalike.recipes.build_parts import build_heads
from lookalike.recipes.parts import Head
from lookalike.training.checkpoint import Checkpoints
from lookalike.training.journal import Journal
from lookalike.training.loop import Training, train
from lookalike.training.metrics import Metrics
from lookalike.training.progress import Line
from lookalike.training.runtime import Runtime
from lookalike.training.saver import Saver
from lookalike.training.streams import Streams
from lookalike.transforms import CenterCrop, Resize
from methods.records import records

TWINS = [name for name in names() if name.endswith("_smoke")]
QUICK = [f"{method}_small_smoke" for method in METHODS] + ["moco_v3_vit_imagenet_smoke"]  # the others with -m slow
WHOLE = [name for name in names() if f"{name}_smoke" in TWINS]
IMAGES, STEPS = 64, 8

# recipe: epochs, batch, view size, temperature, queue, momentum at start and end
OBJECTIVES = {
    "simclr_imagenet": (100, 4096, 224, 0.1, None, None),
    "simclr_cifar10": (1000, 512, 32, 0.5, None, None),
    "simclr_rotation_cifar10": (200, 512, 32, 0.5, None, None),
    "simclr_curation_cifar10": (1000, 512, 32, 0.5, None, None),
    "simclr_small": (200, 256, 32, 0.2, None, None),
    "simclr_photos": (100, 256, 224, 0.1, None, None),
    "moco_v1_imagenet": (200, 256, 224, 0.07, 65536, (0.999, 0.999)),
    "moco_v2_imagenet": (200, 256, 224, 0.2, 65536, (0.999, 0.999)),
    "moco_cifar10": (200, 512, 32, 0.1, 4096, (0.99, 0.99)),
    "moco_small": (200, 256, 32, 0.1, 4096, (0.99, 0.99)),
    "moco_photos": (100, 256, 224, 0.2, 16384, (0.99, 0.99)),
    "byol_imagenet": (1000, 4096, 224, None, None, (0.996, 1.0)),
    "byol_imagenette": (1000, 256, 128, None, None, (0.996, 1.0)),
    "byol_cifar10": (1000, 256, 32, None, None, (0.99, 1.0)),
    "byol_small": (200, 256, 32, None, None, (0.99, 1.0)),
    "byol_photos": (100, 256, 224, None, None, (0.99, 1.0)),
    "sce_imagenet": (200, 4096, 224, 0.1, 65536, (0.99, 1.0)),
    "sce_imagenet_multicrop": (200, 4096, 224, 0.1, 65536, (0.99, 1.0)),
    "sce_cifar10": (200, 256, 32, 0.1, 4096, (0.99, 0.99)),
    "sce_small": (200, 256, 32, 0.1, 4096, (0.99, 0.99)),
    "sce_photos": (100, 256, 224, 0.1, 16384, (0.99, 1.0)),
    "swav_imagenet": (400, 4096, 224, 0.1, 0, None),
    "swav_imagenet_256": (200, 256, 224, 0.1, 3840, None),
    "swav_imagenet_2x224": (400, 4096, 224, 0.1, 0, None),
    "swav_rotation_imagenet": (50, 1024, 224, 0.1, 0, None),
    "swav_small": (200, 256, 32, 0.1, 3840, None),
    "swav_photos": (100, 256, 224, 0.1, 3840, None),
    "dino_imagenet": (100, 512, 224, 0.1, None, (0.996, 1.0)),
    "dino_imagenet_300": (300, 1024, 224, 0.1, None, (0.996, 1.0)),
    "dino_imagenet_resnet50": (100, 512, 224, 0.1, None, (0.996, 1.0)),
    "dino_small": (200, 256, 32, 0.1, None, (0.99, 1.0)),
    "dino_photos": (100, 256, 224, 0.1, None, (0.9995, 1.0)),
    "relicv2_imagenet": (1000, 4096, 224, 0.2, None, (0.996, 1.0)),
    "relicv2_small": (200, 256, 32, 0.2, None, (0.99, 1.0)),
    "relicv2_photos": (100, 256, 224, 0.2, None, (0.99, 1.0)),
    "simsiam_imagenet": (100, 512, 224, None, None, None),
    "simsiam_cifar10": (800, 512, 32, None, None, None),
    "simsiam_small": (200, 256, 32, None, None, None),
    "simsiam_photos": (100, 256, 224, None, None, None),
    "barlow_twins_imagenet": (1000, 2048, 224, None, None, None),
    "barlow_twins_cifar10": (1000, 256, 32, None, None, None),
    "barlow_twins_small": (200, 256, 32, None, None, None),
    "barlow_twins_photos": (100, 256, 224, None, None, None),
    "barlow_twins_hsic_cifar10": (1000, 128, 32, None, None, None),
    "vicreg_imagenet": (1000, 2048, 224, None, None, None),
    "vicreg_cifar10": (1000, 256, 32, None, None, None),
    "vicreg_small": (200, 256, 32, None, None, None),
    "vicreg_photos": (100, 256, 224, None, None, None),
    "moco_v3_imagenet": (1000, 4096, 224, 1.0, None, (0.996, 1.0)),
    "moco_v3_vit_imagenet": (300, 4096, 224, 0.2, None, (0.99, 1.0)),
    "moco_v3_cifar10": (1000, 256, 32, 0.2, None, (0.99, 1.0)),
    "moco_v3_small": (200, 256, 32, 0.2, None, (0.99, 1.0)),
    "moco_v3_photos": (100, 256, 224, 1.0, None, (0.99, 1.0)),
    "dcl_imagenet": (100, 256, 224, 0.1, None, None),
    "dcl_cifar10": (100, 256, 32, 0.1, None, None),
    "dcl_small": (200, 256, 32, 0.1, None, None),
    "dcl_photos": (100, 256, 224, 0.1, None, None),
    "debiased_stl10": (400, 256, 32, 0.5, None, None),
    "debiased_small": (200, 256, 32, 0.5, None, None),
    "debiased_photos": (100, 256, 224, 0.2, None, None),
    "nnclr_imagenet": (1000, 4096, 224, 0.1, 98304, None),
    "nnclr_cifar10": (1000, 256, 32, 0.2, 25000, None),
    "nnclr_small": (200, 256, 32, 0.2, 16384, None),
    "nnclr_photos": (100, 256, 224, 0.1, 32768, None),
    "supcon_cifar10": (1000, 1024, 32, 0.1, None, None),
    "supcon_small": (200, 256, 32, 0.1, None, None),
    "supcon_photos": (100, 256, 224, 0.1, None, None),
    "ascl_imagenet": (200, 256, 224, 0.1, 65536, (0.999, 0.999)),
    "ascl_cifar10": (200, 256, 32, 0.1, 4096, (0.99, 0.99)),
    "ascl_byol_cifar10": (200, 256, 32, 0.1, None, (0.99, 0.99)),
    "ascl_small": (200, 256, 32, 0.1, 4096, (0.99, 0.99)),
    "ascl_photos": (100, 256, 224, 0.1, 16384, (0.99, 0.99)),
    "mochi_imagenet": (200, 256, 224, 0.2, 65536, (0.999, 0.999)),
    "mochi_small": (200, 256, 32, 0.1, 4096, (0.99, 0.99)),
    "mochi_photos": (100, 256, 224, 0.2, 16384, (0.99, 0.99)),
    "interclr_imagenet": (200, 256, 224, 0.2, 65536, (0.999, 0.999)),
    "interclr_small": (200, 256, 32, 0.1, 4096, (0.99, 0.99)),
    "interclr_photos": (100, 256, 224, 0.2, 16384, (0.99, 0.99)),
    "npid_imagenet": (200, 256, 224, 0.07, None, None),
    "npid_cifar10": (200, 128, 32, 0.1, None, None),
    "npid_small": (200, 256, 32, 0.1, None, None),
    "npid_photos": (100, 256, 224, 0.07, None, None),
    "ressl_imagenet": (200, 256, 224, 0.1, 131072, (0.999, 0.999)),
    "ressl_imagenet_multicrop": (200, 256, 224, 0.1, 131072, (0.999, 0.999)),
    "ressl_small": (200, 256, 32, 0.1, 4096, (0.99, 0.99)),
    "ressl_photos": (100, 256, 224, 0.1, 16384, (0.99, 0.99)),
    "pic_imagenet": (200, 256, 160, 0.2, None, None),
    "pic_small": (200, 256, 32, 0.2, None, None),
    "pic_photos": (100, 256, 224, 0.2, None, None),
    "instance_classifier_imagenet": (1000, 4096, 224, 0.15, None, None),
    "instance_classifier_small": (200, 256, 32, 0.15, None, None),
    "instance_classifier_photos": (100, 256, 224, 0.15, None, None),
    "qk_iteration_disc21": (20, 256, 224, 0.05, None, None),
    "qk_iteration_small": (200, 256, 32, 0.05, None, None),
    "qk_iteration_photos": (100, 256, 224, 0.05, None, None),
    "qk_copy_photos": (100, 256, 224, 0.05, None, None),
    "qk_copy_cifar10": (100, 256, 32, 0.05, None, None),
    "simclr_copy_photos": (70, 256, 224, 0.05, None, None),
    "simclr_copy_cifar10": (70, 256, 32, 0.05, None, None),
    "revisiting_coco": (200, 256, 160, 0.2, 65536, (0.995, 0.995)),
    "revisiting_coco_800": (800, 256, 160, 0.2, 65536, (0.995, 0.995)),
    "revisiting_small": (200, 256, 32, 0.2, 4096, (0.99, 0.99)),
    "revisiting_photos": (100, 256, 160, 0.2, 16384, (0.99, 0.99)),
}
# recipe: rule, rate at the recipe's batch, weight decay, what is free of it, epochs of warm-up
OPTIMIZERS = {
    "simclr_imagenet": ("lars", 4.8, 1e-6, "bias_and_norm", 10),
    "simclr_cifar10": ("lars", 2.0, 1e-4, "bias_and_norm", 10),
    "simclr_rotation_cifar10": ("lars", 2.0, 1e-4, "bias_and_norm", 10),
    "simclr_curation_cifar10": ("lars", 2.0, 1e-4, "bias_and_norm", 10),
    "simclr_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "simclr_photos": ("lars", 1.2, 1e-6, "bias_and_norm", 10),
    "moco_v1_imagenet": ("sgd", 0.03, 1e-4, "nothing", 0),
    "moco_v2_imagenet": ("sgd", 0.03, 1e-4, "nothing", 0),
    "moco_cifar10": ("sgd", 0.06, 5e-4, "nothing", 0),
    "moco_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "moco_photos": ("sgd", 0.03, 1e-4, "nothing", 5),
    "byol_imagenet": ("lars", 3.2, 1.5e-6, "bias_and_norm", 10),
    "byol_imagenette": ("lars", 2.0, 1e-6, "bias_and_norm", 10),
    "byol_cifar10": ("lars", 2.0, 1e-5, "bias_and_norm", 10),
    "byol_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "byol_photos": ("lars", 0.45, 1e-6, "bias_and_norm", 10),
    "sce_imagenet": ("lars", 4.8, 1e-6, "one_dimensional", 10),
    "sce_imagenet_multicrop": ("lars", 4.8, 1e-6, "one_dimensional", 10),
    "sce_cifar10": ("sgd", 0.06, 5e-4, "nothing", 5),
    "sce_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "sce_photos": ("sgd", 0.05, 1e-4, "nothing", 5),
    "swav_imagenet": ("larc", 4.8, 1e-6, "nothing", 10),
    "swav_imagenet_256": ("larc", 0.6, 1e-6, "nothing", 0),
    "swav_imagenet_2x224": ("larc", 4.8, 1e-6, "nothing", 10),
    "swav_rotation_imagenet": ("larc", 1.2, 1e-6, "one_dimensional", 10),
    "swav_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "swav_photos": ("larc", 0.6, 1e-6, "nothing", 0),
    "dino_imagenet": ("adamw", 1e-3, 0.04, "one_dimensional", 10),
    "dino_imagenet_300": ("adamw", 2e-3, 0.04, "one_dimensional", 10),
    "dino_imagenet_resnet50": ("sgd", 0.06, 1e-4, "one_dimensional", 10),
    "dino_small": ("sgd", 0.06, 5e-4, "one_dimensional", 10),
    "dino_photos": ("sgd", 0.03, 1e-4, "one_dimensional", 10),
    "relicv2_imagenet": ("lars", 4.8, 1e-6, "bias_and_norm", 10),
    "relicv2_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "relicv2_photos": ("lars", 0.45, 1e-6, "bias_and_norm", 10),
    "simsiam_imagenet": ("sgd", 0.1, 1e-4, "nothing", 0),
    "simsiam_cifar10": ("sgd", 0.06, 5e-4, "nothing", 0),
    "simsiam_small": ("sgd", 0.06, 5e-4, "nothing", 0),
    "simsiam_photos": ("sgd", 0.05, 1e-4, "nothing", 0),
    "barlow_twins_imagenet": ("lars", 1.6, 1e-6, "one_dimensional", 10),
    "barlow_twins_cifar10": ("lars", 0.4, 1e-4, "one_dimensional", 10),
    "barlow_twins_small": ("lars", 0.4, 1e-4, "one_dimensional", 10),
    "barlow_twins_photos": ("lars", 0.4, 1e-6, "one_dimensional", 10),
    "barlow_twins_hsic_cifar10": ("adam", 1e-3, 1e-6, "nothing", 0),
    "vicreg_imagenet": ("lars", 1.6, 1e-6, "one_dimensional", 10),
    "vicreg_cifar10": ("lars", 0.3, 1e-4, "one_dimensional", 10),
    "vicreg_small": ("lars", 0.3, 1e-4, "one_dimensional", 10),
    "vicreg_photos": ("lars", 0.3, 1e-6, "one_dimensional", 10),
    "moco_v3_imagenet": ("lars", 4.8, 1.5e-6, "one_dimensional", 10),
    "moco_v3_vit_imagenet": ("adamw", 2.4e-3, 0.1, "nothing", 40),
    "moco_v3_cifar10": ("lars", 0.6, 1e-6, "one_dimensional", 10),
    "moco_v3_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "moco_v3_photos": ("lars", 0.6, 1e-6, "one_dimensional", 10),
    "dcl_imagenet": ("lars", 1.2, 1e-6, "bias_and_norm", 10),
    "dcl_cifar10": ("adam", 1e-3, 1e-6, "nothing", 0),
    "dcl_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "dcl_photos": ("lars", 1.2, 1e-6, "bias_and_norm", 10),
    "debiased_stl10": ("adam", 1e-3, 1e-6, "nothing", 0),
    "debiased_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "debiased_photos": ("lars", 1.2, 1e-6, "bias_and_norm", 10),
    "nnclr_imagenet": ("lars", 4.8, 1e-6, "one_dimensional", 10),
    "nnclr_cifar10": ("lars", 0.6, 1e-5, "one_dimensional", 10),
    "nnclr_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "nnclr_photos": ("lars", 0.45, 1e-6, "one_dimensional", 10),
    "supcon_cifar10": ("sgd", 0.5, 1e-4, "nothing", 10),
    "supcon_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "supcon_photos": ("sgd", 0.1, 1e-4, "nothing", 10),
    "ascl_imagenet": ("sgd", 0.03, 1e-4, "nothing", 0),
    "ascl_cifar10": ("sgd", 0.03, 5e-4, "nothing", 5),
    "ascl_byol_cifar10": ("sgd", 0.03, 5e-4, "nothing", 5),
    "ascl_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "ascl_photos": ("sgd", 0.03, 1e-4, "nothing", 5),
    "mochi_imagenet": ("sgd", 0.03, 1e-4, "nothing", 0),
    "mochi_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "mochi_photos": ("sgd", 0.03, 1e-4, "nothing", 5),
    "interclr_imagenet": ("sgd", 0.03, 1e-4, "nothing", 0),
    "interclr_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "interclr_photos": ("sgd", 0.03, 1e-4, "nothing", 5),
    "npid_imagenet": ("sgd", 0.03, 1e-4, "nothing", 0),
    "npid_cifar10": ("sgd", 0.03, 5e-4, "nothing", 0),
    "npid_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "npid_photos": ("sgd", 0.03, 1e-4, "nothing", 5),
    "ressl_imagenet": ("sgd", 0.05, 1e-4, "bias_and_norm", 5),
    "ressl_imagenet_multicrop": ("sgd", 0.05, 1e-4, "bias_and_norm", 5),
    "ressl_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "ressl_photos": ("sgd", 0.05, 1e-4, "bias_and_norm", 5),
    "pic_imagenet": ("sgd", 0.03, 1e-4, "nothing", 5),
    "pic_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "pic_photos": ("sgd", 0.03, 1e-4, "nothing", 5),
    "instance_classifier_imagenet": ("sgd", 0.48, 1e-4, "nothing", 10),
    "instance_classifier_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "instance_classifier_photos": ("sgd", 0.03, 1e-4, "nothing", 5),
    "qk_iteration_disc21": ("sgd", 0.03, 1e-4, "nothing", 1),
    "qk_iteration_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "qk_iteration_photos": ("sgd", 0.03, 1e-4, "nothing", 5),
    "qk_copy_photos": ("sgd", 0.03, 1e-4, "nothing", 5),
    "qk_copy_cifar10": ("sgd", 0.06, 5e-4, "nothing", 5),
    "simclr_copy_photos": ("sgd", 0.03, 1e-4, "nothing", 5),
    "simclr_copy_cifar10": ("sgd", 0.06, 5e-4, "nothing", 5),
    "revisiting_coco": ("sgd", 0.3, 1e-4, "nothing", 0),
    "revisiting_coco_800": ("sgd", 0.3, 1e-4, "nothing", 0),
    "revisiting_small": ("sgd", 0.06, 5e-4, "nothing", 10),
    "revisiting_photos": ("sgd", 0.1, 1e-4, "nothing", 5),
}
# recipe: BatchNorm statistics of encoder and momentum encoder
STATISTICS = {
    "moco_v1_imagenet": ("local", "same"),
    "moco_v2_imagenet": ("local", "same"),
    "moco_cifar10": ("split:8", "same"),
    "moco_small": ("split:8", "same"),
    "moco_photos": ("split:8", "same"),
    "sce_cifar10": ("global", "split:8"),
    "sce_small": ("global", "split:8"),
    "sce_photos": ("global", "split:8"),
    "ascl_imagenet": ("local", "same"),
    "ascl_cifar10": ("split:8", "same"),
    "ascl_byol_cifar10": ("split:8", "same"),
    "ascl_small": ("split:8", "same"),
    "ascl_photos": ("split:8", "same"),
    "mochi_imagenet": ("local", "same"),
    "mochi_small": ("split:8", "same"),
    "mochi_photos": ("split:8", "same"),
    "interclr_imagenet": ("local", "same"),
    "interclr_small": ("split:8", "same"),
    "interclr_photos": ("split:8", "same"),
    "ressl_imagenet": ("local", "same"),
    "ressl_imagenet_multicrop": ("local", "same"),
    "ressl_small": ("split:8", "same"),
    "ressl_photos": ("split:8", "same"),
    "revisiting_coco": ("local", "same"),
    "revisiting_coco_800": ("local", "same"),
    "revisiting_small": ("split:8", "same"),
    "revisiting_photos": ("split:8", "same"),
}
# residual branches start at zero: google-research/simclr, and facebookresearch's simsiam, barlowtwins, vicreg
ZERO_INIT = {"simclr_imagenet", "simclr_cifar10", "simclr_photos", "simsiam_imagenet", "simsiam_photos"}
ZERO_INIT |= {"simclr_rotation_cifar10", "simclr_curation_cifar10"}
ZERO_INIT |= {"barlow_twins_imagenet", "barlow_twins_photos"}
ZERO_INIT |= {"vicreg_imagenet", "vicreg_photos", "pic_imagenet"}
# recipe: widths of the layers of each head, from the features on
HEADS = {
    "simclr_imagenet": {"projector": [2048, 2048, 128]},
    "simclr_cifar10": {"projector": [512, 512, 128]},
    "moco_v1_imagenet": {"projector": [2048, 128]},
    "moco_v2_imagenet": {"projector": [2048, 2048, 128]},
    "moco_cifar10": {"projector": [512, 128]},
    "byol_imagenet": {"projector": [2048, 4096, 256], "predictor": [256, 4096, 256]},
    "byol_imagenette": {"projector": [512, 4096, 256], "predictor": [256, 4096, 256]},
    "byol_cifar10": {"projector": [512, 4096, 256], "predictor": [256, 4096, 256]},
    "sce_imagenet": {"projector": [2048, 2048, 2048, 256], "predictor": [256, 4096, 256]},
    "sce_imagenet_multicrop": {"projector": [2048, 4096, 4096, 256], "predictor": [256, 4096, 256]},
    "sce_cifar10": {"projector": [512, 512, 128]},
    "swav_imagenet": {"projector": [2048, 2048, 128]},
    "swav_imagenet_256": {"projector": [2048, 2048, 128]},
    "dino_imagenet": {"projector": [384, 2048, 2048, 256]},
    "dino_imagenet_resnet50": {"projector": [2048, 2048, 2048, 256]},
    "simsiam_imagenet": {"projector": [2048, 2048, 2048, 2048], "predictor": [2048, 512, 2048]},
    "barlow_twins_imagenet": {"projector": [2048, 8192, 8192, 8192]},
    "barlow_twins_cifar10": {"projector": [512, 2048, 2048, 2048]},
    "barlow_twins_hsic_cifar10": {"projector": [2048, 512, 128]},
    "vicreg_imagenet": {"projector": [2048, 8192, 8192, 8192]},
    "vicreg_cifar10": {"projector": [512, 2048, 2048, 2048]},
    "moco_v3_imagenet": {"projector": [2048, 4096, 256], "predictor": [256, 4096, 256]},
    "moco_v3_vit_imagenet": {"projector": [384, 4096, 4096, 256], "predictor": [256, 4096, 256]},
    "moco_v3_cifar10": {"projector": [512, 4096, 256], "predictor": [256, 4096, 256]},
    "dcl_imagenet": {"projector": [2048, 2048, 128]},
    "dcl_cifar10": {"projector": [512, 512, 128]},
    "debiased_stl10": {"projector": [2048, 512, 128]},
    "nnclr_imagenet": {"projector": [2048, 2048, 2048, 256], "predictor": [256, 4096, 256]},
    "nnclr_cifar10": {"projector": [512, 2048, 2048, 256], "predictor": [256, 4096, 256]},
    "simsiam_cifar10": {"projector": [512, 2048, 2048], "predictor": [2048, 512, 2048]},
    "supcon_cifar10": {"projector": [2048, 2048, 128]},
    "ascl_imagenet": {"projector": [2048, 2048, 128]},
    "ascl_cifar10": {"projector": [512, 2048, 128]},
    "ascl_byol_cifar10": {"projector": [512, 2048, 128], "predictor": [128, 512, 128]},
    "interclr_imagenet": {"projector": [2048, 2048, 128]},
    "mochi_imagenet": {"projector": [2048, 2048, 128]},
    "npid_imagenet": {"projector": [2048, 128]},
    "npid_cifar10": {"projector": [512, 128]},
    "ressl_imagenet": {"projector": [2048, 4096, 512]},
    "ressl_imagenet_multicrop": {"projector": [2048, 4096, 512]},
    "pic_imagenet": {"projector": [2048, 2048, 128]},
    "revisiting_coco": {"projector": [2048, 2048, 128]},
    "revisiting_coco_800": {"projector": [2048, 2048, 128]},
}
for name, told in [pair for record in records().values() for pair in record.recipes.items()]:
    OBJECTIVES[name] = (told.epochs, told.batch, told.size, told.temperature, told.queue, told.momentum)
    OPTIMIZERS[name] = told.optimizer
    STATISTICS |= {name: told.statistics} if told.statistics != ("global", "same") else {}
    ZERO_INIT |= {name} if told.zero_init_last else set()
    HEADS |= {name: told.heads} if told.heads else {}


class Noise:
    """Images of random pixels, all of one size."""

    def __init__(self) -> None:
        shape = (IMAGES, 3, 36, 40)
        self.pixels = torch.randint(256, shape, generator=random.generator("noise"), dtype=torch.uint8)

    def __len__(self) -> int:
        return IMAGES

    def read(self, index: int) -> Tensor:
        return self.pixels[index]

    def name(self, index: int) -> str:
        return str(index)


def refuse(note: str) -> None:
    """No recipe of the library needs a note, but those for eight GPUs, of which there is one process here."""
    if note.startswith("method.shuffle has no effect on one process"):
        return
    raise AssertionError(f"unexpected note: {note}")


def built(recipe: Recipe, images: int = IMAGES):
    encoder = build_encoder(recipe.backbone, channels=3, size=view_size(recipe), seed=recipe.seed)
    return build_method(recipe, encoder, images, refuse)


def widths(layers: nn.Module) -> list[int]:
    linear = [layer for layer in layers.modules() if isinstance(layer, nn.Linear)]
    return [linear[0].in_features, *(layer.out_features for layer in linear)]


@pytest.mark.parametrize("name", names())
def test_a_recipe_says_what_it_is(name):
    said = header(name)
    assert {"paper", "command", "hardware", "hours", "claim", "choices"} <= said.keys()
    command = "lookalike demo" if name == "demo" else f"lookalike pretrain DATA --recipe {name}"
    assert said["command"].endswith(command)
    assert "(" in said["claim"] or said["claim"] == "none yet"  # the source of a number stands behind it
    assert max(map(len, text(name).splitlines())) <= 120


def test_every_recipe_but_those_of_demo_and_benchmarks_has_a_smoke_twin():
    """The demo and the benchmarks are small themselves."""
    assert set(WHOLE) == set(OBJECTIVES)
    assert {name for name in names() if not name.endswith(("_smoke", "_bench", "demo"))} == set(WHOLE)
    assert [method for method in METHODS if not {f"{method}_small", f"{method}_photos"} <= set(names())] == []


@pytest.mark.parametrize("name", WHOLE)
def test_a_recipe_is_complete(name):
    """Nothing that a paper states is left to a default."""
    raw, recipe = yaml.safe_load(text(name)), load(name)
    assert "from" not in raw
    for section in ("method", "views"):
        assert set(raw[section]) | {"predictor"} == set(recipe.model_dump()[section]) | {"predictor"}
    assert {"epochs", "batch", "seed", "kind"} <= raw.keys()
    assert {"name", "stem", "statistics", "zero_init_last"} <= raw["backbone"].keys()
    assert {"kind", "rate", "scaling", "momentum", "weight_decay", "no_decay", "warmup", "shape"} <= raw[
        "optimizer"
    ].keys()
    assert ("lars_rate" in raw["optimizer"]) == (recipe.optimizer.kind == "lars")


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_changes_sizes_only(name):
    raw = yaml.safe_load(text(name))
    whole = name.removesuffix("_smoke")
    assert raw["from"] == whole
    around = {"with"} if load(whole).around is not None else set[str]()
    assert (
        set(raw)
        <= {"from", "method", "views", "backbone", "optimizer", "epochs", "batch", "runtime", "saving"} | around
    )
    assert all(section.keys() == {"warmup"} for section in raw.get("with", {}).values())  # as that of a method
    sizes = {
        "projector",
        "predictor",
        "queue",
        "prototypes",
        "hardest",
        "negatives",
        "window",
        "shift",
        "clusters",
        "neighbors",
    }
    assert set(raw["method"]) <= sizes | {"queue_epoch", "frozen_steps", "sampler", "warmup"}
    assert raw["views"].keys() == {"size"}
    tiny = "vit_tiny_patch16_224" if load(whole).backbone.fixed_patches else "resnet18_quarter"
    assert raw["backbone"] == {"name": tiny}
    assert set(raw.get("optimizer", {})) <= {"warmup", "milestones"}
    assert method_name(load(name)) == method_name(load(whole))
    assert load(name).runtime.precision == "fp32"


@pytest.mark.parametrize("name", WHOLE)
def test_the_objective_has_its_numbers(name):
    recipe, (epochs, batch, size, temperature, queue, momentum) = load(name), OBJECTIVES[name]
    method = recipe.model_dump()["method"]
    follow = method.get("momentum")
    assert (recipe.epochs, recipe.batch, view_size(recipe)) == (epochs, batch, size)
    assert (method.get("temperature"), method.get("queue")) == (temperature, queue)
    assert (follow and (follow["start"], follow["end"])) == momentum
    statistics = recipe.backbone.statistics, recipe.backbone.momentum_statistics
    assert statistics == STATISTICS.get(name, ("global", "same"))
    assert method.get("shuffle", False) == (name in STATISTICS and name != "ascl_byol_cifar10")
    assert recipe.backbone.zero_init_last == (name in ZERO_INIT)


@pytest.mark.parametrize("name", WHOLE)
def test_the_optimizer_has_its_numbers(name):
    rule, rate, decay, free, warmup = OPTIMIZERS[name]
    optimization = build_optimization(load(name), refuse)
    assert (optimization.name, optimization.no_decay, optimization.momentum) == (rule, free, 0.9)
    first = optimization.weight_decay(at(0, 1)) if callable(optimization.weight_decay) else optimization.weight_decay
    assert (optimization.rate, first) == (pytest.approx(rate), pytest.approx(decay))
    inside = rule == "lars" and name.startswith("simclr")  # google-research/simclr; all others outside
    assert optimization.lars_rate == ("inside" if inside else "outside")
    epochs = load(name).epochs
    if warmup:
        start = load(name).optimizer.start
        assert optimization.schedule(at(warmup / 2, epochs)) == pytest.approx((start + 1) / 2)
    assert optimization.schedule(at(warmup, epochs)) == pytest.approx(1.0)


def at(epoch: float, epochs: float) -> Clock:
    return Clock(step=round(1000 * epoch), steps=round(1000 * epochs), epoch=float(epoch), epochs=float(epochs))


def test_moco_v1_falls_in_steps_and_v2_by_a_cosine_held_within_each_epoch():
    first, second = (build_optimization(load(name), refuse) for name in ("moco_v1_imagenet", "moco_v2_imagenet"))
    rates = [first.rate * first.schedule(at(epoch, 200)) for epoch in (119.9, 120, 159.9, 160, 199)]
    assert rates == pytest.approx([0.03, 0.003, 0.003, 0.0003, 0.0003])
    for epoch in (0, 50.0, 50.99, 199.5):
        cosine = 0.03 * (1 + math.cos(math.pi * int(epoch) / 200)) / 2
        assert second.rate * second.schedule(at(epoch, 200)) == pytest.approx(cosine)


@pytest.mark.parametrize("name", [name for name in WHOLE if name.startswith("ascl")])
def test_ascl_has_the_temperature_and_the_one_neighbor_of_its_code(name):
    method = load(name).model_dump()["method"]
    assert (method["momentum_temperature"], method["neighbors"], method["rule"]) == (0.05, 1, "soft")
    assert (method["queue"] is None) == (method["predictor"] is not None) == ("byol" in name)


def test_interclr_has_the_clusters_negatives_and_margins_of_its_configuration():
    """mmselfsup at 920deff: configs/selfsup/_base_/models/interclr-moco.py and datasets/imagenet_interclr-moco.py."""
    recipe = load("interclr_imagenet")
    method = recipe.model_dump()["method"]
    assert method["clusters"] == {"count": 10000, "smallest": 20, "recenter": 10, "again": None}
    assert method["sampler"] == {"rule": "semi_hard", "count": 16384, "pool": 128000}
    assert method["intra_weight"] == 0.75
    assert (method["intra_margin"]["size"], method["inter_margin"]["size"]) == (0, -0.5)
    assert build_views(recipe).plan["plain"] == (Resize(256), CenterCrop(224))
    assert load("interclr_imagenet", ["method.inter_margin=0.3"]).model_dump()["method"]["inter_margin"] == {
        "size": 0.3,
        "measure": "cosine",
    }


def test_npid_tells_few_images_apart_on_imagenet_and_all_on_cifar():
    large, small = (load(name).model_dump()["method"] for name in ("npid_imagenet", "npid_cifar10"))
    assert (large["objective"], large["negatives"], large["bank_momentum"]) == ("nce", 4096, 0.5)
    assert (small["objective"], small["negatives"], small["bank_momentum"]) == ("cross_entropy", None, 0.5)
    for name in ("npid_imagenet", "npid_cifar10"):
        optimization = build_optimization(load(name), refuse)
        rates = [optimization.rate * optimization.schedule(at(epoch, 200)) for epoch in (119.9, 120, 159.9, 160)]
        assert rates == pytest.approx([0.03, 0.003, 0.003, 0.0003])


@pytest.mark.parametrize("name", [name for name in WHOLE if name.startswith("ressl")])
def test_ressl_has_the_temperatures_and_crops_of_its_code(name):
    method = load(name).model_dump()["method"]
    assert (method["momentum_temperature"], method["predictor"], method["warmup"]) == (0.04, None, 0.0)
    crops = tuple(f"strong/{number}" for number in range(1, 6))
    assert method["queries"] == (crops if name.endswith("multicrop") else ("strong",))


def test_sce_weighs_relations_as_its_code_does():
    for name in ("sce_imagenet", "sce_imagenet_multicrop", "sce_cifar10"):
        method = load(name).model_dump()["method"]
        assert method["coefficient"] == 0.5
        assert method["mask_positive"] == "paper"
        assert method["momentum_temperature"] == (0.05 if name == "sce_cifar10" else 0.07)
    crops = load("sce_imagenet_multicrop").model_dump()["method"]
    assert crops["keys"] == ("global/1", "global/2")
    assert crops["queries"] == (*crops["keys"], "local/1", "local/2", "local/3", "local/4")


def test_moco_v3s_transformer_crops_down_to_8_percent_and_its_patches_never_learn():
    """facebookresearch/moco-v3, CONFIG.md and main_moco.py: --stop-grad-conv1, and the default of --crop-min."""
    vit, resnet = load("moco_v3_vit_imagenet"), load("moco_v3_imagenet")
    assert (vit.backbone.fixed_patches, resnet.backbone.fixed_patches) == (True, False)
    lows = [chain[0].scale[0] for recipe in (vit, resnet) for chain in build_views(recipe).plan.values()]
    assert lows == [0.08, 0.08, 0.2, 0.2]
    with pytest.raises(RecipeError, match="fixed patches are for vision transformers, and ResNet is none"):
        built(load("moco_v3_small_smoke", ["backbone.fixed_patches=true"]))


def test_the_variant_of_barlow_twins_is_that_of_its_code():
    """yaohungt/Barlow-Twins-HSIC, README and main.py: --corr_neg_one, lambda 1 / 128, Adam with one rate for all."""
    recipe = load("barlow_twins_hsic_cifar10")
    method = recipe.model_dump()["method"]
    assert (method["variant"], method["redundancy"]) == ("hsic", 1 / 128)
    assert (method["scale"], method["bias_rate"]) == (1.0, 1.0)
    optimization = build_optimization(recipe, refuse)
    assert [optimization.schedule(at(epoch, 1000)) for epoch in (0, 500, 999)] == [1.0] * 3


def test_swav_has_the_rates_crops_and_frozen_steps_of_its_scripts():
    """facebookresearch/swav, scripts: base_lr, start_warmup, final_lr, freeze_prototypes_niters."""
    published = {
        "swav_imagenet": (4.8, 0.3, 0.0048, 313, 6),
        "swav_imagenet_256": (0.6, 0.6, 0.0006, 5005, 6),
        "swav_imagenet_2x224": (4.8, 0.3, 0.0048, 313, 0),
        "swav_rotation_imagenet": (1.2, 0.3, 0.0012, 313, 6),  # val-iisc/EffSSL, scripts
    }
    for name, (rate, first, last, frozen, crops) in published.items():
        recipe, method = load(name), load(name).model_dump()["method"]
        optimization = build_optimization(recipe, refuse)
        rates = [
            optimization.rate * optimization.schedule(at(epoch, recipe.epochs)) for epoch in (0, 10, recipe.epochs)
        ]
        assert (rates[0], rates[2]) == (pytest.approx(first), pytest.approx(last))
        assert rates[1] == pytest.approx(rate, rel=0.01)
        assert (method["prototypes"], method["epsilon"], method["iterations"], method["queue_epoch"]) == (
            3000,
            0.05,
            3,
            15,
        )
        assert method["frozen_steps"] == frozen
        assert method["views"] == tuple(build_views(recipe).plan)
        assert len(method["views"]) == 2 + crops


def test_dino_has_the_schedules_and_crops_of_its_code():
    """facebookresearch/dino, the defaults of main_dino.py and the commands of its README."""
    for name, learned, late, epochs in (
        ("dino_imagenet", False, 0.04, 100),
        ("dino_imagenet_300", True, 0.07, 300),
        ("dino_imagenet_resnet50", False, 0.04, 100),
    ):
        recipe, method = load(name), load(name).model_dump()["method"]
        rule = build_optimization(recipe, refuse)
        assert rule.rate * rule.schedule(at(epochs, epochs)) == pytest.approx(1e-6, rel=1e-3)
        assert (rule.clip, rule.clip_per) == (3.0, "tensor")
        if name != "dino_imagenet_resnet50":
            assert [rule.weight_decay(at(epoch, epochs)) for epoch in (0, epochs)] == pytest.approx([0.04, 0.4])
            assert recipe.backbone.drop_path == 0.1
        assert method["prototypes"] == {"count": 65536, "learned_length": learned}
        assert (method["teacher_temperature"]["start"], method["teacher_temperature"]["end"]) == (0.04, late)
        assert (method["center_momentum"], method["frozen_epochs"]) == (0.9, 1)
        assert method["student_views"] == tuple(build_views(recipe).plan)
        assert len(method["student_views"]) == 10


def test_classes_move_as_their_papers_say():
    pic, million = (load(name).model_dump()["method"] for name in ("pic_imagenet", "instance_classifier_imagenet"))
    assert (pic["window"], pic["shift"], pic["order"], pic["recent"]) == (131072, 16384, "sliding", None)
    assert (pic["large_views"], pic["small_views"]) == (("large/1",), ("small/1", "small/2", "small/3"))
    assert million["smoothing"] == 0.2
    for method in (pic, million):
        assert method["classes"] == {
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "rate_scale": 1.0,
            "remember": False,
            "sampled": False,
        }


@pytest.mark.parametrize("name", HEADS)
def test_heads_have_the_published_widths(name):
    recipe = load(name)
    sections = {key: value for key, value in recipe.method if isinstance(value, Head)}
    dims = {"resnet50": 2048, "resnet18": 512, "vit_small_patch16_224": 384}
    heads = build_heads(sections, dims[recipe.backbone.name])
    assert {head: widths(layers) for head, layers in heads.items()} == HEADS[name]


def has_queue(recipe: Recipe) -> bool:
    return bool(recipe.model_dump()["method"].get("queue"))


@pytest.mark.parametrize(("name", "millions"), [("byol_imagenette", 11.2), ("sce_imagenet_multicrop", 23.5)])
def test_whole_networks_are_built(name, millions):
    """ResNet-18 and ResNet-50 without their classifiers."""
    method = built(load(name), images=1_281_167)
    assert sum(p.numel() for p in method.encoder.parameters()) == pytest.approx(millions * 1e6, rel=0.01)
    for head, published in HEADS[name].items():
        assert widths(method.get_submodule(head)) == published
    if has_queue(load(name)):
        assert method.queue.rows().shape == (65536, 256)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in TWINS])
def test_a_smoke_twin_trains(name, tmp_path: Path):
    recipe = load(name)
    method = built(recipe)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    training = Training(
        method=method,
        streams=Streams(source=Noise(), views=build_views(recipe), batch=recipe.batch, seed=recipe.seed),
        optimization=build_optimization(recipe, refuse),
        runtime=Runtime(precision=recipe.runtime.precision),
        saver=Saver(checkpoints=Checkpoints(tmp_path), every=recipe.saving.every),
        journal=Journal(Metrics(tmp_path / "metrics.jsonl"), Line(quiet=True), images=recipe.batch, every=1),
    )
    train(training, recipe.epochs)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == STEPS
    assert all(map(math.isfinite, losses))
    after = method.state_dict()
    weights = [key for key in before if key.endswith("weight") and before[key].dim() > 1]
    assert len(weights) > 20
    still = [key for key in weights if torch.equal(before[key], after[key])]
    assert all(key.endswith("patch_embed.proj.weight") for key in still)
    assert len(still) == (2 if recipe.backbone.fixed_patches else 0)  # of the encoder and its momentum encoder
    assert any(key.startswith("queue.") and not torch.equal(before[key], after[key]) for key in before) == has_queue(
        recipe
    )


@pytest.mark.parametrize("name", names())
def test_keys_leak_in_no_recipe_that_is_made_for_one_device(name):
    recipe, notes = load(name), list[str]()
    encoder = build_encoder(recipe.backbone, channels=3, size=view_size(recipe), seed=recipe.seed)
    build_method(recipe, encoder, 10**6, notes.append)
    for_eight_gpus = recipe.backbone.statistics == "local"
    assert any("leak" in note for note in notes) == for_eight_gpus, notes
    named = ("moco_v1", "moco_v2", "ressl", "ascl", "mochi", "interclr", "revisiting")
    assert for_eight_gpus == (("imagenet" in name or "coco" in name) and name.startswith(named))


@pytest.mark.parametrize(
    "name", ["sce_cifar10_smoke", "moco_cifar10_smoke", "byol_cifar10_smoke", "moco_v2_imagenet_smoke"]
)
def test_batch_statistics_reach_every_layer(name):
    recipe = load(name)
    method = built(recipe)
    copies = {layer for part in method.modules() if isinstance(part, MomentumEncoder) for layer in part.modules()}
    online = recipe.backbone.statistics
    momentum = online if recipe.backbone.momentum_statistics == "same" else recipe.backbone.momentum_statistics
    layers = [layer for layer in method.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert len(layers) >= 2 * 20  # ResNet-18, and its copy
    for layer in layers:  # "local" leaves the ordinary layer
        policy = momentum if layer in copies else online
        if "split" in policy and layer.kind is nn.BatchNorm1d:  # of a head: only maps are split in the official code
            policy = "global"
        assert (f"policy={policy}" in repr(layer)) or (policy == "local" and "policy" not in repr(layer))


@pytest.mark.parametrize("images", ["photos", "cifar10"])
def test_the_rivals_of_copy_detection_differ_in_their_negatives_alone(images):
    """Passes of images through an encoder: QK fills a bank in each of 2 x rounds phases and steps on one view."""
    qk, simclr = load(f"qk_copy_{images}").model_dump(), load(f"simclr_copy_{images}").model_dump()
    assert qk["epochs"] + 2 * qk["method"]["rounds"] == 2 * simclr["epochs"]
    same = ("projector", "temperature")
    assert [qk["method"][key] for key in same] == [simclr["method"][key] for key in same]
    assert {**qk["views"], "names": None} == {**simclr["views"], "names": None}
    assert all(qk[part] == simclr[part] for part in ("backbone", "optimizer", "batch"))
    assert simclr["method"]["exports_head"]
