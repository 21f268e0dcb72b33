"""Edits that people make when they copy a picture: families with five strengths, and compositions of them."""

from lookalike.transforms.edits.compose import (
    COLUMNS,
    FAMILIES,
    HELD_OUT,
    MOST,
    OTHERS,
    TRAINED,
    Other,
    composed,
    drawn,
    edited,
)
from lookalike.transforms.edits.family import NUMBERS, STRENGTHS, Edit, Family

__all__ = [
    "COLUMNS",
    "FAMILIES",
    "HELD_OUT",
    "MOST",
    "NUMBERS",
    "OTHERS",
    "STRENGTHS",
    "TRAINED",
    "Edit",
    "Family",
    "Other",
    "composed",
    "drawn",
    "edited",
]
