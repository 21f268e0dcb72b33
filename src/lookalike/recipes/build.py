"""From a recipe to objects: the only place where configuration becomes networks, methods, views and optimizers."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lookalike.functional import random
from lookalike.functional.collectives import world
from lookalike.functional.schedules import Constant, Cosine, Ramp, Schedule, Warmup
from lookalike.methods.method import Method
from lookalike.modules import (
    Bank,
    Clusters,
    Encoder,
    InstanceClasses,
    MomentumEncoder,
    NormedPrototypes,
    Prototypes,
    Queue,
    Rows,
    backbone,
    groups,
    groups_here,
    head,
    with_batch_statistics,
)
from lookalike.recipes.limits import There, fallbacks
from lookalike.recipes.parts import Classes, Follow, Handicap, Head, LastLayer, PseudoLabels, Rise, Sampling, Section
from lookalike.recipes.schema import Backbone, Recipe, RecipeError
from lookalike.recipes.tables import METHODS, VIEWS
from lookalike.training.optimizers import Optimization, linear_scaled, sqrt_scaled
from lookalike.transforms import RandomResizedCrop, Views
from lookalike.transforms.edits.view import Others


def build_views(recipe: Recipe, others: Others | None = None) -> Views:
    """The view plan that the recipe names; others: see Views. Raises RecipeError where an argument is impossible."""
    try:
        return Views(VIEWS[kind(recipe.views)](**arguments(recipe.views)), others=others)
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
                drop_path=section.drop_path,
            )
        except ValueError as error:
            raise RecipeError(f"backbone.name: {error}") from None


def build_method(recipe: Recipe, encoder: Encoder, images: int, say: Callable[[str], None]) -> Method:
    """The method with its heads, queue, bank and schedules, on this encoder.

    A queue larger than half the data set is capped, with a note; so is told what else cannot be had (limits.py).
    Raises RecipeError where a micro-batch is one image, heads do not fit one another, batch statistics do not fit the
    batch, or the view plan lacks a view that the method reads.
    """
    cast, given, rows = METHODS[method_name(recipe)], arguments(recipe.method), recipe.batch // recipe.accumulate
    if rows < 2:
        raise RecipeError(
            f"a batch of {recipe.batch} in {recipe.accumulate} parts is one image at a time, which nothing can be told "
            f"from: lower accumulate to {max(1, recipe.batch // 2)} or less"
        )
    with seeded("heads", recipe.seed):
        heads = build_heads({name: value for name, value in given.items() if isinstance(value, Head)}, encoder.dim)
        dim = output(list(heads.values())[-1]) if heads else encoder.dim
        others = {
            name: build_part(value, dim, wanted(cast)[name], recipe, images, say)
            for name, value in given.items()
            if name not in heads
        }
        banks = {name: Bank(images, dim) for name, annotation in wanted(cast).items() if annotation is Bank}
        method = cast(encoder=encoder, **heads, **others, **banks)
    there = There(images=images, batch=recipe.batch, rows=rows, queue=rows_of(others.get("queue")))
    for note in fallbacks(method_name(recipe), given, there):
        say(note)
    settle_statistics(method, recipe, say)
    missing = {view for phase in method.plan(recipe.epochs) for view in phase.reads} - set(build_views(recipe).plan)
    if missing:
        raise RecipeError(
            f"the method {method_name(recipe)!r} reads the views {', '.join(sorted(missing))}, which views.kind "
            f"{kind(recipe.views)!r} does not make: choose another views.kind"
        )
    return method


def build_heads(sections: Mapping[str, Head], dim: int) -> dict[str, nn.Sequential]:
    """The heads one after another, the first on `dim` numbers. Raises RecipeError where their outputs differ."""
    made: dict[str, nn.Sequential] = {}
    for name, section in sections.items():
        made[name] = head(section.shape, dim, hidden=section.hidden, out=section.out)
        dim = output(made[name])
    dims = {f"method.{name}": output(layers) for name, layers in made.items()}
    if len(set(dims.values())) > 1:
        listed = " and ".join(f"{name} gives {count} numbers" for name, count in dims.items())
        raise RecipeError(f"{listed}, but their outputs are compared: give both the same `out`")
    return made


def output(layers: nn.Sequential) -> int:
    """How many numbers a head gives."""
    return [layer for layer in layers if isinstance(layer, nn.Linear)][-1].out_features


def settle_statistics(method: Method, recipe: Recipe, say: Callable[[str], None]) -> None:
    """Puts BatchNorm under the recipe's policies. Raises RecipeError for one that does not exist or fit the batch.

    Groups are those of the encoder's layers: heads see the whole batch, as in the official code of MoCo and SCE.
    """
    rows, momentum = recipe.batch // recipe.accumulate, recipe.backbone.momentum_statistics
    copies = [part for part in method.modules() if isinstance(part, MomentumEncoder)]
    policies: list[tuple[str, str, Sequence[nn.Module]]] = [("statistics", recipe.backbone.statistics, [method])]
    policies += [] if momentum == "same" else [("momentum_statistics", momentum, copies)]
    for key, policy, parts in policies:
        try:
            count = groups(policy)
            of_heads = "global" if groups_here(policy) else policy
            for part in parts:
                with_batch_statistics(part, policy)
                with_batch_statistics(part, of_heads, kind=nn.BatchNorm1d)
        except ValueError as error:
            raise RecipeError(f"backbone.{key}: {error}") from None
        if policy == "local" and rows < 2 * world():
            raise RecipeError(
                f"backbone.{key} = 'local' leaves a process one of {rows} images (batch / accumulate), which has no "
                f"statistics: choose a batch of {2 * world() * recipe.accumulate} or more, or statistics 'global'"
            )
        if count and (rows % count or rows < 2 * count):
            raise RecipeError(
                f"backbone.{key} = {policy!r} cuts {rows} images (batch / accumulate) into {count} groups: "
                f"choose a batch that is a multiple of {count} and at least {2 * count}"
            )
    if policies[-1][1] in ("global", "local") and world() == 1 and _shuffled_for_nothing(method, copies):
        say(
            "method.shuffle has no effect on one process with BatchNorm over the whole batch, and keys may leak "
            "through it: use backbone.statistics=split:8"
        )


def _shuffled_for_nothing(method: Method, copies: Sequence[nn.Module]) -> bool:
    """Whether keys are shuffled between groups of batch statistics that do not exist."""
    norms = (layer for part in copies for layer in part.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm))
    return bool(getattr(method, "shuffle", False)) and any(norms)


def build_part(value: Any, dim: int, annotation: Any, recipe: Recipe, images: int, say: Callable[[str], None]) -> Any:
    """A constructor's argument: a queue, class weights, prototypes, a schedule, or the number itself."""
    if value is not None and annotation in (Queue, Queue | None, Rows):
        most = max(recipe.batch, images // 2)
        if value > most:
            say(f"the queue of {value} is capped at {most}: more would hold keys of over half of the {images} images")
        rows = min(value, most)
        return Rows(rows) if annotation is Rows else Queue(rows, dim, seed=recipe.seed)
    if annotation is Prototypes:
        return Prototypes(value, dim)
    if isinstance(value, Classes):
        if recipe.optimizer.clip is not None:
            say("class weights move by themselves: optimizer.clip limits the gradients of the networks alone")
        return InstanceClasses(images, dim, seed=recipe.seed, **arguments(value))
    if isinstance(value, Handicap | Sampling | PseudoLabels):
        given = arguments(value) | ({"size": images, "dim": dim} if annotation is Clusters else {})
        try:
            return annotation(**given)
        except ValueError as error:
            raise RecipeError(f"method: {error}") from None
    if isinstance(value, Follow):
        return Constant(value.start) if value.start == value.end else Cosine(value.start, value.end)
    if isinstance(value, Rise):
        return Ramp(value.start, value.end, value.epochs)
    if isinstance(value, LastLayer):
        return NormedPrototypes(value.count, dim, learned_length=value.learned_length)
    return value


def rows_of(queue: Queue | Rows | None) -> int:
    """How many rows a queue has, one that the method makes itself too."""
    return queue.size if isinstance(queue, Queue) else queue or 0


def build_optimization(recipe: Recipe, say: Callable[[str], None] = lambda note: None) -> Optimization:
    """Rates scaled to the batch, schedule and decay. A warm-up of more than half the run is shortened, with a note."""
    section, warmup = recipe.optimizer, recipe.optimizer.warmup
    scaled = {"none": lambda rate, batch: rate, "linear": linear_scaled, "sqrt": sqrt_scaled}[section.scaling]
    if warmup > recipe.epochs / 2:
        say(f"a warm-up of {warmup:g} epochs is too long for {recipe.epochs:g}: shortened to {recipe.epochs / 10:g}")
        warmup = recipe.epochs / 10
    schedule: Schedule = Warmup(
        epochs=warmup,
        start=section.start,
        end=section.end,
        shape=section.shape,
        milestones=section.milestones,
        per=section.per,
    )
    decay = section.weight_decay if section.final_decay is None else Cosine(section.weight_decay, section.final_decay)
    return Optimization(
        name=section.kind,
        rate=scaled(section.rate, recipe.batch),
        schedule=schedule,
        weight_decay=decay,
        momentum=section.momentum,
        nesterov=section.nesterov,
        betas=section.betas,
        no_decay=section.no_decay,
        lars_rate=section.lars_rate,
        clip=section.clip,
        clip_per=section.clip_per,
    )


def method_name(recipe: Recipe) -> str:
    """The name under which tables.METHODS lists the recipe's method."""
    return kind(recipe.method)


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
