"""docs/evaluation.md says what the probes do: every protocol is there, and its numbers are those of the code."""

import re

from sources import REPOSITORY

from lookalike.api.by_masks import MASKS
from lookalike.api.copies import COPIES
from lookalike.api.protocols import PROBES
from lookalike.evaluation import DRAWS, FINETUNE, LINEAR, PENALTIES, PROTOCOLS, SHARES
from lookalike.evaluation.linear import MANY

GUIDE = (REPOSITORY / "docs" / "evaluation.md").read_text()


def rows(head: str) -> list[list[str]]:
    """The cells of the table that begins with `head`."""
    table = GUIDE.partition(head)[2].partition("\n\n")[0]
    return [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def test_every_protocol_is_described():
    assert [row[0] for row in rows("| `--protocol`")] == [*PROBES, *COPIES, *MASKS]
    assert re.findall(r"^### (\w+)$", GUIDE, re.MULTILINE) == [*PROBES, *COPIES, *MASKS]


def test_the_papers_numbers_are_those_of_the_code():
    for name, rate, epochs, batch, _, momentum, decay, _ in rows("| Name | Rate"):
        course = LINEAR[name]
        assert (float(rate), int(epochs), int(batch.split()[0])) == (course.rate, course.epochs, course.batch)
        assert ("Nesterov" in momentum) == course.nesterov
        assert course.weight_decay == (1e-6 if decay == "10⁻⁶" else float(decay))
    assert {row[0] for row in rows("| Name | Rate")} == set(LINEAR)


def test_our_numbers_are_those_of_the_code():
    assert f"{FINETUNE.epochs} epochs, batches of {FINETUNE.batch}" in GUIDE
    assert f"a rate of {FINETUNE.rate}" in GUIDE
    assert (len(PENALTIES), max(PENALTIES), min(PENALTIES)) == (15, 10.0, 1e-6)
    assert f"{MANY:,} training images or more" in GUIDE
    assert (SHARES, DRAWS) == ((0.01, 0.1), 3)
    assert " and ".join(str(protocol) for protocol in PROTOCOLS) in GUIDE
