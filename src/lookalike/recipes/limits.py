"""Numbers of a method that are larger than what there is of images, rows of a batch or of the queue, or epochs.

Where a method goes on with less than was asked for, a run says so: what is asked, what there is, what happens.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lookalike.functional.other_clusters import Sampler
from lookalike.functional.schedules import Clock
from lookalike.methods.method import Method
from lookalike.recipes.parts import LastLayer, Sampling, arguments
from lookalike.recipes.schema import Recipe


class There(NamedTuple):
    """What there is: images of the data set, of a step, of a micro-batch (all processes), and rows of the queue."""

    images: int
    batch: int
    rows: int
    queue: int


class Limit(NamedTuple):
    """How many there are, as a sentence that holds them, and what happens to a number above."""

    most: Callable[[There], int]
    words: str
    instead: str


OTHERS_OF_A_BATCH = "a batch has {} other images"
IMAGES = "there are {} images"
LIMITS: Mapping[tuple[str, str], Limit] = {
    ("ascl", "neighbors"): Limit(  # with a queue, the method itself refuses more than its rows
        lambda there: there.queue or there.rows - 1, OTHERS_OF_A_BATCH, "all of them are neighbors"
    ),
    ("mochi", "hardest"): Limit(lambda there: there.queue, "the queue has {} rows", "all of them are the hardest"),
    ("revisiting", "neighbors"): Limit(lambda there: there.queue, "the queue has {} rows", "all of them are neighbors"),
    ("npid", "negatives"): Limit(lambda there: there.images, IMAGES, "some are drawn several times"),
    ("instance_classifier", "negatives"): Limit(lambda there: there.images, IMAGES, "all classes take part"),
    ("swav", "prototypes"): Limit(
        lambda there: there.rows + there.queue,
        "{} samples are shared out among them (a micro-batch, and the queue)",
        "each gets less than one",
    ),
    ("dino", "prototypes"): Limit(lambda there: there.images, IMAGES, "some prototypes have none of their own"),
    ("relicv2", "others"): Limit(lambda there: there.rows - 1, OTHERS_OF_A_BATCH, "all of them are compared"),
    ("pic", "window"): Limit(lambda there: there.images, IMAGES, "every window is all of them"),
    ("pic", "recent"): Limit(lambda there: there.images, IMAGES, "all that were visited take part"),
    ("instance_classifier", "hardest"): Limit(
        lambda there: there.images - 1, "there are {} other images", "all of them share the smoothing"
    ),
}


class Late(NamedTuple):
    """What never is where an epoch is not reached; any of the keys `needs` must be on for there to be anything."""

    needs: tuple[str, ...]
    never: str


LATE: Mapping[tuple[str, str], Late] = {
    ("mochi", "warmup"): Late(("pairs", "with_query"), "no negatives are mixed"),
    ("interclr", "warmup"): Late(("sampler",), "other images take no part"),
    ("ressl", "warmup"): Late(("warmup",), "the target stays the other view alone"),
    ("revisiting", "warmup"): Late(("weight",), "neighbors take no part"),
    ("swav", "queue_epoch"): Late(("queue",), "the queue stays empty"),
    ("curation", "warmup"): Late(("threshold",), "nothing is drawn again"),
}
KEPT = ("queue", "recent")  # rows of earlier images, of which a batch may have more


def fallbacks(kind: str, given: Mapping[str, Any], there: There) -> list[str]:
    """A sentence for each number in the section `method` that cannot be had, or that a single batch exceeds."""
    said = list[str]()
    for key, value in given.items():
        if isinstance(value, Sampling):
            said += _drawn(f"method.{key}", Sampler(**arguments(value)), there.images)
        name, count = ("prototypes.count", value.count) if isinstance(value, LastLayer) else (key, value)
        if not isinstance(count, int):
            continue
        limit = LIMITS.get((kind, key))
        if limit is not None and count > limit.most(there):
            said.append(f"method.{name} is {count}, and {limit.words.format(limit.most(there))}: {limit.instead}")
        if key in KEPT and 0 < count < there.batch:
            said.append(f"method.{name} is {count}, and a batch has {there.batch} images: the last {count} are kept")
    keys = 2 if given.get("symmetric") else len(given.get("keys", ()))  # of an image, where several join the queue
    if there.batch <= there.queue < keys * there.batch:
        rows = f"the queue has {there.queue} rows, and a batch {keys * there.batch} keys"
        said.append(f"{rows}: the last {there.queue} are kept")
    return said


def delays(recipe: Recipe, method: Method, last: Clock) -> list[str]:
    """A sentence for each part of a method, or of what is around it, that would begin only after the last step."""
    around = {} if recipe.around is None else recipe.around.asked
    sections = {
        recipe.method.kind: ("method", recipe.method),
        **{name: (f"with.{name}", around[name]) for name in around},
    }
    said = []
    for (kind, key), late in LATE.items():
        path, section = sections.get(kind, ("", None))
        if any(getattr(section, other, None) for other in late.needs) and getattr(section, key) > last.epoch:
            begins = f"{path}.{key} is {getattr(section, key):g} epochs, and the last step begins at {last.epoch:g}"
            said.append(f"{begins}: {late.never}")
    for name, group in method.groups().items():
        if group.frozen(last):
            said.append(f"{name} would learn only after the last step ({last.steps}): it stays as it was drawn")
    return said


def _drawn(name: str, sampler: Sampler, images: int) -> list[str]:
    """Of a pool larger than the data set, and of more negatives than their pool has."""
    said, (_, pool) = list[str](), sampler.sizes(images)
    if sampler.pooled and sampler.pool is not None and sampler.pool > pool:
        said.append(f"{name}.pool is {sampler.pool}, and there are {images} images: the pool is all of them")
    if sampler.count is not None and sampler.count > pool:
        said.append(f"{name}.count is {sampler.count}, and the pool has {pool} images: all of other clusters are drawn")
    return said
