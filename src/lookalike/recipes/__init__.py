"""Recipes: the only layer that turns configuration into objects."""

from lookalike.recipes.build import (
    build_descriptor,
    build_encoder,
    build_method,
    build_optimization,
    build_views,
    method_name,
    view_size,
)
from lookalike.recipes.choose import Choice, choose
from lookalike.recipes.limits import delays
from lookalike.recipes.load import asked, dump, header, load, names, text, with_values
from lookalike.recipes.mistakes import suggested
from lookalike.recipes.schema import Data, Recipe, RecipeError
from lookalike.recipes.surround import cost, notes
from lookalike.recipes.tables import METHODS, TASKS, VIEWS, WRAPPERS
from lookalike.recipes.wrappers import With, asked_for

__all__ = [
    "METHODS",
    "TASKS",
    "VIEWS",
    "WRAPPERS",
    "Choice",
    "Data",
    "Recipe",
    "RecipeError",
    "With",
    "asked",
    "asked_for",
    "build_descriptor",
    "build_encoder",
    "build_method",
    "build_optimization",
    "build_views",
    "choose",
    "cost",
    "delays",
    "dump",
    "header",
    "load",
    "method_name",
    "names",
    "notes",
    "suggested",
    "text",
    "view_size",
    "with_values",
]
