"""lookalike methods: what can be trained."""

from functools import partial

from rich import box
from rich.console import Console
from rich.table import Column, Table


def methods() -> None:
    """List the methods: paper, where negatives come from, recipes."""
    from lookalike.api import list_methods

    whole = partial(Column, no_wrap=True)  # names are there to be copied
    table = Table(whole("method"), "paper", "negatives", whole("recipes"), box=box.SIMPLE, pad_edge=False)
    for method in list_methods():
        paper = f"{method.paper} A reconstruction." if method.reconstruction else method.paper
        table.add_row(method.name, paper, method.negatives, "\n".join(method.recipes))
    Console(highlight=False).print(table)
    print("next: lookalike pretrain FOLDER --method NAME, or the settings: lookalike recipes")
