"""Documentation stays true: quoted lines and named files exist, numbers have a file, commands are those that run."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import yaml
from sources import PACKAGE, REPOSITORY

import lookalike
from lookalike.methods.method import Method
from lookalike.recipes import load
from lookalike.recipes.tables import METHODS, WRAPPERS
from methods.records import records

sys.path.insert(0, str(REPOSITORY / "docs"))
from navigation import entries, expanded

PAGES = sorted(page for page in (REPOSITORY / "docs" / "methods").glob("*.md") if page.stem != "README")
DOCUMENTS = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]
SECTIONS = (
    "Equation and line",
    "Views",
    "The paper's recipe",
    "Published numbers",
    "Pitfalls",
    "Deviations",
    "Our numbers",
)
AROUND = {"rotation": "with_auxiliary", "curation": "with_curation"}  # page -> file; other tasks are on the first
PACKAGES = ("api", "functional", "modules", "transforms", "data", "evaluation", "recipes")
README = (REPOSITORY / "README.md").read_text()

SET_UP = ("pip install -e '.[demo]' && lookalike demo", "pip install -e '.[test]' && pytest")


def test_every_method_has_a_page_and_every_page_a_method():
    assert {page.stem for page in PAGES} == {*METHODS, *AROUND}
    index = (REPOSITORY / "docs" / "methods" / "README.md").read_text()
    assert [name for name in AROUND if f"({name}.md)" not in index] == []
    changes = (REPOSITORY / "CHANGELOG.md").read_text().lower()
    titles = {page.stem: re.match(r"# ([^,\n]+)", page.read_text())[1].lower() for page in PAGES}
    missing = {name for name, title in titles.items() if title not in changes}
    assert missing <= records().keys()  # a later method is told of when a version is made


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_five_places(name):
    assert (PACKAGE / "methods" / f"{name}.py").is_file()
    assert METHODS[name].__module__ == f"lookalike.methods.{name}"
    recipes = [file.read_text() for file in (PACKAGE / "recipes" / "library").glob("*.yaml")]
    assert any(re.search(rf"^method:\s*(\{{|\n\s+)kind: {name}\b", recipe, re.MULTILINE) for recipe in recipes)
    assert (REPOSITORY / "tests" / "methods" / f"test_{name}.py").is_file()
    assert (REPOSITORY / "docs" / "methods" / f"{name}.md").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_sections(page):
    assert tuple(re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)) == SECTIONS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_reconstruction_says_so_on_its_page_in_its_document_and_at_the_start_of_a_run(page):
    code = (PACKAGE / "methods" / f"{AROUND.get(page.stem, page.stem)}.py").read_text()
    note = kind_of(page.stem).reconstruction
    assert {bool(note), "a reconstruction" in page.read_text().lower(), "A reconstruction" in code} == {bool(note)}
    assert not note or page.relative_to(REPOSITORY).as_posix() in note


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_the_recipes_of_its_method(page):
    named = re.search(r"^In the library: (.+)$", page.read_text(), re.MULTILINE)
    recipes = [recipe.name for recipe in lookalike.list_recipes() if page.stem in (recipe.method, *around(recipe.name))]
    assert named
    assert sorted(re.findall(r"`(\w+)`", named[1])) == sorted(recipes)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_quoted_lines_stand_in_the_code(page):
    rows = quoted_lines(page.read_text())
    assert len(rows) >= 4
    assert [f"{file}: {line}" for file, line in rows if not stands_in(line, (PACKAGE / file).read_text())] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_our_numbers_have_a_file(page):
    assert unsupported(section(page.read_text(), "Our numbers"), REPOSITORY) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_named_files_exist(document):
    assert missing_files(document.read_text(), document.parent, REPOSITORY) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_anchors_exist(document):
    assert missing_anchors(document) == []


def test_every_page_is_in_the_navigation():
    nav = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text().partition("\nnav:\n")[2])
    pages = [page.relative_to(REPOSITORY / "docs").as_posix() for page in (REPOSITORY / "docs").rglob("*.md")]
    assert sorted(entries(expanded(nav, REPOSITORY / "docs"))) == sorted(pages)


def test_a_pattern_of_the_navigation_stands_for_pages_that_are_not_named(tmp_path):
    for name in ("a", "b", "c", "first"):
        (tmp_path / f"{name}.md").touch()
    nav = ["index.md", {"Methods": ["first.md", "*.md", "b.md"], "More": "more.md"}]
    assert expanded(nav, tmp_path) == [
        "index.md",
        {"Methods": ["first.md", "a.md", "c.md", "b.md"], "More": "more.md"},
    ]


def test_the_reference_holds_all_public_names():
    text, told = (REPOSITORY / "docs" / "reference.md").read_text(), list[str]()
    packages = re.findall(r"^## (lookalike\S*)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert {package for package, _ in packages} == {"lookalike", *(f"lookalike.{name}" for name in PACKAGES)}
    for package, section in packages:
        module = importlib.import_module(package)
        paths = [path.rpartition(".") for path in re.findall(r"^::: (\S+)$", section, re.MULTILINE)]
        assert sorted(name for *_, name in paths) == sorted({*module.__all__} - {*told, "functional"})
        found = [getattr(importlib.import_module(home), name) for home, _, name in paths]
        assert all(one is getattr(module, name) for one, (*_, name) in zip(found, paths, strict=True))
        told += module.__all__ if package == "lookalike" else []


def test_decisions_are_numbered_and_listed():
    files = sorted(path.name for path in (REPOSITORY / "docs" / "decisions").glob("[0-9]*.md"))
    index = (REPOSITORY / "docs" / "decisions" / "README.md").read_text()
    assert [int(name[:4]) for name in files] == list(range(1, len(files) + 1))
    assert re.findall(r"^\| \[\d{4}\]\((.+?)\)", index, re.MULTILINE) == files


def test_the_set_up_commands_are_in_the_readme():
    assert [command for command in SET_UP if command not in README.splitlines()] == []


def test_continuous_integration_runs_the_test_command_of_the_readme():
    steps = (REPOSITORY / ".ci" / "run").read_text()
    install, test = SET_UP[1].split(" && ")
    assert re.search(rf"^{re.escape(install)}$\n^{test}\b", steps, re.MULTILINE)


def test_a_line_that_is_not_in_the_code_is_found():
    code = "loss = soft_contrast(\n    q_BD,  # of view 1\n    mix=self.coefficient,\n)"
    assert stands_in("soft_contrast(q_BD, mix=self.coefficient)", code)
    assert not stands_in("soft_contrast(q_BD, mix=1.0)", code)
    head = "## Equation and line\n\n| Equation | File | Line |\n|---|---|---|\n"
    table = head + "| w | `a.py` | `w = 1` |\n\n## Views\n| w | `b.py` | `w` |"
    assert quoted_lines(table) == [("a.py", "w = 1")]


def test_a_number_without_a_file_is_found(tmp_path):
    assert unsupported("None yet.", tmp_path) == []
    assert unsupported("| CIFAR-10 k-NN | 80.1 |", tmp_path)
    assert unsupported("No file:\n\n| CIFAR-10 k-NN |\n|---|\n| 80.1 |", tmp_path) == ["| CIFAR-10 k-NN |", "| 80.1 |"]
    assert unsupported("| CIFAR-10 k-NN | 80.1 | `benchmarks/results/a.json` |", tmp_path)
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "a.json").touch()
    assert unsupported("| CIFAR-10 k-NN | 80.1 | `benchmarks/results/a.json` |", tmp_path) == []


def test_a_missing_file_is_found(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").touch()
    assert missing_files("`docs/a.md`, `docs/NNNN-title.md`, `docs/x.md`, [a](docs/a.md#top)", tmp_path, tmp_path) == []
    assert missing_files("`docs/b.md`", tmp_path, tmp_path) == ["docs/b.md"]
    assert missing_files("[b](b.md)", tmp_path, tmp_path) == ["b.md"]


def test_a_missing_anchor_is_found(tmp_path):
    (tmp_path / "a.md").write_text("# What `x` is, in 3 words\n```bash\n# no heading\n```\n[up](#what-x-is-in-3-words)")
    (tmp_path / "b.md").write_text("[a](a.md#what-x-is-in-3-words) [a](a.md#no-heading) [b](#b) [c](c.txt#d)")
    assert missing_anchors(tmp_path / "a.md") == []
    assert missing_anchors(tmp_path / "b.md") == ["a.md#no-heading", "#b"]


def kind_of(page: str) -> type[Method]:
    return {**METHODS, **WRAPPERS}[page]


def around(recipe: str) -> list[str]:
    """Names in the section `with` of a recipe."""
    section = load(recipe).around
    return [] if section is None else list(section.asked)


def section(text: str, title: str) -> str:
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def quoted_lines(text: str) -> list[tuple[str, str]]:
    """(file, line) of each row of the table of equations."""
    rows = [row.split(" | ") for row in section(text, "Equation and line").splitlines() if row.startswith("| ")]
    return [(file.strip(" `"), line.strip(" |").strip("`")) for _, file, line in rows[1:]]


def stands_in(line: str, code: str) -> bool:
    return squeezed(line) in squeezed(code)


def squeezed(code: str) -> str:
    """Code without comments, white space and trailing commas, so that a formatter may break lines."""
    bare = re.sub(r"(^|\s)# .*", "", code, flags=re.MULTILINE)
    return re.sub(r",([)\]}])", r"\1", re.sub(r"\s+", "", bare))


def unsupported(text: str, root: Path) -> list[str]:
    """Lines with a number that name no result file; rows of a table may have that of the line above it."""
    lost, above = [], ""
    for line in (line for line in text.splitlines() if line):
        above = above if line.startswith("|") else line
        files = re.findall(r"benchmarks/results/[\w.-]+", line) or re.findall(r"benchmarks/results/[\w.-]+", above)
        numbers = re.search(r"\d", line) and not set(line) <= set("|-: ")
        if numbers and (not files or not all((root / file).is_file() for file in files)):
            lost.append(line)
    return lost


def missing_files(text: str, folder: Path, root: Path) -> list[str]:
    """Relative links, and paths in back-ticks that start at the root, which lead nowhere; `x` and NNNN are patterns."""
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^):\s]+)\)", text)]
    named = re.findall(r"`((?:src|tests|docs|benchmarks)/[\w./-]+)`", text)
    patterns = re.compile(r"NNNN|(^|[/_])x\.")
    lost = [link for link in links if link and not (folder / link).exists()]
    return lost + [name for name in named if not patterns.search(name) and not (root / name).exists()]


def missing_anchors(document: Path) -> list[str]:
    """Links to a heading that its page does not have."""
    links = re.findall(r"\]\(([^):\s#]*)#([^)\s]+)\)", document.read_text())
    pages = [(document.parent / page if page else document, page, anchor) for page, anchor in links]
    return [f"{page}#{anchor}" for path, page, anchor in pages if path.suffix == ".md" and anchor not in anchors(path)]


def anchors(page: Path) -> set[str]:
    """What links to the headings of a page end in."""
    bare = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", bare, re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}
