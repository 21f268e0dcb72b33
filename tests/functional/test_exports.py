"""The rule of `lookalike.functional`: what pages of methods compute their objectives from is exported."""

import re
from pathlib import Path

import lookalike
from lookalike import functional

PARTS = {"collectives", "random", "order", "schedules", "crops", "sweep", "shards"}  # below objectives
PAGES = sorted((Path(lookalike.__file__).parent / "methods").glob("*.py"))
FROM_A_MODULE = re.compile(r"^from lookalike\.functional\.(\w+) import (?:\(([^)]+)\)|(.+))$", re.MULTILINE)


def imported(text: str) -> set[str]:
    """Functions that a page takes from modules of objectives."""
    found = set[str]()
    for module, several, one in FROM_A_MODULE.findall(text):
        found |= set(re.findall(r"\b[a-z]\w+", several or one)) if module not in PARTS else set()
    return found


def test_pages_take_objectives_from_exported_functions():
    missing = {page.name: imported(page.read_text()) - set(functional.__all__) for page in PAGES}
    assert {page: names for page, names in missing.items() if names} == {}


def test_the_parts_below_are_not_exported():
    homes = {name: getattr(functional, name).__module__.rpartition(".")[2] for name in functional.__all__}
    assert {name: home for name, home in homes.items() if home in PARTS} == {}


def test_a_name_that_is_not_exported_is_found():
    page = "from lookalike.functional.margin import arc, nce\nfrom lookalike.functional.random import key\n"
    assert imported(page) - set(functional.__all__) == {"arc"}
    assert imported("from lookalike.functional.a import (\n    Kind,\n    one,\n    two,\n)\n") == {"one", "two"}
