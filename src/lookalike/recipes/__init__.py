"""Recipes: the only layer that turns configuration into objects."""

from lookalike.recipes.build import (
    build_encoder,
    build_method,
    build_optimization,
    build_views,
    method_name,
    view_size,
)
from lookalike.recipes.choose import Choice, choose
from lookalike.recipes.load import asked, dump, header, load, names, text, with_values
from lookalike.recipes.mistakes import suggested
from lookalike.recipes.schema import Data, Recipe, RecipeError
from lookalike.recipes.tables import METHODS, VIEWS

__all__ = [
    "METHODS",
    "VIEWS",
    "Choice",
    "Data",
    "Recipe",
    "RecipeError",
    "asked",
    "build_encoder",
    "build_method",
    "build_optimization",
    "build_views",
    "choose",
    "dump",
    "header",
    "load",
    "method_name",
    "names",
    "suggested",
    "text",
    "view_size",
    "with_values",
]
