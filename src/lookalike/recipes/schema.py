"""What a recipe may say: typed, complete, one sentence per field; an unknown key is an error that names the nearest."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, create_model, model_validator

from lookalike.functional.margin import Margin
from lookalike.functional.other_clusters import Sampler
from lookalike.functional.schedules import Constant, Cosine, Ramp
from lookalike.modules import Bank
from lookalike.recipes.mistakes import complaints, shown, suggested
from lookalike.recipes.parts import BOUNDS, END, LARGEST, MOST, PARTS, START, WIDEST, Follow, Named, Rise, Section
from lookalike.recipes.tables import METHODS, VIEWS
from lookalike.recipes.wrappers import With

Auto = Literal["auto"]
UNWRITTEN = {"use_attribute_docstrings": False}  # of types made here, whose source Pydantic would look for in vain


class RecipeError(ValueError):
    """A recipe or an override that cannot be used; the message is one sentence with the remedy."""


class Backbone(Section):
    """The network whose features are the product."""

    name: str = "resnet50"
    """A timm name, or resnet18_quarter, resnet18_half."""
    stem: Literal["auto", "small", "imagenet"] = "auto"
    """small: for images up to 64 pixels; auto chooses by the size of the views."""
    statistics: str = "global"
    """BatchNorm statistics over the global batch, per process (local), or N parts of it (split:N; not in heads)."""
    momentum_statistics: str = "same"
    """The same for momentum encoders; same: as the encoder's."""
    zero_init_last: bool = False
    """Residual branches start at zero."""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """Chance to skip a residual branch of the last block; in those before it falls to zero linearly."""
    fixed_patches: bool = False
    """Patch projection and positions of a vision transformer never learn (MoCo v3)."""


class Optimizer(Section):
    """How weights move."""

    kind: Literal["sgd", "adam", "adamw", "lars", "larc"] = "sgd"
    rate: float = Field(gt=0, le=LARGEST)
    """Base learning rate, at the reference batch of `scaling`."""
    scaling: Literal["none", "linear", "sqrt"] = "none"
    """linear: rate x batch / 256; sqrt: rate x sqrt(batch); none: the rate as it stands."""
    weight_decay: float = Field(default=0.0, ge=0, le=LARGEST)
    final_decay: float | None = Field(default=None, ge=0, le=LARGEST)
    """Weight decay at the end, reached by a cosine; null: it stays."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of sgd, lars and larc."""
    nesterov: bool = False
    """Of sgd."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Of adam and adamw."""
    no_decay: Literal["nothing", "one_dimensional", "bias_and_norm"] = "nothing"
    """Parameters without weight decay and without LARS adaptation."""
    lars_rate: Literal["inside", "outside"] = "outside"
    """Whether LARS' velocity holds the learning rate (SimCLR's code) or not (BYOL, MoCo v3, SCE)."""
    clip: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient; null: no limit."""
    clip_per: Literal["all", "tensor"] = "all"
    """Whether the limit holds for the whole gradient, or for that of each tensor."""
    warmup: float = Field(default=0.0, ge=0, le=LARGEST)
    """Epochs of linear rise."""
    start: float = Field(default=0.0, ge=0, le=1)
    """Share of the rate at which the rise begins."""
    end: float = Field(default=0.0, ge=0, le=1)
    """Share of the rate at which the cosine ends."""
    shape: Literal["cosine", "steps", "constant"] = "cosine"
    milestones: tuple[float, ...] = ()
    """Epochs at which the rate falls to a tenth, with shape: steps."""
    per: Literal["step", "epoch"] = "step"
    """Whether the cosine moves each step or each epoch."""

    @model_validator(mode="after")
    def _has_effect(self) -> "Optimizer":
        """A key that another choice makes idle is a mistake, not a detail; defaults may stand."""
        adaptive = self.kind in ("adam", "adamw")
        idle = {
            "start": self.start > 0 and self.warmup == 0 and "has no effect without a warmup",
            "end": self.end > 0 and self.shape != "cosine" and "has no effect without shape: cosine",
            "clip_per": self.clip_per != "all" and self.clip is None and "has no effect without clip",
            "milestones": bool(self.milestones) and self.shape != "steps" and "has no effect without shape: steps",
            "lars_rate": self.lars_rate == "inside" and self.kind != "lars" and "has no effect without kind: lars",
            "momentum": self.momentum != 0.9 and adaptive and f"has no effect with kind: {self.kind}, which has betas",
            "nesterov": self.nesterov and self.kind != "sgd" and "has no effect without kind: sgd",
            "betas": self.betas != (0.9, 0.999) and not adaptive and "has no effect without kind: adam or adamw",
        }
        for key, why in idle.items():
            if why:
                raise ValueError(f"{key} {why}: leave it out")
        return self


class Runtime(Section):
    """How it is computed. auto is measured once at the first start; the choice is saved with the run."""

    device: str = "auto"
    precision: Literal["auto", "fp64", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool | Auto = "auto"
    compile: bool | Auto = "auto"
    workers: Annotated[int, Field(ge=0, le=1024)] | Auto = "auto"
    """Processes that prepare images."""
    threads: Annotated[int, Field(gt=0, le=1024)] | Auto = "auto"
    """CPU threads of each training process."""


class Saving(Section):
    """What is kept on the way."""

    every: int = Field(default=1000, gt=0, le=MOST)
    """Steps between checkpoints."""
    keep: int = Field(default=2, gt=0, le=MOST)
    """Checkpoints kept."""
    check_space: bool = True
    """Start only where these and one more have room on the disk."""
    log_every: int = Field(default=20, gt=0, le=MOST)
    """Steps between lines of metrics.jsonl."""
    log_to: Literal["tensorboard"] | None = None
    """Write these lines for TensorBoard as well, into RUN/tensorboard; null: metrics.jsonl alone."""


class Watching(Section):
    """What is measured while training, without changing it."""

    health_every: int = Field(default=20, gt=0, le=MOST)
    """Steps between looks for collapse."""
    knn_every: float = Field(default=5.0, ge=0, le=LARGEST)
    """Epochs between online k-NN scores, where labels are given; 0: never."""


class Data(Section):
    """What is read."""

    channels: Literal[1, 3] = 3
    max_bad: float = Field(default=0.001, ge=0, le=1)
    """Largest share of unreadable files before training stops."""
    cache: bool | Auto = "auto"
    """Keep decoded images in memory; auto: when they fit."""
    column: str | None = None
    """Which image of a sample, where it has several: a column of a data set, an extension in tar files, or each."""
    download: str | None = None
    """Folder that keeps copies of files behind URIs; null: they are read over the network each time."""
    store: str | None = None
    """Folder that keeps decoded pixels which do not fit into memory; null: images are decoded in every epoch."""
    scaled_to: int | None = Field(default=None, gt=0, le=WIDEST)
    """Shorter side down to which large JPEG files may be decoded small, which is faster; null: exact pixels."""
    merge_duplicates: bool = False
    """Take files that are copies of one another, byte for byte, for one image: the first."""


class Recipe(Section):
    """A whole recipe; `method` and `views` have the fields of the class or plan that their kind names."""

    model_config = ConfigDict(serialize_by_alias=True)  # `with` is no name in Python

    kind: Literal["image"] = "image"
    """What is learned from: images."""
    method: Named
    """kind: a name of tables.METHODS, and that class's arguments."""
    views: Named
    """kind: a name of tables.VIEWS, and that plan's arguments."""
    around: With | None = Field(default=None, alias="with")
    """What surrounds the method: tables.WRAPPERS by name; null: nothing."""
    backbone: Backbone = Backbone()
    optimizer: Optimizer
    epochs: float = Field(gt=0, le=LARGEST)
    """Passes over the data."""
    batch: int = Field(gt=1, le=MOST)
    """Images per step, over all processes."""
    accumulate: int = Field(default=1, gt=0, le=MOST)
    """Micro-batches per step; the contrast set and batch statistics are those of one micro-batch."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    data: Data = Data()
    runtime: Runtime = Runtime()
    saving: Saving = Saving()
    watching: Watching = Watching()


def validated(raw: Mapping[str, Any], source: str) -> Recipe:
    """The typed recipe. Raises RecipeError: which key, what is wrong with it, the nearest right key."""
    model = _recipe(_kind(raw, "method", METHODS, source), _kind(raw, "views", VIEWS, source))
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(f"{source}: {'; '.join(complaints(error, model)[:3])}") from None


@cache
def _recipe(method: str, views: str) -> type[Recipe]:
    """The whole recipe's type for a method and a view plan; one type each, so that equal recipes compare equal."""
    return create_model(
        "Recipe",
        __base__=Recipe,
        __cls_kwargs__=UNWRITTEN,
        method=(signature_section(method, METHODS[method]), ...),
        views=(signature_section(views, VIEWS[views]), ...),
    )


def _kind(raw: Mapping[str, Any], name: str, table: Mapping[str, Callable], source: str) -> str:
    """What `kind` names in the table."""
    section = raw.get(name)
    kind = section.get("kind") if isinstance(section, Mapping) else None
    if isinstance(section, str):
        raise RecipeError(f"{source}: {name!r} is a section: write {name}.kind={section}, and its other keys")
    if kind is None:
        raise RecipeError(f"{source}: the key '{name}.kind' is missing; it is one of {', '.join(table)}")
    if str(kind) not in table:
        near = suggested(str(kind), table, otherwise=f"give one of {', '.join(table)}")
        raise RecipeError(f"{source}: there is no {name} {shown(kind)}; {near}")
    return str(kind)


def signature_section(kind: str, function: Callable) -> type[Named]:
    """A section with the arguments of a class or function as fields: names, types and defaults stand there once."""
    fields: dict[str, Any] = {"kind": (Literal[kind], ...)}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "encoder" or parameter.annotation is Bank:
            continue  # made from the section `backbone`, and from the data set
        annotation, default = PARTS.get(parameter.annotation, parameter.annotation), parameter.default
        if parameter.name in BOUNDS:
            annotation = Annotated[annotation, BOUNDS[parameter.name]]
        if isinstance(default, Constant | Cosine):
            default = Follow(start=default(START), end=default(END))
        if isinstance(default, Ramp):
            default = Rise(start=default.start, end=default.end, epochs=default.epochs)
        if isinstance(default, Margin | Sampler):
            default = PARTS[parameter.annotation](**asdict(default))
        fields[parameter.name] = (annotation, ... if default is inspect.Parameter.empty else default)
    return create_model(kind, __base__=Named, __cls_kwargs__=UNWRITTEN, **fields)
