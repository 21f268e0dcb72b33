"""The numbers in README, on method pages and in recipes of the bench are those of the result file, digit by digit."""

import json
import re
import sys

import pytest
from sources import REPOSITORY

from lookalike.api import list_methods
from lookalike.recipes.load import header

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
from tables import NAMES, REFERENCES, probes, table


def test_the_table_of_the_readme_is_that_of_its_result_file():
    readme = (REPOSITORY / "README.md").read_text()
    (name,) = set(re.findall(r"benchmarks/results/(quality-[\d-]+\.json)", readme))
    lines = table(REPOSITORY / "benchmarks" / "results" / name)
    assert "\n".join(lines) in readme
    assert len(lines) == 2 + len(NAMES) + 2


def test_the_probes_of_the_readme_are_those_of_their_result_file():
    readme = (REPOSITORY / "README.md").read_text()
    (name,) = set(re.findall(r"benchmarks/results/(probes-[\d-]+\.json)", readme))
    file = REPOSITORY / "benchmarks" / "results" / name
    lines = probes(file)
    assert "\n".join(lines) in readme
    assert len(lines) == 2 + len(NAMES) + len(REFERENCES)
    checks = [run["checks"] for runs in json.loads(file.read_text())["runs"].values() for run in runs]
    assert max(abs(check["linear less scikit-learn"]) for check in checks) < 0.035
    assert "within 0.03 points of scikit-learn" in readme


@pytest.mark.parametrize("method", NAMES)
def test_a_page_holds_the_numbers_of_its_result_file(method: str):
    page = (REPOSITORY / "docs" / "methods" / f"{method}.md").read_text().partition("## Our numbers")[2]
    (file,) = set(re.findall(r"benchmarks/results/quality-[\d-]+\.json", page))
    trained = json.loads((REPOSITORY / file).read_text())["methods"][method]["test"]["trained"]
    claim = header(f"{method}_bench")["claim"]
    assert file in claim
    for scores in trained.values():
        number = f"{scores['mean']:.1f} ± {scores['sd']:.1f}"
        assert number in page
        assert number in claim


def test_pages_hold_the_numbers_of_the_bench_of_all_methods():
    file = max((REPOSITORY / "benchmarks" / "results").glob("methods-*.json"))
    for method, found in json.loads(file.read_text())["methods"].items():
        page = (REPOSITORY / "docs" / "methods" / f"{method}.md").read_text().partition("## Our numbers")[2]
        assert file.name in page
        assert all(f"{score['mean']:.1f} %" in page for score in found["test"]["trained"].values()), method
        assert len(found["trials"]) == 1 or "no other was tried" not in page


def test_the_costs_that_are_printed_are_those_of_their_result_file():
    file = max((REPOSITORY / "benchmarks" / "results").glob("costs-*.json"))
    measured = json.loads(file.read_text())["methods"]
    assert {method.name: method.cost for method in list_methods()} == {
        name: round(row["ratio"], 1) for name, row in measured.items()
    }
