"""Recipes as text: the library, files, one level of `from:`, dotted overrides, and the resolved recipe written back."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from lookalike.recipes.mistakes import shown, suggested
from lookalike.recipes.schema import Recipe, RecipeError, validated

NO_VALUE = (ValueError, RecursionError, OverflowError, AttributeError)  # what YAML's reader raises beside its own
DEPTH = 8  # sections inside sections: far more than a recipe has
LIBRARY = resources.files("lookalike.recipes") / "library"


def names() -> list[str]:
    """Names of the recipes that come with the package."""
    return list(_library())


@cache
def _library() -> dict[str, None]:
    """The same, looked up once in a process: every recipe that is read asks for them several times."""
    found = (entry.name.removesuffix(".yaml") for entry in LIBRARY.iterdir() if entry.name.endswith(".yaml"))
    return dict.fromkeys(sorted(found))


def text(name: str) -> str:
    """A library recipe as it is written, with its header. Raises RecipeError naming the nearest one."""
    if name not in _library():
        near = suggested(name, names(), otherwise="none is near")
        raise RecipeError(f"there is no recipe {shown(name)}; {near}, all: lookalike recipes")
    return (LIBRARY / f"{name}.yaml").read_text(encoding="utf-8")


def header(name: str) -> dict[str, str]:
    """What the comment above a library recipe says: paper, command, hardware, hours, claim, choices.

    A line is "# key: value"; one that is indented further goes on with the value before it.
    """
    said: dict[str, str] = {}
    for line in text(name).splitlines():
        if not line.startswith("#"):
            break
        if start := re.match(r"# (\w+): (.+)", line):
            said[start[1]] = start[2]
        elif said:
            said[list(said)[-1]] += " " + line.lstrip("# ")
    return said


def load(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """The typed recipe of a library name or a file, after dotted overrides ("method.temperature=0.2").

    Raises RecipeError in one sentence: unknown recipe, bad YAML, a second level of `from:`, unknown or impossible key.
    """
    raw = _raw(name)
    parent = raw.pop("from", None)
    if parent is not None:
        below = _raw(_beside(name, str(parent)))
        if "from" in below:
            raise RecipeError(f"{name}: its `from: {parent}` has a `from:` of its own; one level is the limit")
        raw = merged(below, raw)
    for override in overrides:
        raw = merged(raw, _override(override))
    try:
        return validated(raw, name)
    except RecipeError as error:
        kinds = [override for override in overrides if override.partition("=")[0].endswith(".kind")]
        if kinds and "is missing" in str(error):
            raise RecipeError(f"{error} ({kinds[0]} starts that section anew: give its other keys as well)") from None
        raise


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`; a section with another `kind` replaces the one below."""
    result = deepcopy(dict(below))
    for key, value in above.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and _same_kind(old, value):
            result[key] = merged(old, value)
        else:
            result[key] = deepcopy(value)
    return result


def asked(overrides: Sequence[str], key: str) -> Any:
    """What dotted overrides say of a key, before there is a recipe to lay them over; None where they say nothing."""
    found: Any = {}
    for override in overrides:
        found = merged(found, _override(override))
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def dump(recipe: Recipe, sections: Collection[str] | None = None) -> str:
    """The resolved recipe, or some of its sections, as YAML: every key, also those left at their defaults."""
    chosen = None if sections is None else set(sections)
    return yaml.safe_dump(recipe.model_dump(mode="json", include=chosen), sort_keys=False, allow_unicode=True)


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with some values replaced, checked again."""
    return validated(merged(recipe.model_dump(mode="json"), values), "the recipe")


def _same_kind(below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    return above.get("kind", below.get("kind")) == below.get("kind")


def _is_file(name: str) -> bool:
    return name not in _library() and (Path(name).suffix in (".yaml", ".yml") or Path(name).is_file())


def _beside(name: str, parent: str) -> str:
    """What `from: parent` means in the recipe `name`: files are found from the folder of the file that names them."""
    return str(Path(name).parent / parent) if _is_file(name) and Path(parent).suffix else parent


def _raw(name: str) -> dict[str, Any]:
    """The keys of a recipe as they are written."""
    try:
        content = Path(name).read_text(encoding="utf-8") if _is_file(name) else text(name)
        reader = yaml.SafeLoader(content)
        node = reader.get_single_node()
        raw = reader.construct_document(node) if node else None
    except FileNotFoundError:
        hint = "library recipes have no suffix: lookalike recipes"
        raise RecipeError(f"the recipe file {name} does not exist; {hint}") from None
    except OSError as error:
        raise RecipeError(f"the recipe file {name} cannot be read: {error.strerror}") from None
    except RecipeError:
        raise
    except (yaml.YAMLError, *NO_VALUE) as error:
        raise RecipeError(f"{name} is not YAML: {' '.join(str(error).split())[:500]}") from None
    if not isinstance(raw, dict):
        raise RecipeError(f"{name} holds no recipe: expected keys such as method, views, optimizer")
    if doubled := _doubled(node):
        raise RecipeError(f"{name} has the key {doubled!r} twice in one section: keep one of them")
    return raw


def _doubled(root: yaml.Node | None) -> str | None:
    """A key that stands twice in one mapping, of which YAML would silently drop the first."""
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if not isinstance(node, yaml.MappingNode) or id(node) in seen:  # an alias may lead back to where it came from
            continue
        seen.add(id(node))
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [key for key, count in keys.items() if count > 1]:
            return twice[0]
        waiting += [value for _, value in node.value]
    return None


def _override(override: str) -> dict[str, Any]:
    """'a.b=1' as {"a": {"b": 1}}."""
    path, equals, value = override.partition("=")
    if not equals or not all(path.split(".")) or path.count(".") > DEPTH:
        raise RecipeError(f"{shown(override)} is not an override: write key=value, for example epochs=100")
    try:
        result: Any = yaml.safe_load(value)
    except (yaml.YAMLError, *NO_VALUE):
        raise RecipeError(f"{shown(override)} is not an override: {shown(value)} is not a YAML value") from None
    for part in reversed(path.split(".")):
        result = {part: result}
    return result
