"""What evaluate --protocol copy prints: a line for each way of scoring, and which edits hide a copy."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from lookalike.api import Report
    from lookalike.evaluation import EditRow

FOUND = ("recall@P90", "recall@1", "recall@10", "false positives")
STRENGTHS = (1, 2, 3, 4, 5)


def show_copies(report: "Report") -> None:
    """The scores as a table, the trained encoder's last, and under it its edits where they are known."""
    table = Table("encoder", "normalization", "dim", "uAP %", "95 % interval", *FOUND, box=box.SIMPLE, pad_edge=False)
    for name in sorted(report.scores, key=lambda name: name == "trained"):
        for score in report.scores[name]:
            settings = score.protocol.settings
            whitened = "" if settings["whitening"] == "none" else f", {settings['whitening']}"
            low, high = score.interval or (score.value, score.value)
            table.add_row(
                name,
                f"{settings['normalization']}{whitened}",
                str(settings["dim"]),
                _share(score.value),
                f"{100 * low:.1f} to {100 * high:.1f}",
                *(_share(score.found.get(column, math.nan)) for column in FOUND),
            )
    console = Console(highlight=False)
    console.print(table)
    if report.edits:
        console.print(_of_edits(report.edits))


def _of_edits(rows: Sequence["EditRow"]) -> Table:
    """A line for each family: its copies, measures at all strengths, and uAP at each."""
    strengths = [f"uAP at {strength}" for strength in STRENGTHS]
    table = Table("edit", "copies", "uAP %", *FOUND[:2], FOUND[3], *strengths, box=box.SIMPLE, pad_edge=False)
    uap = {(row.family, row.strength): row.uap for row in rows}
    for row in rows:
        if row.strength is None:
            measures = (row.uap, row.recall_90, row.recall_1, row.false_positives)
            at = (uap.get((row.family, strength), math.nan) for strength in STRENGTHS)
            table.add_row(row.family, str(row.pairs), *map(_share, (*measures, *at)))
    return table


def _share(value: float | int | str) -> str:
    """In percent; a word as it is; nothing for what was not measured."""
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{100 * value:.1f}"
