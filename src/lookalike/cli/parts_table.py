"""What evaluate prints under the scores by masks: the trained encoder's classes or clips, the lowest first."""

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from lookalike.api import Report

MOST = 12  # lines; all are in evaluation.json


def show_parts(report: "Report") -> None:
    """A table of the lowest by their first value, and how many are not shown; nothing where there are no parts."""
    if not report.parts:
        return
    names = list(report.parts[0].values)
    table = Table("lowest", "objects", *(f"{name} %" for name in names), box=box.SIMPLE, pad_edge=False)
    for part in sorted(report.parts, key=lambda part: part.values[names[0]])[:MOST]:
        table.add_row(part.name, str(part.objects), *(f"{100 * value:.1f}" for value in part.values.values()))
    console = Console(highlight=False)
    console.print(table)
    if len(report.parts) > MOST:
        console.print(f"and {len(report.parts) - MOST} more in evaluation.json\n")
