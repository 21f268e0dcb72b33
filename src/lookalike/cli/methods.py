"""lookalike methods: what can be trained."""

from rich import box
from rich.console import Console
from rich.table import Column, Table

WIDE = 140  # columns of a terminal in which a row of the table is read with ease


def methods() -> None:
    """List the methods, and what can be added to any of them."""
    from lookalike.api import list_methods, list_wrappers
    from lookalike.api.catalog import MethodFacts

    console = Console(highlight=False)
    found = list_methods()

    def costs(method: MethodFacts) -> str:
        return "" if method.cost is None else f"{method.cost:.1f}"

    if console.width >= WIDE:
        heads = ("paper", "agrees with", "pushed away from", "networks", "memory", "take it for")
        table = Table(Column("method", no_wrap=True), Column("cost", justify="right"), *heads, box=box.SIMPLE)
        for one in found:
            facts = one.facts
            row = (facts.target, facts.negatives, facts.networks, facts.memory, facts.when)
            table.add_row(one.name, costs(one), _paper(one.paper, one.reconstruction), *row)
        console.print(table)
    else:
        for one in found:
            facts, cost = one.facts, f", a step costs {costs(one)}" if one.cost is not None else ""
            console.print(f"[bold]{one.name}[/bold]: {_paper(one.paper, one.reconstruction)}", soft_wrap=False)
            console.print(f"  agrees with: {facts.target}; pushed away from: {facts.negatives}")
            console.print(f"  networks: {facts.networks}; memory: {facts.memory}{cost}; for: {facts.when}")
    print("cost: of a step on the small bench, beside one of simclr (benchmarks/results/costs-*.json)\n")
    added = Table(Column("--with", no_wrap=True), "what it adds to any method", "in each step", box=box.SIMPLE)
    for wrapper in list_wrappers():
        added.add_row(wrapper.name, wrapper.what, wrapper.cost)
    console.print(added)
    print("next: lookalike pretrain FOLDER --method NAME, or the settings: lookalike recipes")


def _paper(title: str, reconstruction: str) -> str:
    return f"{title} A reconstruction." if reconstruction else title
