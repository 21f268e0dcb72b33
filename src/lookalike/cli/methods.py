"""lookalike methods: what can be trained."""

from rich import box
from rich.console import Console
from rich.table import Table


def methods() -> None:
    """List the methods: paper, where negatives come from, recipes."""
    from lookalike.api import list_methods

    table = Table("method", "paper", "negatives", "recipes", box=box.SIMPLE, pad_edge=False)
    for method in list_methods():
        table.add_row(method.name, method.paper, method.negatives, "\n".join(method.recipes))
    Console(highlight=False).print(table)
    print("next: lookalike pretrain FOLDER --method NAME, or the settings: lookalike recipes")
