"""From a recipe to objects: the only place where configuration becomes networks, methods, views and optimizers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from lookalike.functional import random
from lookalike.functional.collectives import world
from lookalike.functional.schedules import Cosine, Schedule, Warmup
from lookalike.methods.method import Method
from lookalike.modules import (
    DerivedBank,
    Descriptor,
    Encoder,
    MomentumEncoder,
    backbone,
    fixed_patches,
    gives,
    groups,
    groups_here,
    head,
    with_batch_statistics,
)
from lookalike.recipes.build_parts import build_banks, build_heads, build_part, rows_of, wanted
from lookalike.recipes.fitting import demand_fitting
from lookalike.recipes.limits import There, fallbacks
from lookalike.recipes.parts import Head, arguments
from lookalike.recipes.schema import Backbone, Recipe, RecipeError
from lookalike.recipes.surround import surrounded
from lookalike.recipes.tables import FEATURES, METHODS, VIEWS
from lookalike.training.optimizers import Optimization, linear_scaled, sqrt_scaled
from lookalike.transforms import RandomResizedCrop, Views, Whole
from lookalike.transforms.edits.view import Others


def build_views(recipe: Recipe, others: Others | None = None) -> Views:
    """The view plan that the recipe names; others: see Views. Raises RecipeError where an argument is impossible."""
    try:
        return Views(VIEWS[recipe.views.kind](**arguments(recipe.views)), others=others)
    except ValueError as error:
        raise RecipeError(f"views: {error}") from None


def view_size(recipe: Recipe) -> int:
    """Side of the largest view in pixels."""
    plan = build_views(recipe).plan
    return max(part.size for chain in plan.values() for part in chain if isinstance(part, RandomResizedCrop))


def full_views(method: Method, recipe: Recipe) -> int:
    """How many views of the largest side the method reads in its first phase."""
    plan = build_views(recipe).plan
    sides = [
        part.size
        for view in method.plan(recipe.epochs)[0].reads
        for part in plan.get(view, ())
        if isinstance(part, RandomResizedCrop | Whole)
    ]
    return sides.count(max(sides, default=0))


def build_encoder(section: Backbone, *, channels: int, size: int, seed: int) -> Encoder:
    """The backbone with its first weights: the same for the same seed. Raises RecipeError for an unknown name."""
    with seeded("backbone", seed):
        try:
            encoder = backbone(
                section.name,
                stem=section.stem,
                image_size=size,
                channels=channels,
                zero_init_last=section.zero_init_last,
                drop_path=section.drop_path,
            )
            return fixed_patches(encoder) if section.fixed_patches else encoder
        except ValueError as error:
            raise RecipeError(f"backbone.name: {error}") from None


def head_section(recipe: Recipe) -> Head:
    """The method's first head, as the recipe has it. Raises RecipeError where it has none."""
    for value in arguments(recipe.method).values():
        if isinstance(value, Head):
            return value
    raise RecipeError(f"the method {method_name(recipe)!r} has no head: its network is the backbone alone")


def build_descriptor(recipe: Recipe, encoder: Encoder) -> Descriptor:
    """The encoder with a head as the recipe has it, whose weights are to be loaded."""
    section = head_section(recipe)
    return Descriptor(encoder, head(section.shape, encoder.dim, hidden=section.hidden, out=section.out))


def build_method(
    recipe: Recipe, encoder: Encoder, images: int, say: Callable[[str], None], folder: Path | None = None
) -> Method:
    """The method with its heads, queue, bank and schedules, on this encoder.

    A queue larger than half the data set is capped, with a note; so is told what else cannot be had (limits.py). A bank
    that memory cannot hold lies in a file of `folder`, if there is one, with a note. Raises RecipeError where a
    micro-batch is one image, heads do not fit one another, batch statistics do not fit the batch, or the views do
    not fit (fitting.py).
    """
    cast, given, rows = METHODS[method_name(recipe)], arguments(recipe.method), rows_at_a_time(recipe)
    with seeded("heads", recipe.seed):
        heads = build_heads({name: value for name, value in given.items() if isinstance(value, Head)}, encoder.dim)
        dim = gives(list(heads.values())[-1]) if heads else encoder.dim
        others = {
            name: build_part(value, dim, wanted(cast)[name], recipe, images, say)
            for name, value in given.items()
            if name not in heads and wanted(cast)[name] is not DerivedBank
        }
        width = encoder.dim if given.get(FEATURES.get(method_name(recipe), "")) else dim
        banks = build_banks(wanted(cast), given, images, (dim, width), folder, say)
        method = cast(encoder=encoder, **heads, **others, **banks)
    there = There(images=images, batch=recipe.batch, rows=rows, queue=rows_of(others.get("queue")))
    for note in fallbacks(method_name(recipe), given, there):
        say(note)
    settle_statistics(method, recipe, say)
    if recipe.around is not None:
        policy = "local" if recipe.backbone.statistics == "local" else "global"  # of heads, as above
        with seeded("tasks", recipe.seed):
            method = surrounded(method, recipe.around, dim=encoder.dim, policy=policy, full=full_views(method, recipe))
    demand_fitting(recipe, method, encoder, build_views(recipe).plan, say)
    return method


def rows_at_a_time(recipe: Recipe) -> int:
    """Images of a micro-batch, over all processes. Raises RecipeError for a single one."""
    rows = recipe.batch // recipe.accumulate
    if rows < 2:
        raise RecipeError(
            f"a batch of {recipe.batch} in {recipe.accumulate} parts is one image at a time, which nothing can be told "
            f"from: lower accumulate to {max(1, recipe.batch // 2)} or less"
        )
    return rows


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
    return recipe.method.kind


@contextmanager
def seeded(name: str, seed: int) -> Iterator[None]:
    """torch's global random numbers keyed by (name, seed) inside, as they were after: first weights come from them."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(random.key("weights", name, seed) & (2**63 - 1))
        yield
