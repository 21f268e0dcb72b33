"""Whether the views that a recipe makes fit the method, the network and the tasks: found before a run has a folder."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from timm.layers import PatchEmbed

from lookalike.methods.method import Method
from lookalike.modules import Encoder
from lookalike.modules.auxiliary import SIDE
from lookalike.recipes.parts import Section, arguments
from lookalike.recipes.schema import Recipe, RecipeError
from lookalike.transforms import CenterCrop, Chain, OverlappingCrop, RandomResizedCrop, Whole

PUZZLES = {"jigsaw", "relative_position"}  # tasks that cut views into SIDE x SIDE tiles
COUNTS = {"local": "local_views", "small": "small", "large": "large"}  # views called local/1 ...: the key with how many


def demand_fitting(
    recipe: Recipe, method: Method, encoder: Encoder, plan: Mapping[str, Chain], say: Callable[[str], None]
) -> None:
    """Raises RecipeError for views that the method misses and sizes that the network cannot take; says what is unread.

    Views that nobody reads are no error: a run that began with them goes on.
    """
    phases = method.plan(recipe.epochs)
    read = {view for phase in phases for view in (*phase.reads, *phase.scans)}
    if missing := sorted(read - plan.keys()):
        raise RecipeError(
            f"the method {recipe.method.kind!r} reads the views {', '.join(missing)}, which are not among those of "
            f"views.kind {recipe.views.kind!r} ({_listed(plan)}): {_remedy(recipe, missing)}"
        )
    if unread := [view for view in plan if view not in read and counted(recipe.views, view)]:
        key = counted(recipe.views, unread[0])
        say(
            f"views.{key} = {getattr(recipe.views, str(key))} makes the views {_listed(unread)}, which the method "
            f"{recipe.method.kind!r} does not read: lower it{_or_list(recipe, unread[0])}"
        )
    for note in _small_views(recipe.views):
        say(note)
    _demand_sizes(recipe, encoder, {view: side for view in sorted(read) if (side := side_of(plan[view])) is not None})


def _demand_sizes(recipe: Recipe, encoder: Encoder, sides: Mapping[str, int]) -> None:
    """Of views and of the tiles that tasks cut them into."""
    patch = side_of_patches(encoder)
    for view, side in sides.items():
        if side % patch:
            raise RecipeError(
                f"views: {view!r} has {side} pixels a side, which cannot be cut into patches of {patch}: "
                f"choose multiples of {patch} for {_sizes(recipe.views)}"
            )
        if (own := demanded_side(encoder, side)) is not None:
            raise RecipeError(
                f"views: {view!r} has {side} pixels a side, which {recipe.backbone.name} cannot take: it is built for "
                f"{own}; give {_sizes(recipe.views)} that value, or choose a backbone.name that takes any size"
            )
    tile = max(sides.values(), default=0) // SIDE
    if tile % patch and recipe.around is not None and recipe.around.asked.keys() & PUZZLES:
        raise RecipeError(
            f"with: tiles of {tile} pixels, a third of the largest view, cannot be cut into patches of {patch}: leave "
            "jigsaw and relative_position out, or choose a network without patches"
        )


def side_of_patches(encoder: Encoder) -> int:
    """The pixels of which a vision transformer wants a multiple; 1 for other networks."""
    patches = getattr(encoder.body, "patch_embed", None)
    return patches.patch_size[0] if isinstance(patches, PatchEmbed) and not patches.dynamic_img_pad else 1


def demanded_side(encoder: Encoder, side: int) -> int | None:
    """The side a network is built for where images of `side` do not pass, as with Swin; None where they do."""
    body: Any = encoder.body
    given = getattr(body, "pretrained_cfg", {})
    if not given.get("fixed_input_size") or getattr(body, "dynamic_img_size", False):
        return None
    training = body.training
    body.eval()  # draws no random number and moves no statistics
    try:
        with torch.no_grad():
            body(torch.zeros(1, encoder.channels, side, side))
    except (AssertionError, RuntimeError):
        return int(given["input_size"][-1])
    finally:
        body.train(training)
    return None


def side_of(chain: Chain) -> int | None:
    """Pixels of a side of what a chain makes; None where it keeps the image's own."""
    cuts = [part.size for part in chain if isinstance(part, RandomResizedCrop | OverlappingCrop | CenterCrop | Whole)]
    return cuts[-1] if cuts else None


def counted(section: Section, view: str) -> str | None:
    """The key of a section of views that says how many there are of this one's kind, if it has one."""
    key = COUNTS.get(view.partition("/")[0])
    return key if key is not None and hasattr(section, key) else None


def _small_views(section: Section) -> Iterator[str]:
    """What is odd about the sizes of small views: nothing has them, or the large views are smaller."""
    for kind in ("local", "small"):
        side, size = getattr(section, f"{kind}_size", None), getattr(section, "size", 0)
        if side is not None and not getattr(section, COUNTS[kind]):
            yield f"views.{kind}_size = {side} does nothing: views.{COUNTS[kind]} is 0"
        elif side is not None and side > size:
            yield f"views.{kind}_size = {side} is more than views.size = {size}: views meant to be small are the larger"


def _remedy(recipe: Recipe, missing: list[str]) -> str:
    """The keys that name or count what is missing; where there are none, only other views help."""
    counts = dict.fromkeys(f"raise views.{key}" for view in missing if (key := counted(recipe.views, view)))
    lists = [
        f"method.{key}"
        for key, value in arguments(recipe.method).items()
        if set(missing) & set([value] if isinstance(value, str) else value if isinstance(value, tuple | list) else ())
    ]
    others = [f"give other views in {' and '.join(lists)}"] if lists else []
    return " or ".join([*counts, *others] or ["choose another views.kind"])


def _or_list(recipe: Recipe, view: str) -> str:
    """The method's key that lists views, if there is one: that of views like this one before others."""
    keys = [key for key in arguments(recipe.method) if key in ("views", "queries") or key.endswith("_views")]
    own = f"{view.partition('/')[0]}_views"
    return f", or add them to method.{own if own in keys else keys[-1]}" if keys else ""


def _sizes(section: Section) -> str:
    keys = [f"views.{key}" for key, _ in section if key == "size" or key.endswith("_size")]
    return " and ".join(keys) or "other views"


def _listed(views: Iterable[str]) -> str:
    return ", ".join(views)
