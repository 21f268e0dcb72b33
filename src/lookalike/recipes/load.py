"""Recipes as text: the library, files, one level of `from:`, dotted overrides, and the resolved recipe written back."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from lookalike.recipes.schema import Recipe, RecipeError, nearest, validated

LIBRARY = resources.files("lookalike.recipes") / "library"


def names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(entry.name.removesuffix(".yaml") for entry in LIBRARY.iterdir() if entry.name.endswith(".yaml"))


def text(name: str) -> str:
    """A library recipe as it is written, with its header. Raises RecipeError naming the nearest one."""
    if name not in names():
        raise RecipeError(f"there is no recipe {name!r}; the nearest is {nearest(name, names())!r}, all: lookalike recipes")
    return (LIBRARY / f"{name}.yaml").read_text()


def header(name: str) -> dict[str, str]:
    """The first comment lines of a library recipe: paper, command, hardware, hours, claim."""
    lines = [line[1:].strip() for line in text(name).splitlines() if line.startswith("#")]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines) if value}


def load(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """The typed recipe of a library name or a file, after dotted overrides ("method.temperature=0.2").

    Raises RecipeError in one sentence: unknown recipe, bad YAML, more than one level of `from:`, unknown or impossible key.
    """
    raw = _raw(name)
    parent = raw.pop("from", None)
    if parent is not None:
        below = _raw(str(parent))
        if "from" in below:
            raise RecipeError(f"{name}: its `from: {parent}` has a `from:` of its own; one level is the limit")
        raw = merged(below, raw)
    for override in overrides:
        raw = merged(raw, _override(override, raw))
    return validated(raw, name)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`; a section with another `kind` replaces the one below."""
    result = deepcopy(dict(below))
    for key, value in above.items():
        old = result.get(key)
        same = isinstance(old, Mapping) and isinstance(value, Mapping) and value.get("kind", old.get("kind")) == old.get("kind")
        result[key] = merged(old, value) if same else deepcopy(value)
    return result


def dump(recipe: Recipe) -> str:
    """The resolved recipe as YAML: every key, also those left at their defaults."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _raw(name: str) -> dict[str, Any]:
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise RecipeError(f"the recipe file {name} does not exist; library recipes have no suffix: lookalike recipes")
        content = path.read_text()
    else:
        content = text(name)
    try:
        raw = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise RecipeError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise RecipeError(f"{name} holds no recipe: expected keys such as method, views, optimizer")
    return raw


def _override(override: str, raw: Mapping[str, Any]) -> dict[str, Any]:
    """'a.b=1' as {"a": {"b": 1}}."""
    path, equals, value = override.partition("=")
    if not equals or not path:
        raise RecipeError(f"{override!r} is not an override: write key=value, for example epochs=100")
    result: Any = yaml.safe_load(value)
    for part in reversed(path.split(".")):
        result = {part: result}
    return result
