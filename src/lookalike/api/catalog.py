"""list_methods, list_wrappers, list_recipes: what can be trained, what can be added, and with which settings."""

import inspect
import json
from dataclasses import dataclass
from importlib.resources import files

from lookalike.methods.facts import Facts
from lookalike.methods.method import Method
from lookalike.recipes import METHODS, TASKS, WRAPPERS, With, cost, header, load, method_name, names

SMOKE = "_smoke"  # a recipe in miniature: it shows that the one without the ending runs


@dataclass(frozen=True)
class MethodFacts:
    """A method: its paper, its row of the table (facts), and the library recipes that train it.

    cost: a step on the small bench, beside one of simclr (benchmarks/costs.py); None where it was not measured.
    reconstruction: what no source says of how it is done, "" where the sources say enough.
    """

    name: str
    paper: str
    facts: Facts
    cost: float | None
    recipes: tuple[str, ...]
    reconstruction: str


@dataclass(frozen=True)
class AdditionFacts:
    """What `with` adds to any method: its name there, what it does, and what it costs in each step by default."""

    name: str
    what: str
    cost: str


@dataclass(frozen=True)
class RecipeFacts:
    """A library recipe: its method, the paper, and what it claims to reach, with the file that supports it."""

    name: str
    method: str
    paper: str
    claim: str


def list_methods() -> list[MethodFacts]:
    """Every method that `pretrain` knows, in the order of the table of methods."""
    costs = json.loads((files("lookalike.recipes") / "costs.json").read_text())
    trained_by = {recipe.name: recipe.method for recipe in list_recipes()}
    return [
        MethodFacts(
            name=name,
            paper=_title(method),
            facts=method.facts,
            cost=costs.get(name),
            recipes=tuple(recipe for recipe, kind in trained_by.items() if kind == name),
            reconstruction=method.reconstruction,
        )
        for name, method in METHODS.items()
    ]


def list_wrappers() -> list[AdditionFacts]:
    """What may surround a method, in the order of the table of wrappers."""
    sections = With.model_validate({name: {} for name in WRAPPERS}).asked
    return [
        AdditionFacts(
            name=name,
            what=(inspect.getdoc(TASKS[name]) or "").partition("\n")[0] if name in TASKS else _title(method),
            cost=cost(name, sections[name], dict(sections[name]).get("views", 0)),
        )
        for name, method in WRAPPERS.items()
    ]


def list_recipes() -> list[RecipeFacts]:
    """Every recipe of the library but those in miniature, by name; the text of one: `lookalike.recipes.text`."""
    facts = []
    for name in names():
        if name.endswith(SMOKE):
            continue
        said = header(name)
        facts.append(
            RecipeFacts(name, method_name(load(name)), paper=said.get("paper", ""), claim=said.get("claim", ""))
        )
    return facts


def _title(method: type[Method]) -> str:
    """The first line of the method's page."""
    return (inspect.getdoc(inspect.getmodule(method)) or "").partition("\n")[0]
