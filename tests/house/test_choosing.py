"""The guide to choosing a method: its table of costs is counted anew, and it knows every method."""

import re
from collections import Counter

import pytest
from sources import REPOSITORY
from torch import Tensor, nn

from lookalike.api.tiny import batch, tiny
from lookalike.modules import Bank, Clusters, InstanceClasses, MomentumEncoder, NormedPrototypes, Prototypes, Queue
from lookalike.recipes import METHODS

TEXT = (REPOSITORY / "docs/guides/choosing.md").read_text()
ROWS = {name: cells for name, *cells in re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \| (.*?) ?\|$", TEXT, re.MULTILINE)}
KEPT = {
    MomentumEncoder: "momentum encoder",
    Queue: "queue",
    Prototypes: "prototypes",
    NormedPrototypes: "prototypes",
    Bank: "a row per image",
    Clusters: "a label per image",
    InstanceClasses: "a weight per image",
}


def test_every_method_is_in_the_table_and_in_the_advice():
    assert list(ROWS) == list(METHODS)
    advice = TEXT[: TEXT.index("## What a step costs")]
    assert {name for name in METHODS if f"`{name}`" not in advice} == {"debiased"}  # an option of SimCLR's users


@pytest.mark.parametrize("name", METHODS)
def test_the_cost_of_a_step_is_what_is_counted(name: str) -> None:
    method, rows, seen = tiny(name), 12, Counter[bool]()

    def count(module: nn.Module, given: object, features: Tensor) -> None:
        seen[features.requires_grad] += len(features)

    method.encoder.register_forward_hook(count)
    slow = [part for part in method.modules() if isinstance(part, MomentumEncoder)]
    if slow:
        slow[0].copies[0].register_forward_hook(count)
    method(batch(method, rows))
    kept = {KEPT[type(part)] for part in method.modules() if type(part) in KEPT}
    with_gradient, without, memory = ROWS[name]
    assert (seen[True], seen[False]) == (rows * int(with_gradient), rows * int(without))
    assert set(filter(None, memory.split(", "))) == kept
