"""The arguments of a method: from sections of a recipe, or numbers in it, to heads, queues, banks and schedules."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lookalike.data import available_memory
from lookalike.functional.collectives import world
from lookalike.functional.schedules import Constant, Cosine, Ramp
from lookalike.modules import (
    Bank,
    Clusters,
    DerivedBank,
    InstanceClasses,
    NormedPrototypes,
    Prototypes,
    Queue,
    Rows,
    gives,
    head,
)
from lookalike.recipes.parts import (
    PRECISIONS,
    Classes,
    Follow,
    Handicap,
    Head,
    LastLayer,
    PseudoLabels,
    Rise,
    Sampling,
    arguments,
)
from lookalike.recipes.schema import Recipe, RecipeError

SHARE = 0.4  # of the available memory that a bank may take; our choice: the rest is for images, network and batches


def build_heads(sections: Mapping[str, Head], dim: int) -> dict[str, nn.Sequential]:
    """The heads one after another, the first on `dim` numbers. Raises RecipeError where their outputs differ."""
    made: dict[str, nn.Sequential] = {}
    for name, section in sections.items():
        made[name] = head(section.shape, dim, hidden=section.hidden, out=section.out)
        dim = gives(made[name])
    dims = {f"method.{name}": gives(layers) for name, layers in made.items()}
    if len(set(dims.values())) > 1:
        listed = " and ".join(f"{name} gives {count} numbers" for name, count in dims.items())
        raise RecipeError(f"{listed}, but their outputs are compared: give both the same `out`")
    return made


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
        if world() > 1:
            say(f"the {images:,} x {dim} numbers of class weights are dealt over {world()} processes, saved whole")
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


def build_banks(
    annotations: Mapping[str, Any],
    given: Mapping[str, Any],
    images: int,
    dims: tuple[int, int],
    folder: Path | None,
    say: Callable[[str], None],
) -> dict[str, Bank]:
    """The banks that a constructor wants, a row per image; dims: numbers of a row, and of one that is derived."""
    banks = {name: Bank(images, dims[0]) for name, annotation in annotations.items() if annotation is Bank}
    return banks | {
        name: build_derived(images, dims[1], given[name], folder, say)
        for name, annotation in annotations.items()
        if annotation is DerivedBank
    }


def build_derived(size: int, dim: int, precision: str, folder: Path | None, say: Callable[[str], None]) -> Bank:
    """A bank that is filled anew at every start: in memory, or in a file of `folder` where that cannot hold it."""
    dtype, free = PRECISIONS[precision], int(SHARE * available_memory() / world())
    needed = Bank.bytes(size, dim, dtype)
    if world() > 1:
        say(
            f"the bank of {size:,} x {dim} numbers is whole in each of {world()} processes, {needed / 1e9:,.2g} GB each"
        )
    if folder is None or needed <= free:
        return Bank(size, dim, dtype=dtype, derived=True)
    say(
        f"the bank of {size:,} x {dim} numbers takes {needed / 1e9:,.2g} GB, and memory has {free / 1e9:,.2g} GB "
        f"for it: it lies in a file without a name in {folder}, gone when this process ends"
    )
    return Bank(size, dim, dtype=dtype, derived=True, folder=folder)


def wanted(function: Callable) -> Mapping[str, Any]:
    """What a constructor's parameters are annotated with."""
    return {name: parameter.annotation for name, parameter in inspect.signature(function).parameters.items()}
