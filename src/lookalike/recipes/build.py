"""From a recipe to objects: the only place where configuration becomes networks, methods, views and optimizers."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lookalike.functional import random
from lookalike.functional.schedules import Constant, Cosine, Schedule, Warmup
from lookalike.methods.method import Method
from lookalike.modules import Encoder, MomentumEncoder, Queue, backbone, head, with_batch_statistics
from lookalike.recipes.schema import Backbone, Follow, Head, Recipe, RecipeError, Section
from lookalike.recipes.tables import METHODS, VIEWS
from lookalike.training.optimizers import Optimization, linear_scaled, sqrt_scaled
from lookalike.transforms import RandomResizedCrop, Views


def build_views(recipe: Recipe) -> Views:
    """The view plan that the recipe names. Raises RecipeError where an argument is impossible."""
    try:
        return Views(VIEWS[kind(recipe.views)](**arguments(recipe.views)))
    except ValueError as error:
        raise RecipeError(f"views: {error}") from None


def view_size(recipe: Recipe) -> int:
    """Side of the largest view in pixels."""
    plan = build_views(recipe).plan
    return max(part.size for chain in plan.values() for part in chain if isinstance(part, RandomResizedCrop))


def build_encoder(section: Backbone, *, channels: int, size: int, seed: int) -> Encoder:
    """The backbone with its first weights: the same for the same seed. Raises RecipeError for an unknown name."""
    with seeded("backbone", seed):
        try:
            return backbone(
                section.name,
                stem=section.stem,
                image_size=size,
                channels=channels,
                zero_init_last=section.zero_init_last,
            )
        except ValueError as error:
            raise RecipeError(f"backbone.name: {error}") from None


def build_method(recipe: Recipe, encoder: Encoder, images: int, say: Callable[[str], None]) -> Method:
    """The method with its heads, queue and schedules, on this encoder.

    A queue larger than half the data set is capped, with a note. Raises RecipeError where the view plan lacks a view that
    the method reads.
    """
    cast, section = METHODS[kind(recipe.method)], recipe.method
    parts: dict[str, Any] = {}
    dim = encoder.dim
    with seeded("heads", recipe.seed):
        for name, value in arguments(section).items():
            if isinstance(value, Head):
                parts[name], dim = build_head(value, dim, name)
        for name, value in arguments(section).items():
            if name in parts:
                continue
            parts[name] = build_part(value, dim, wanted(cast)[name], recipe, images, say)
        method = cast(encoder=encoder, **parts)
    try:
        with_batch_statistics(method, recipe.backbone.statistics)
        for part in method.modules():
            if isinstance(part, MomentumEncoder) and recipe.backbone.momentum_statistics != "same":
                with_batch_statistics(part, recipe.backbone.momentum_statistics)
    except ValueError as error:
        raise RecipeError(f"backbone.statistics: {error}") from None
    missing = {view for phase in method.plan(recipe.epochs) for view in phase.reads} - set(build_views(recipe).plan)
    if missing:
        raise RecipeError(
            f"the method {kind(section)!r} reads the views {', '.join(sorted(missing))}, which views.kind "
            f"{kind(recipe.views)!r} does not make: choose another views.kind"
        )
    return method


def build_head(section: Head, dim: int, name: str) -> tuple[nn.Sequential, int]:
    """A head on `dim` numbers, and the dimension that it gives."""
    try:
        made = head(section.shape, dim, hidden=section.hidden, out=section.out)
    except ValueError as error:
        raise RecipeError(f"method.{name}.shape: {error}") from None
    return made, [layer for layer in made if isinstance(layer, nn.Linear)][-1].out_features


def build_part(
    value: Any, dim: int, annotation: Any, recipe: Recipe, images: int, say: Callable[[str], None]
) -> Any:
    """A constructor's argument: a queue, a schedule, or the number itself."""
    if annotation is Queue:
        most = max(recipe.batch, images // 2)
        if value > most:
            say(f"the queue of {value} is capped at {most}: more would hold half of the {images} images twice")
        return Queue(min(value, most), dim, seed=recipe.seed)
    if isinstance(value, Follow):
        return Constant(value.start) if value.start == value.end else Cosine(value.start, value.end)
    return value


def build_optimization(recipe: Recipe) -> Optimization:
    """Rates scaled to the batch, schedule and decay."""
    section = recipe.optimizer
    scaled = {"none": lambda rate, batch: rate, "linear": linear_scaled, "sqrt": sqrt_scaled}[section.scaling]
    schedule: Schedule = Warmup(
        epochs=section.warmup, shape=section.shape, milestones=section.milestones, per=section.per
    )
    return Optimization(
        name=section.kind,
        rate=scaled(section.rate, recipe.batch),
        schedule=schedule,
        weight_decay=section.weight_decay,
        momentum=section.momentum,
        no_decay=section.no_decay,
        lars_rate=section.lars_rate,
        clip=section.clip,
    )


def kind(section: Section) -> str:
    return section.model_dump()["kind"]


def arguments(section: Section) -> dict[str, Any]:
    """The section's fields but for its kind, as typed values."""
    return {name: value for name, value in section if name != "kind"}


def wanted(function: Callable) -> Mapping[str, Any]:
    """What a constructor's parameters are annotated with."""
    return {name: parameter.annotation for name, parameter in inspect.signature(function).parameters.items()}


@contextmanager
def seeded(name: str, seed: int) -> Iterator[None]:
    """torch's global random numbers keyed by (name, seed) inside, as they were after: first weights come from them."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(random.key("weights", name, seed) & (2**63 - 1))
        yield
