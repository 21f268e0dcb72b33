"""lookalike methods: what can be trained."""

from rich import box
from rich.console import Console
from rich.table import Column, Table


def methods() -> None:
    """List the methods, and what can be added to any of them."""
    from lookalike.api import list_methods, list_wrappers

    table = Table(Column("method", no_wrap=True), "paper", "negatives", box=box.SIMPLE, pad_edge=False)
    for method in list_methods():
        paper = f"{method.paper} A reconstruction." if method.reconstruction else method.paper
        table.add_row(method.name, paper, method.negatives)
    Console(highlight=False).print(table)
    added = Table(
        Column("--with", no_wrap=True), "what it adds to any method", "in each step", box=box.SIMPLE, pad_edge=False
    )
    for wrapper in list_wrappers():
        added.add_row(wrapper.name, wrapper.what, wrapper.cost)
    Console(highlight=False).print(added)
    print("next: lookalike pretrain FOLDER --method NAME, or the settings: lookalike recipes")
