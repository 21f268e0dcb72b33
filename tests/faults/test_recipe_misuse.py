"""Recipes with anything in any place: a RecipeError that names the place, or a recipe that can be built."""

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from counts import note
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.small_world import Samples
from lookalike.recipes import RecipeError, build_encoder, build_method, build_optimization, build_views, dump, load
from lookalike.recipes.load import with_values
from lookalike.training.streams import Streams
from lookalike.training.timeline import timeline

IMAGES = 64
RAW = {name: yaml.safe_load(dump(load(name))) for name in ("simclr_small_smoke", "sce_small_smoke", "byol_small_smoke")}
ODD_TEXT = st.sampled_from(
    ["", " ", "auto", "nan", "1e400", "-1", "0x10", "null", "yes", "resnet18", "split:0", "split:-3", "split:x", "cpu"]
)
NUMBERS = st.one_of(
    st.sampled_from([1, 2, 4, 8, 16, 32, 64, 0.1, 0.5, 0.9, 1.5]),  # of which most are possible somewhere
    st.integers(1, 70),
    st.integers(-3, 70),
    st.integers(min_value=-(10**40), max_value=10**40),
    st.sampled_from([2**31, 2**63 - 1, 2**63, 2**64, 10**9, 10**12]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([1e-45, 1e300, -0.0, 0.5]),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, ODD_TEXT, st.text(max_size=8))
THINGS = st.one_of(
    LEAVES,
    st.lists(LEAVES, max_size=3),
    st.dictionaries(st.one_of(st.text(max_size=5), st.sampled_from(["kind", "start", "shape"])), LEAVES, max_size=3),
)


def places(raw: dict, section: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every key, sections included."""
    found = []
    for key, value in raw.items():
        found.append((*section, key))
        found += places(value, (*section, key)) if isinstance(value, dict) else []
    return found


def put(raw: dict, path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        if not isinstance(raw.get(key), dict):
            return
        raw = raw[key]
    raw[path[-1]] = value


@st.composite
def spoiled(draw: Callable) -> tuple[dict, list[str]]:
    """A recipe of the library with one to three values replaced, keys misspelt or left out; the words concerned."""
    raw = deepcopy(RAW[draw(st.sampled_from(sorted(RAW)))])
    words: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(raw)))
        how = draw(st.sampled_from(["value", "value", "value", "another key", "without"]))
        if how == "another key":
            path = (*path[:-1], draw(st.sampled_from([f"{path[-1]}s", "colour", path[-1].upper(), "x" * 300])))
        if how == "without":
            put(raw, path, None)
        else:
            put(raw, path, draw(THINGS))
        words += path
    return raw, words


def built(recipe: Any) -> None:
    """All objects of the recipe, on the smallest backbone."""
    recipe = with_values(recipe, {"backbone": {"name": "resnet18_quarter"}})
    plan = build_views(recipe)
    encoder = build_encoder(recipe.backbone, channels=recipe.data.channels, size=16, seed=recipe.seed)
    method = build_method(recipe, encoder, IMAGES, lambda note: None)
    build_optimization(recipe)
    timeline(method.plan(recipe.epochs), size=IMAGES, batch=recipe.batch)
    Streams(source=Samples(3, 8, 8), views=plan, batch=recipe.batch, accumulate=recipe.accumulate, seed=recipe.seed)


def demand_sentence(error: ValueError, words: list[str]) -> None:
    """One line, not too long, with the name of a place that was spoiled."""
    text = str(error)
    assert "\n" not in text
    assert len(text) < 4000
    assert any(word[:60] in text for word in words), (text, words)


def check(case: tuple[dict, list[str]], path: Path) -> str:
    """What came of it."""
    raw, words = case
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    try:
        recipe = load(str(path))
    except RecipeError as error:
        demand_sentence(error, words)
        return "refused"
    assert load_again(recipe, path) == recipe
    try:
        built(recipe)
    except ValueError as error:
        demand_sentence(error, [*words, "batch", "epochs", "queue", "views", "head", "out", "backbone"])
        return "refused when built"
    return "built"


def load_again(recipe: Any, path: Path) -> Any:
    path.write_text(dump(recipe), encoding="utf-8")
    return load(str(path))


OPTIONS: dict[str, Any] = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@given(case=spoiled())
@settings(max_examples=40, **OPTIONS)
def test_a_spoiled_recipe_names_the_place_or_can_be_built(tmp_path_factory, case):
    check(case, tmp_path_factory.mktemp("recipe") / "r.yaml")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_hundred_spoiled_recipes(tmp_path):
    done: list[str] = []

    @given(case=spoiled())
    @settings(max_examples=500, **OPTIONS)
    def all_of_them(case: tuple[dict, list[str]]) -> None:
        done.append(check(case, tmp_path / "r.yaml"))

    all_of_them()
    assert len(done) >= 500
    ends = {end: done.count(end) for end in ("refused", "refused when built", "built")}
    assert all(ends.values()), ends
    note(20, "spoiled recipes", cases=len(done), right=len(done), **ends)


@given(
    words=st.lists(st.one_of(st.text(max_size=12), st.builds("{}={}".format, st.text(max_size=8), LEAVES)), max_size=3)
)
@settings(max_examples=40, **OPTIONS)
def test_any_words_as_overrides_end_in_a_sentence(words):
    try:
        load("simclr_small_smoke", words)
    except RecipeError as error:
        demand_sentence(error, [""])


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1, 1]\n"
        + "".join(
            f"b{i}: &b{i} [*{'a' if i == 0 else f'b{i - 1}'}{f', *b{i - 1}' * 8 if i else ''}]\n" for i in range(25)
        ),
        "method: &m {kind: simclr, x: *m}\n",
        "&a [*a]",
        "!!python/object/apply:os.system ['touch canary']",
        "method: !!python/name:os.system",
        "a: " + "[" * 5000,
        "epochs: " + "9" * 5000,
        "epochs: 1e999999999",
        "batch: 2026-11-22",
        "batch: !!binary aGVsbG8=",
        "? [a, b]\n: c",
        "\x00",
        "\t- x",
        "%YAML 9.9\n---\nbatch: 2",
        "---\na: 1\n---\nb: 2",
    ],
    ids=[
        "billion laughs",
        "recursion",
        "list of itself",
        "call",
        "name",
        "depth",
        "digits",
        "exponent",
        "date",
        "binary",
        "key of a list",
        "null byte",
        "tab",
        "version",
        "two documents",
    ],
)
def test_hostile_yaml_ends_in_a_sentence(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    body = yaml.safe_dump(RAW["simclr_small_smoke"]) if text.startswith("batch: ") else ""
    path = tmp_path / "r.yaml"
    path.write_text(re.sub("^batch: .*$", text, body, flags=re.MULTILINE) if body else text)
    with pytest.raises(RecipeError) as caught:
        load(str(path))
    assert len(str(caught.value)) < 4000
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "canary").exists()


HUGE = {
    "seed": 2**64,
    "batch": 10**15,
    "accumulate": 10**15,
    "epochs": 1e300,
    "views.size": 10**9,
    "method.projector.hidden": 10**12,
    "method.projector.out": 10**12,
    "runtime.threads": 10**9,
    "runtime.workers": 10**9,
    "runtime.threads ": -1,
    "runtime.workers ": -1,
    "saving.every": 10**30,
    "saving.keep": 10**30,
    "saving.log_every": 10**30,
    "watching.health_every": 10**30,
    "watching.knn_every": 1e300,
    "optimizer.rate": 1e300,
    "optimizer.warmup": 1e300,
}


@pytest.mark.parametrize("key", HUGE)
def test_a_number_that_nothing_can_hold_is_refused(key):
    """Above what any machine has, a value is a slip of the finger, and torch has no sentence for it."""
    with pytest.raises(RecipeError, match=re.escape(key.strip().rpartition(".")[2])):
        load("simclr_small_smoke", [f"{key.strip()}={HUGE[key]!r}"])


def test_the_library_itself_is_built():
    """The test above is not one of recipes that never can be built."""
    for raw in RAW.values():
        assert raw["backbone"]["name"] == "resnet18_quarter"
    for name in RAW:
        built(load(name))
    assert torch.get_default_dtype() == torch.float32
