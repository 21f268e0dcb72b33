"""Guides stay true: sentences they quote are said by the code, settings and symptoms that they name exist."""

import ast
import re
from functools import cache

import pytest
from examples import DOCUMENTS, SAID, blocks
from sentences import is_said, literals
from sources import REPOSITORY, Source, sources

from lookalike.api.symptoms import CHANGES
from lookalike.evaluation.health import CAUSES
from lookalike.recipes import METHODS, VIEWS, Recipe
from lookalike.recipes.schema import signature_section

GUIDES = REPOSITORY / "docs" / "guides"
SECTIONS = ("backbone", "optimizer", "runtime", "saving", "watching", "data")


@cache
def known() -> set[str]:
    return {text for source in sources() for text in literals(source)}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_quoted_sentences_are_said(page):
    quoted = [line for block in blocks(page.read_text()) if block.language == SAID for line in block.text.splitlines()]
    assert [line for line in quoted if not is_said(line, known())] == []


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_named_settings_exist(page):
    assert unknown_settings(page.read_text()) == []


def test_the_table_of_symptoms_is_that_of_the_doctor():
    named = {
        node.args[0].value
        for source in sources()
        if source.layer == "api"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Finding"
        and isinstance(node.args[0], ast.Constant)
    }
    causes = {cause.name for cause in CAUSES}
    assert causes == set(CHANGES)
    rows = re.findall(r"^\| ([a-z -]+) \|", (GUIDES / "troubleshooting.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(named | causes)


@pytest.mark.parametrize(("guide", "under"), [("first-run.md", ""), ("resume-and-clusters.md", "checkpoints")])
def test_listed_files_are_those_of_a_run(guide, under, request):
    root = request.getfixturevalue("finished_run") / under
    table = re.search(r"^\| In `.+?` \| \|\n(?:\|.*\n)+", (GUIDES / guide).read_text(), re.MULTILINE)[0]
    listed = [name for row in table.splitlines()[2:] for name in re.findall(r"`(.+?)`", row.split(" | ")[0])]
    assert [name for name in listed if not (root / name).exists()] == []
    if not under:
        assert {name.rstrip("/") for name in listed} == {path.name for path in root.iterdir()}


def test_sentences_and_settings_that_are_wrong_are_found():
    assert literals(Source("a.py", '"cosine {r.cosine:.3f}"')) == {"cosine …"}  # filled in by str.format
    texts = literals(Source("a.py", 'raise ValueError(f"the run {x} holds " "nothing")'))
    assert is_said("the run … holds nothing", texts)
    assert is_said("… holds nothing", texts)
    assert not is_said("the run … holds something", texts)
    assert not is_said("the run", texts)
    assert unknown_settings("`optimizer.rate=3`, `saving.keep`, `method.queue`, `views.size`, `data.md`") == []
    assert unknown_settings("`optimizer.rte=3`, `method.kue`, views.negatives") == ["method.kue", "optimizer.rte"]


def unknown_settings(text: str) -> list[str]:
    """Dotted keys of recipes, in back-ticks or in commands, that no recipe has."""
    key = rf"((?:method|views|{'|'.join(SECTIONS)})\.[a-z_]+)"
    named = {one or other for one, other in re.findall(rf"`{key}`|(?<![\w./]){key}=", text)}
    keys = {f"{name}.{key}" for name in SECTIONS for key in Recipe.model_fields[name].annotation.model_fields}
    for section, table in (("method", METHODS), ("views", VIEWS)):
        keys |= {f"{section}.{key}" for kind in table for key in signature_section(kind, table[kind]).model_fields}
    files = {name for name in named if name.endswith((".md", ".py", ".png", ".html"))}
    return sorted(named - keys - files)
