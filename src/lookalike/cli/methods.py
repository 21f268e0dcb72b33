"""lookalike methods: what can be trained."""

from rich import box
from rich.console import Console
from rich.table import Column, Table


def methods() -> None:
    """List the methods: paper, where negatives come from, recipes."""
    from lookalike.api import list_methods

    listed = list_methods()
    names, settings = (Column(header, no_wrap=True) for header in ("method", "recipes"))
    table = Table(names, "paper", "negatives", settings, box=box.SIMPLE, pad_edge=False)
    for method in listed:
        paper = f"{method.paper} A reconstruction." if method.reconstruction else method.paper
        table.add_row(method.name, paper, method.negatives, "\n".join(method.recipes))
    Console(highlight=False).print(table)
    print("next: lookalike pretrain FOLDER --method NAME, or the settings: lookalike recipes")
