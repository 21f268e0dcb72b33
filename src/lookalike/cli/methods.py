"""lookalike methods: what can be trained."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Column, Table

WIDE = 140  # columns of a terminal in which a row of the table is read with ease
HEADS = ("paper", "agrees with", "pushed away from", "networks", "memory", "take it for")


def methods() -> None:
    """List the methods, and what can be added to any of them."""
    from lookalike.api import list_methods, list_wrappers

    console, rows = Console(highlight=False), []
    for method in list_methods():
        facts, cost = method.facts, "" if method.cost is None else f"{method.cost:.1f}"
        paper = f"{method.paper} A reconstruction." if method.reconstruction else method.paper
        rows.append((method.name, cost, paper, facts.target, facts.negatives, facts.networks, facts.memory, facts.when))
    if console.width >= WIDE:
        _table(console, rows)
    else:
        _paragraphs(console, rows)
    console.print(
        "cost: of a step on the small bench, beside one of simclr (benchmarks/results/costs-*.json), where measured\n"
    )
    added = Table(Column("--with", no_wrap=True), "what it adds to any method", "in each step", box=box.SIMPLE)
    for wrapper in list_wrappers():
        added.add_row(wrapper.name, wrapper.what, wrapper.cost)
    console.print(added)
    print("next: lookalike pretrain FOLDER --method NAME; settings: lookalike recipes")


def _table(console: Console, rows: Sequence[Sequence[str]]) -> None:
    table = Table(Column("method", no_wrap=True), Column("cost", justify="right"), *HEADS, box=box.SIMPLE)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _paragraphs(console: Console, rows: Sequence[Sequence[str]]) -> None:
    for name, cost, paper, target, negatives, networks, memory, when in rows:
        console.print(f"[bold]{name}[/bold]: {paper}")
        console.print(f"  agrees with: {target}; pushed away from: {negatives}")
        console.print(f"  networks: {networks}; memory: {memory}; cost: {cost or 'not measured'}; take it for: {when}")
