"""What the section `with` of a recipe may say: tasks beside the method, and curation of its batches."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from lookalike.modules.auxiliary import Attach
from lookalike.recipes.parts import LARGEST, WIDEST, Section


class TaskSection(Section):
    """A task beside the method; its fields but for the weight are arguments of the class in tables.TASKS."""

    weight: float = Field(default=0.1, ge=0, le=LARGEST)
    """Factor of the task's loss, summed over views; 0 leaves the method alone, bit for bit."""
    attach: Attach = "backbone"
    """What the head of the task reads: features of the backbone, or what the projector makes of them."""


class RotationSection(TaskSection):
    """By which quarter is a view turned? (EffSSL)"""

    views: int = Field(default=2, ge=1, le=64)
    """How many views of full size are turned: 2 as in the official code, 1 as in the paper's figure."""
    hidden: int | None = Field(default=None, gt=0, le=WIDEST)
    """Width of the head; null: that of the features."""


class JigsawSection(TaskSection):
    """In which order do nine tiles lie?"""

    views: int = Field(default=1, ge=1, le=64)
    """How many views of full size are cut."""
    orders: int = Field(default=100, ge=2, le=1000)
    """Orders to tell apart."""
    width: int = Field(default=256, gt=0, le=WIDEST)
    """Numbers to which each tile is reduced."""


class RelativePositionSection(TaskSection):
    """On which side of the middle tile does another lie?"""

    views: int = Field(default=1, ge=1, le=64)
    """How many views of full size are cut."""
    hidden: int | None = Field(default=None, gt=0, le=WIDEST)
    """Width of the head; null: that of the features."""


class CropOverlapSection(TaskSection):
    """How much do two views overlap?"""

    bins: int = Field(default=5, ge=2, le=1000)
    """Equal parts of the IoU, from 0 to 1."""
    hidden: int | None = Field(default=None, gt=0, le=WIDEST)
    """Width of the head; null: that of the features."""


class CurationSection(Section):
    """Batches whose partners are too far apart are drawn again."""

    criterion: Literal["worst", "mean", "nearest", "frechet"] = "nearest"
    """What is scored (functional.agreement)."""
    threshold: float | None = 0.5
    """Score up to which a batch is accepted; null: every batch, and the run is that of the method, bit for bit."""
    distance: Literal["cosine", "l2", "l1"] = "cosine"
    """Between features; not of frechet."""
    neighbors: int = Field(default=1, gt=0, le=WIDEST)
    """Of nearest: the partner is to be among so many."""
    pairs: bool = False
    """Judge and replace each pair by itself."""
    tries: int = Field(default=3, ge=0, le=1000)
    """Draws after the first; 0: batches are judged, and kept."""
    redraw: Literal["views", "images"] = "views"
    """Whether other views of the same images are drawn, or other images."""
    attach: Attach = "backbone"
    """What is compared: features of the backbone, or what the projector makes of them."""
    warmup: float = Field(default=0.0, ge=0, le=LARGEST)
    """Epochs without curation."""

    @model_validator(mode="after")
    def _has_effect(self) -> "CurationSection":
        if self.pairs and self.criterion == "frechet":
            raise ValueError("pairs and criterion=frechet do not go together: frechet has no score of a pair")
        if self.neighbors != 1 and self.criterion != "nearest":
            raise ValueError("neighbors has no effect without criterion: nearest: leave it out")
        return self


class With(Section):
    """What surrounds the method, in this order: tasks, then curation."""

    rotation: RotationSection | None = None
    """The task of EffSSL (docs/methods/rotation.md)."""
    jigsaw: JigsawSection | None = None
    """A task: nine tiles in disorder."""
    relative_position: RelativePositionSection | None = None
    """A task: two of nine tiles."""
    crop_overlap: CropOverlapSection | None = None
    """A task: the overlap of two views."""
    keep_statistics: bool = False
    """Whether what tasks show to the encoder leaves no trace in its running statistics."""
    curation: CurationSection | None = None
    """Welle et al., 2021 (docs/methods/curation.md)."""

    @property
    def tasks(self) -> Mapping[str, TaskSection]:
        """The tasks that are asked for, by name."""
        return {name: section for name, section in self if isinstance(section, TaskSection)}

    @property
    def asked(self) -> Mapping[str, TaskSection | CurationSection]:
        """What has an effect, by name."""
        tasks = {name: section for name, section in self.tasks.items() if section.weight}
        curation = self.curation if self.curation and self.curation.threshold is not None else None
        return {**tasks, **({"curation": curation} if curation else {})}


def asked_for(names: str | Sequence[str]) -> list[str]:
    """Overrides that add what `names` lists ("rotation,curation") with its defaults, or as the recipe has it.

    Raises ValueError for an empty name, and for one that is given twice.

    >>> asked_for("rotation,curation")
    ['with.rotation={}', 'with.curation={}']
    """
    listed = [name.strip() for name in (names.split(",") if isinstance(names, str) else names)]
    if not all(listed):
        raise ValueError(f"{names!r} has an empty name: write rotation, curation or both, with a comma between")
    if twice := [name for name in dict.fromkeys(listed) if listed.count(name) > 1]:
        raise ValueError(f"{names!r} names {twice[0]} {listed.count(twice[0])} times: name each once")
    return [f"with.{name}={{}}" for name in listed]
