"""The rule that picks a recipe for a bare folder, from the size and number of its images and the device.

up to 64 pixels     <method>_small    views of 32 pixels up to 48, of 64 above
larger              <method>_photos   views of 224 pixels; of 128 for images below 192
on a CPU            ResNet-18 of a quarter's width, batch 128; views of photos have 64 pixels
few images          the batch is halved until it fits four times into them, down to 8
epochs              the recipe's, if that makes 2,000 to 100,000 steps (CPU: 1,000 to 5,000); else the nearer end
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from lookalike.modules import groups, split
from lookalike.recipes.load import asked, load
from lookalike.recipes.mistakes import shown, suggested
from lookalike.recipes.schema import Recipe, RecipeError
from lookalike.recipes.tables import METHODS

DEFAULT_METHOD = "simclr"
SMALL, TINY, LARGE = 64, 48, 192  # pixels of the median shorter side
STEPS, CPU_STEPS = (2_000, 100_000), (1_000, 5_000)
CPU_BATCH, LEAST_BATCH = 128, 8
GROUP = 4  # least images over which batch statistics are taken


class Choice(NamedTuple):
    """A recipe of the library, overrides for `load`, and a sentence for each decision."""

    recipe: str
    overrides: tuple[str, ...]
    reasons: tuple[str, ...]


def choose(method: str | None, *, side: int, images: int, device: str, given: Sequence[str] = ()) -> Choice:
    """What to train on `images` images with the median shorter side `side`, on "cpu", "cuda" or "mps".

    given: overrides of the user, about which the rule decides and says nothing; a batch or epochs of theirs count.
    Raises RecipeError for an unknown method, with the nearest name, and for overrides that cannot be used.
    """
    if method is not None and method not in METHODS:
        near = suggested(method, METHODS, otherwise="see lookalike methods")
        raise RecipeError(f"there is no method {shown(method)}; {near}")
    cpu = device == "cpu"
    name = f"{method or DEFAULT_METHOD}_{'small' if side <= SMALL else 'photos'}"
    recipe, mine = load(name), load(name, given)
    most = CPU_BATCH if cpu else recipe.batch
    batch = mine.batch if asked(given, "batch") else _batch(images, most)
    epochs = mine.epochs if asked(given, "epochs") else None
    parts = [
        ([], "" if method else f"no method was given: {DEFAULT_METHOD}"),
        _views(side, cpu),
        _network(cpu),
        _batches(recipe, images, batch, most),
        _epochs(recipe, images, batch, CPU_STEPS if cpu else STEPS, epochs),
    ]
    overrides, reasons = list[str](), list[str]()
    for decided, reason in parts:
        overrides += [override for override in decided if asked(given, _key(override)) is None]
        reasons += [reason] if reason and not (decided and asked(given, _key(decided[0]))) else []
    return Choice(name, tuple(overrides), tuple(reasons))


def _key(override: str) -> str:
    return override.partition("=")[0]


def _views(side: int, cpu: bool) -> tuple[list[str], str]:
    if side <= SMALL:
        size = 32 if side <= TINY else 64
    else:
        size = 64 if cpu else 128 if side < LARGE else 224
    stem = "small stem" if size <= SMALL else "the network's own stem"
    return [f"views.size={size}"], f"images are {side} pixels: {stem}, {size}-pixel views"


def _network(cpu: bool) -> tuple[list[str], str]:
    if not cpu:
        return [], ""
    return ["backbone.name=resnet18_quarter"], f"on a CPU: a quarter-width ResNet-18, batches of {CPU_BATCH} at most"


def _batch(images: int, batch: int) -> int:
    """The largest power of two of which there are four batches, not over `batch` and not under 8, or all images."""
    return max(min(LEAST_BATCH, images), min(batch, 2 ** int(math.log2(max(images // 4, 1)))))


def _batches(recipe: Recipe, images: int, batch: int, most: int) -> tuple[list[str], str]:
    """The batch, and groups of batch statistics that it can hold."""
    overrides, most_groups = [f"batch={batch}"] if batch != recipe.batch else [], max(1, batch // GROUP)
    policies = {"statistics": recipe.backbone.statistics, "momentum_statistics": recipe.backbone.momentum_statistics}
    for key, policy in policies.items():
        if policy != "same" and most_groups < groups(policy):
            overrides.append(f"backbone.{key}={split(most_groups)}")
    return overrides, f"{images:,} images are few: batches of {batch}" if batch < most else ""


def _epochs(
    recipe: Recipe, images: int, batch: int, bounds: tuple[int, int], given: float | None
) -> tuple[list[str], str]:
    """Epochs that keep the steps within bounds, unless they are given, and a warm-up in proportion."""
    least, most = bounds
    per_epoch = max(1, images // batch)
    longest = most // per_epoch or math.floor(10_000 * most / per_epoch) / 10_000
    epochs = given or min(max(recipe.epochs, math.ceil(least / per_epoch)), longest)
    reason = f"epochs: {epochs:g}, which make {epochs * per_epoch:,.0f} steps, between {least:,} and {most:,}"
    if epochs == recipe.epochs:
        return [], "" if given else reason
    warmup = recipe.optimizer.warmup * epochs / recipe.epochs
    return [f"epochs={epochs:g}", f"optimizer.warmup={warmup:.3g}"], reason
