"""doctor's sentences, and the steps and curves at which they are marked."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lookalike.api.symptoms import CHANGES, WAITING, Finding

Rows = Sequence[Mapping[str, Any]]
COLLAPSE = "collapse while training"
HEALTH = ("loss", "rank", "spread", "cosine")


@dataclass(frozen=True)
class Mark:
    """A sentence about a run; steps and keys of curves are empty where it belongs to no place of them."""

    what: str
    sentence: str
    steps: list[int]
    curves: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def marks(findings: Sequence[Finding], rows: Rows) -> list[Mark]:
    """First what was named while training, where it was named; then what doctor finds now."""
    named = [row for row in rows if isinstance(row.get("collapse"), str)]
    found = [Mark(COLLAPSE, row["collapse"], [row["step"]], list(HEALTH)) for row in named]
    return found + [_placed(finding, rows) for finding in findings if not (named and finding.what == COLLAPSE)]


def _placed(finding: Finding, rows: Rows) -> Mark:
    steps, keys = list[int](), list[str]()
    training = [row for row in rows if not row.get("probe")]
    if finding.what in CHANGES:  # a collapse that the last reading shows
        steps, keys = [row["step"] for row in rows if row.get("probe") and "rank" in row][-1:], list(HEALTH)
    elif finding.what == "loss not falling":
        steps, keys = [row["step"] for row in training][-1:], ["loss"]
    elif finding.what == "dropped steps":
        steps, keys = [row["step"] for row in training if row.get("dropped")], ["loss", "gradient_norm"]
    elif finding.what == "starved loader":
        waiting = [row["step"] for row in training[1:] if (row.get("wait") or 0) > WAITING]
        steps, keys = waiting[:1], ["wait"]
    return Mark(finding.what, finding.sentence, steps, keys)
