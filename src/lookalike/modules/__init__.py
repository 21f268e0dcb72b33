"""Modules with parameters or state: each usable alone."""

from lookalike.modules.auxiliary import Answers, CropOverlap, Jigsaw, RelativePosition, Rotation, Scene, Task
from lookalike.modules.backbones import NARROW, Encoder, backbone
from lookalike.modules.bank import Bank, DerivedBank
from lookalike.modules.batch_statistics import (
    BatchNorm,
    groups,
    groups_here,
    running_statistics,
    split,
    statistics_kept,
    synchronize_,
    unmeasured,
    with_batch_statistics,
)
from lookalike.modules.clusters import Clusters
from lookalike.modules.descriptor import Descriptor
from lookalike.modules.heads import SHAPES, Shape, gives, head, mlp, takes
from lookalike.modules.instance_classes import InstanceClasses
from lookalike.modules.maps import cell, finer
from lookalike.modules.modes import evaluating
from lookalike.modules.momentum import MomentumEncoder
from lookalike.modules.patches import fixed_patches
from lookalike.modules.prototypes import NormedPrototypes, Prototypes
from lookalike.modules.queue import Column, Queue, Rows
from lookalike.modules.sharded import Sharded, sharded_buffers
from lookalike.modules.weights import load_weights

__all__ = [
    "NARROW",
    "SHAPES",
    "Answers",
    "Bank",
    "BatchNorm",
    "Clusters",
    "Column",
    "CropOverlap",
    "DerivedBank",
    "Descriptor",
    "Encoder",
    "InstanceClasses",
    "Jigsaw",
    "MomentumEncoder",
    "NormedPrototypes",
    "Prototypes",
    "Queue",
    "RelativePosition",
    "Rotation",
    "Rows",
    "Scene",
    "Shape",
    "Sharded",
    "Task",
    "backbone",
    "cell",
    "evaluating",
    "finer",
    "fixed_patches",
    "gives",
    "groups",
    "groups_here",
    "head",
    "load_weights",
    "mlp",
    "running_statistics",
    "sharded_buffers",
    "split",
    "statistics_kept",
    "synchronize_",
    "takes",
    "unmeasured",
    "with_batch_statistics",
]
