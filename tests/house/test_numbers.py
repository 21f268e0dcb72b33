"""The numbers in README, on method pages and in recipes of the bench are those of the result file, digit by digit."""

import json
import re
import sys
from pathlib import Path

import pytest
from sources import REPOSITORY

from lookalike.api import list_methods
from lookalike.recipes import METHODS
from lookalike.recipes.load import header

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
from methods.records import records
from tables import NAMES, REFERENCES, against, documents, newest, numbers, probes, table, with_numbers, with_table

SCORES = {
    "k=200": {"mean": 43.25, "sd": None},
    "k=20": {"mean": 45.34, "sd": None},
    "linear": {"mean": 49.17, "sd": None},
}


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


def test_tables_and_pages_are_what_their_command_writes():
    """python benchmarks/tables.py --write"""
    assert [path.name for path, text in documents().items() if text != path.read_text()] == []


def test_the_table_of_all_methods_holds_each_once_in_the_order_of_the_list():
    index = (REPOSITORY / "docs" / "methods" / "README.md").read_text()
    index = index.partition("## On the small bench")[2].partition("## Beside lightly")[0]
    rows = dict(re.findall(r"^\| \[.+?\]\((\w+)\.md\) \| (.+?) \|", index, re.MULTILINE))
    measured = {kind: json.loads(newest(kind).read_text())["methods"] for kind in ("methods", "quality")}
    assert list(rows) == [name for name in METHODS if name in measured["methods"] or name in measured["quality"]]
    found = measured["methods"] | measured["quality"]
    assert [name for name, rate in rows.items() if "one trial" in rate] == [
        name for name in rows if len(found[name]["trials"]) == 1
    ]
    assert all(f"{newest(kind).name}`" in index for kind in ("methods", "quality", "probes"))


@pytest.mark.parametrize(
    ("rates", "said"), [([0.003], "beside which no other was tried"), ([0.003, 0.001], "the best of 0.001, 0.003")]
)
def test_the_sentence_of_a_page_says_how_many_rates_were_tried(rates: list[float], said: str):
    found = {"rate": 0.003, "trials": [{"rate": rate} for rate in rates], "runs": [{}], "test": {"trained": SCORES}}
    path = REPOSITORY / "benchmarks" / "results" / "methods-2026-01-01.json"
    assert numbers("dcl", found, path) == (
        f"Small bench, recipe `dcl_bench`, one seed, learning rate 0.003, {said}: k-NN on the test images 43.2 % "
        "(k = 200) and 45.3 % (k = 20), linear probe 49.2 %; `benchmarks/results/methods-2026-01-01.json`."
    )


def test_a_sentence_takes_the_place_of_its_earlier_one_alone():
    old = "Small bench, recipe `dcl_bench`, one seed: 1.5 %; `benchmarks/results/methods-2025-01-01.json`."
    for before in (old, "None yet.", "No quality yet."):
        page = f"None yet.\n\n## Our numbers\n\n{before} A step takes long."
        assert with_numbers(page, "dcl", "New.") == "None yet.\n\n## Our numbers\n\nNew. A step takes long."
    with pytest.raises(ValueError, match="no place for its numbers"):
        with_numbers("## Our numbers\n\nSmall bench, recipe `moco_bench`.", "dcl", "New.")


def test_a_table_takes_the_place_of_the_one_with_its_first_line():
    text = "| a | b |\n|---|---|\n| 1 | 2 |\n\n| a | c |\n|---|---|\n"
    assert with_table(text, ["| a | b |", "|---|---|"]) == "| a | b |\n|---|---|\n\n| a | c |\n|---|---|\n"
    assert with_table(text, ["| a | c | d |"], begin="| a | c") == "| a | b |\n|---|---|\n| 1 | 2 |\n\n| a | c | d |\n"
    with pytest.raises(ValueError, match="no place"):
        with_table(text, ["| d |"])


def test_the_table_beside_lightly_leaves_empty_what_was_not_run(tmp_path: Path):
    runs = [{"rate": 0.002, "test": {"k=200": 40.0 + seed, "k=20": 45.0, "linear": 50.0}} for seed in (0, 1)]
    speed = {"threads": 2, "fp32, 0 workers": {"share of wall time": 0.4321}}
    methods = {"dcl": {"quality": {"chosen": {"lightly": runs}}}, "simclr": {"speed": speed}}
    (tmp_path / "beside.json").write_text(json.dumps({"methods": methods}))
    *_, first, second = against(tmp_path / "beside.json")
    assert first == "| [SimCLR](simclr.md) |  |  |  |  |  |  |  |  | 0.43 |"
    assert second == "| [DCL](dcl.md) |  |  |  |  | 0.002 | 40.5 | 45.0 | 50.0 |  |"


def test_the_costs_that_are_printed_are_those_of_their_result_file():
    file = max((REPOSITORY / "benchmarks" / "results").glob("costs-*.json"))
    measured = json.loads(file.read_text())["methods"]
    costs = {method.name: method.cost for method in list_methods()}
    assert {name: cost for name, cost in costs.items() if cost is not None} == {
        name: round(row["ratio"], 1) for name, row in measured.items()
    }
    assert costs.keys() - measured.keys() <= records().keys()  # the others were there when costs were measured
