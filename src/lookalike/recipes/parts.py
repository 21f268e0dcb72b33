"""How a recipe writes the parts of a method: heads, queues, prototypes, classes, schedules; and bounds of numbers."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import nn

from lookalike.functional.margin import Margin, Measure
from lookalike.functional.other_clusters import Sampler, SamplingRule
from lookalike.functional.schedules import Clock, Ramp, Schedule
from lookalike.modules import (
    SHAPES,
    Clusters,
    DerivedBank,
    InstanceClasses,
    NormedPrototypes,
    Prototypes,
    Queue,
    Rows,
)
from lookalike.recipes.mistakes import suggested

# above these a value is a slip of the finger, for which torch has no sentence
WIDEST, LARGEST, MOST = 65_536, 1e6, 10**9


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Named(Section):
    """A section with the arguments of what its kind names in a table; none of them is called kind."""

    kind: str


def arguments(section: Section) -> dict[str, Any]:
    """The section's fields as typed values, but for the kind of a named one."""
    return {name: value for name, value in section if not (name == "kind" and isinstance(section, Named))}


class Follow(Section):
    """A schedule: how closely a momentum encoder follows. One number stands for start and end."""

    start: float = Field(ge=0, le=1)
    """Momentum at the first step."""
    end: float = Field(ge=0, le=1)
    """Momentum at the last step; between them a cosine."""

    @model_validator(mode="before")
    @classmethod
    def _constant(cls, value: Any) -> Any:
        return {"start": value, "end": value} if isinstance(value, int | float | str) else value


class Rise(Section):
    """A temperature that rises in the first epochs. One number stands for a constant one."""

    start: float = Field(gt=0)
    """In the first epoch."""
    end: float = Field(gt=0)
    """After the rise."""
    epochs: int = Field(default=0, ge=0, le=MOST)
    """How many epochs it takes, in equal steps."""

    @model_validator(mode="before")
    @classmethod
    def _constant(cls, value: Any) -> Any:
        return {"start": value, "end": value} if isinstance(value, int | float | str) else value


class LastLayer(Section):
    """Prototypes of length one. One number stands for how many."""

    count: int = Field(ge=2, le=LARGEST)
    """How many."""
    learned_length: bool = False
    """Whether each learns a length of its own."""

    @model_validator(mode="before")
    @classmethod
    def _counted(cls, value: Any) -> Any:
        return {"count": value} if isinstance(value, int | float | str) else value


class Head(Section):
    """A projector or predictor: a shape of the papers, with its widths."""

    shape: str
    """A name of modules.heads.SHAPES."""
    hidden: int | None = Field(default=None, gt=0, le=WIDEST)
    """Width of the hidden layers; null: the paper's."""
    out: int | None = Field(default=None, gt=0, le=WIDEST)
    """Dimension of the output; null: the paper's."""

    @field_validator("shape")
    @classmethod
    def _known(cls, shape: str) -> str:
        if shape not in SHAPES:
            near = suggested(shape, SHAPES, otherwise=f"give one of {', '.join(SHAPES)}")
            raise ValueError(f"there is no such head; {near}")
        return shape


class Classes(Section):
    """One trainable weight per image, which moves by SGD of its own, at the run's rate."""

    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0, le=LARGEST)
    rate_scale: float = Field(default=1.0, gt=0, le=LARGEST)
    """Rate of the weights, as a multiple of the run's."""
    remember: bool = False
    """Keep the logits of a step, images x batch x views numbers, to update the weights in 3/4 of the time."""
    sampled: bool = False
    """Whether a step may be about some of the classes."""


class Handicap(Section):
    """A margin that the positive's similarity loses. One number stands for a cosine margin."""

    size: float = Field(ge=-4, le=4)
    """In units of the cosine, or in radians; below 0 less similarity will do."""
    measure: Measure = "cosine"
    """cosine: taken from the similarity; arc: added to the angle."""

    @model_validator(mode="before")
    @classmethod
    def _cosine(cls, value: Any) -> Any:
        return {"size": value} if isinstance(value, int | float | str) else value


class Sampling(Section):
    """Which images of other clusters are negatives."""

    rule: SamplingRule = "semi_hard"
    """hard: those most alike; semi_hard, semi_easy: drawn from a pool of those most or least alike; random."""
    count: int | None = Field(default=16384, gt=0, le=MOST)
    """Negatives of each query; null: an eighth of the pool."""
    pool: int | None = Field(default=128000, gt=0, le=MOST)
    """Images in the pool; null: a tenth of all."""


class PseudoLabels(Section):
    """Clusters of the images, whose numbers are labels."""

    count: int | None = Field(default=10000, ge=2, le=MOST)
    """How many; null: one for 128 images."""
    smallest: int | None = Field(default=20, gt=0, le=MOST)
    """Clusters of fewer images are dissolved; null: a sixth of the mean size."""
    recenter: int = Field(default=10, gt=0, le=MOST)
    """Steps between new centers."""
    again: float | None = Field(default=None, ge=0.1, le=LARGEST)
    """Offline labels, clustered again after so many epochs; null: online labels, which follow at every step."""


# how a recipe writes the parts that a method's constructor takes, and which of its numbers have bounds everywhere
PARTS: dict[Any, Any] = {
    nn.Module: Head,
    nn.Module | None: Head | None,
    Queue: Annotated[int, Field(gt=0)],
    Queue | None: Annotated[int, Field(gt=0)] | None,
    Rows: Annotated[int, Field(ge=0)],
    Prototypes: Annotated[int, Field(ge=2, le=LARGEST)],
    NormedPrototypes: LastLayer,
    InstanceClasses: Classes,
    DerivedBank: Literal["fp32", "bf16", "fp16"],
    Schedule: Follow,
    Ramp: Rise,
    Margin: Handicap,
    Sampler: Sampling,
    Clusters: PseudoLabels,
    Sequence[str]: tuple[str, ...],
}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BOUNDS: dict[str, Any] = {
    "temperature": Field(gt=0),
    "momentum_temperature": Field(gt=0),
    "base_temperature": Field(gt=0),
    "coefficient": Field(ge=0, le=1),
    "warmup": Field(ge=0),
    "negatives": Field(gt=0, le=MOST),
    "neighbors": Field(ge=0),
    "hardest": Field(gt=0),
    "smoothing": Field(ge=0, lt=1),
    "recent": Field(gt=0),
    "rounds": Field(gt=0, le=MOST),
    "query_share": Field(gt=0, lt=1),
    "window": Field(gt=0),
    "shift": Field(gt=0),
    "pairs": Field(ge=0, le=WIDEST),
    "with_query": Field(ge=0, le=WIDEST),
    "bank_momentum": Field(ge=0, le=1),
    "mask_above": Field(ge=-1, le=1),
    "intra_weight": Field(ge=0, le=1),
    "proximal": Field(ge=0),
    "size": Field(ge=8, le=4096),
    "local_size": Field(ge=4, le=4096),
    "local_views": Field(ge=0, le=64),
    "epsilon": Field(gt=0),
    "invariance": Field(ge=0, le=LARGEST),
    "variance": Field(ge=0, le=LARGEST),
    "covariance": Field(ge=0, le=LARGEST),
    "redundancy": Field(ge=0, le=LARGEST),
    "scale": Field(gt=0, le=LARGEST),
    "bias_rate": Field(ge=0, le=LARGEST),
    "align_weight": Field(ge=0, le=LARGEST),
    "uniform_weight": Field(ge=0, le=LARGEST),
    "alpha": Field(gt=0, le=LARGEST),
    "t": Field(gt=0, le=LARGEST),
    "others": Field(gt=0, le=MOST),
    "large": Field(ge=0, le=64),
    "small": Field(ge=0, le=64),
    "small_size": Field(ge=4, le=4096),
    "masked": Field(ge=0, le=1),
    "edits": Field(ge=1, le=4),
    "strongest": Field(ge=1, le=5),
    "overlap": Field(ge=0, le=1),
    "weight": Field(ge=0, le=LARGEST),
    "augmented": Field(ge=0, le=1),
    "center_momentum": Field(ge=0, le=1),
    "frozen_epochs": Field(ge=0, le=LARGEST),
    "iterations": Field(gt=0, le=1000),
    "queue_epoch": Field(ge=0, le=LARGEST),
    "frozen_steps": Field(ge=0, le=MOST),
}
START = Clock(step=0, steps=1, epoch=0.0, epochs=1.0)
END = Clock(step=1, steps=1, epoch=1.0, epochs=1.0)
