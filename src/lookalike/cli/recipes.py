"""lookalike recipes: the library of settings."""

from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Column, Table

Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print this recipe")]


def recipes(name: Name = None) -> None:
    """List the recipes with paper and claim, or print one."""
    from lookalike.api import SMOKE, list_recipes
    from lookalike.recipes import text

    if name is not None:
        print(text(name))
        print(f"# next: lookalike pretrain FOLDER --recipe {name}")
        return
    table = Table(Column("recipe", no_wrap=True), "paper", "claim", box=box.SIMPLE, pad_edge=False)
    for recipe in list_recipes():
        table.add_row(recipe.name, recipe.paper, recipe.claim)
    Console(highlight=False).print(table)
    print(f"NAME{SMOKE} is NAME in miniature, to see that it runs")
    print("next: lookalike recipes NAME, or lookalike pretrain FOLDER --recipe NAME")
