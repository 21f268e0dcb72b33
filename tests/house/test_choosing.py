"""Choosing a method: what a step costs is counted anew, in the guide's table and in the lines of method pages."""

import re
from collections import Counter

import pytest
from sources import REPOSITORY
from torch import Tensor, nn

from lookalike.api.tiny import batch, prepared, tiny
from lookalike.modules import Bank, Clusters, InstanceClasses, MomentumEncoder, NormedPrototypes, Prototypes, Queue
from lookalike.recipes import METHODS
from methods.records import records


def rows(path: str) -> dict[str, list[str]]:
    """Method -> views with gradient, views without, what is kept: the lines of a page's table of costs."""
    text = (REPOSITORY / "docs" / path).read_text()
    found = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \| (.*?) ?\|$", text, re.MULTILINE)
    return {name: cells for name, *cells in found}


GUIDE, OWN = rows("guides/choosing.md"), {name: rows(f"methods/{name}.md") for name in METHODS}
ROWS = GUIDE | {name: cells for page in OWN.values() for name, cells in page.items()}
KEPT = {
    MomentumEncoder: "momentum encoder",
    Queue: "queue",
    Prototypes: "prototypes",
    NormedPrototypes: "prototypes",
    Bank: "a row per image",
    Clusters: "a label per image",
    InstanceClasses: "a weight per image",
}


def test_every_method_is_in_the_table_and_in_the_advice_or_has_a_line_on_its_page():
    assert list(GUIDE) == [name for name in METHODS if name not in records()]
    assert {name: list(page) for name, page in OWN.items() if page} == {name: [name] for name in records()}
    advice = (REPOSITORY / "docs/guides/choosing.md").read_text().partition("## What a step costs")[0]
    assert {name for name in GUIDE if f"`{name}`" not in advice} == {"debiased"}  # an option of SimCLR's users


@pytest.mark.parametrize("name", METHODS)
def test_the_cost_of_a_step_is_what_is_counted(name: str) -> None:
    method, rows, seen = prepared(tiny(name)), 12, Counter[bool]()

    def count(module: nn.Module, given: object, features: Tensor) -> None:
        seen[features.requires_grad] += len(features)

    learner = method.query if name == "qk_iteration" else method  # the key network is frozen while it learns
    learner.encoder.register_forward_hook(count)
    slow = [part for part in method.modules() if isinstance(part, MomentumEncoder)]
    if slow:
        slow[0].copies[0].register_forward_hook(count)
    method(batch(method, rows))
    kept = {KEPT[type(part)] for part in method.modules() if type(part) in KEPT}
    with_gradient, without, memory = ROWS[name]
    assert (seen[True], seen[False]) == (rows * int(with_gradient), rows * int(without))
    assert set(filter(None, memory.split(", "))) == kept
