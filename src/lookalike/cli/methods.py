"""lookalike methods: what can be trained."""

from rich import box
from rich.console import Console
from rich.table import Column, Table


def methods() -> None:
    """List the methods: paper, and where negatives come from."""
    from lookalike.api import list_methods

    table = Table(Column("method", no_wrap=True), "paper", "negatives", box=box.SIMPLE, pad_edge=False)
    for method in list_methods():
        paper = f"{method.paper} A reconstruction." if method.reconstruction else method.paper
        table.add_row(method.name, paper, method.negatives)
    Console(highlight=False).print(table)
    print("next: lookalike pretrain FOLDER --method NAME, or the settings: lookalike recipes")
