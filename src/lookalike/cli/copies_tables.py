"""What evaluate --protocol copy prints: a line for each way of scoring, and which edits hide a copy."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Column, Table

if TYPE_CHECKING:
    from lookalike.api import Report
    from lookalike.evaluation import EditRow

FOUND = ("recall@P90", "recall@1", "recall@10", "false positives")
HEADS = {name: name.replace("@", "\n@").replace(" ", "\n") for name in FOUND}  # on two lines
STRENGTHS = (1, 2, 3, 4, 5)


def show_copies(report: "Report") -> None:
    """The scores as a table, the trained encoder's last, and under it its edits where they are known."""
    table = _table(["encoder", "normalization"], ["dim", "uAP %", "95 %\ninterval", *(HEADS[name] for name in FOUND)])
    for name in sorted(report.scores, key=lambda name: name == "trained"):
        for score in report.scores[name]:
            settings = score.protocol.settings
            whitened = "" if settings["whitening"] == "none" else f",\n{settings['whitening']}"
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
    strengths = [f"uAP\nat {strength}" for strength in STRENGTHS]
    table = _table(["edit"], ["copies", "uAP %", *(HEADS[name] for name in FOUND if name != "recall@10"), *strengths])
    uap = {(row.family, row.strength): row.uap for row in rows}
    for row in rows:
        if row.strength is None:
            measures = (row.uap, row.recall_90, row.recall_1, row.false_positives)
            at = (uap.get((row.family, strength), math.nan) for strength in STRENGTHS)
            table.add_row(row.family, str(row.pairs), *map(_share, (*measures, *at)))
    return table


def _table(words: Sequence[str], numbers: Sequence[str]) -> Table:
    """Columns one space apart, which fit 80: only the first one gives way, where its names are long."""
    first, *others = words
    columns = [Column(name, no_wrap=True) for name in others]
    columns += [Column(name, no_wrap=True, justify="right") for name in numbers]
    return Table(Column(first, overflow="fold"), *columns, box=box.SIMPLE, padding=0, show_edge=False)


def _share(value: float | int | str) -> str:
    """In percent; a word as it is; nothing for what was not measured."""
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{100 * value:.1f}"
