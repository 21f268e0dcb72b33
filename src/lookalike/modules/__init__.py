"""Modules with parameters or state: each usable alone."""

from lookalike.modules.backbones import NARROW, Encoder, backbone
from lookalike.modules.bank import Bank
from lookalike.modules.batch_statistics import (
    BatchNorm,
    groups,
    groups_here,
    running_statistics,
    split,
    synchronize_,
    with_batch_statistics,
)
from lookalike.modules.clusters import Clusters
from lookalike.modules.heads import SHAPES, Shape, head, mlp
from lookalike.modules.instance_classes import InstanceClasses
from lookalike.modules.momentum import MomentumEncoder
from lookalike.modules.prototypes import NormedPrototypes, Prototypes
from lookalike.modules.queue import Column, Queue, Rows
from lookalike.modules.sharded import Sharded, sharded_buffers
from lookalike.modules.weights import load_weights

__all__ = [
    "NARROW",
    "SHAPES",
    "Bank",
    "BatchNorm",
    "Clusters",
    "Column",
    "Encoder",
    "InstanceClasses",
    "MomentumEncoder",
    "NormedPrototypes",
    "Prototypes",
    "Queue",
    "Rows",
    "Shape",
    "Sharded",
    "backbone",
    "groups",
    "groups_here",
    "head",
    "load_weights",
    "mlp",
    "running_statistics",
    "sharded_buffers",
    "split",
    "synchronize_",
    "with_batch_statistics",
]
