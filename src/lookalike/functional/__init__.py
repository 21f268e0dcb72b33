"""Pure tensor functions: no state, no hidden randomness."""

from lookalike.functional.contrast import Contrast, Target, contrast, relations, soft_contrast
from lookalike.functional.in_batch import in_batch_contrast, nt_xent
from lookalike.functional.similarity import byol_distance, cosine, paired_cosine, unit
from lookalike.functional.supervised import sup_con

__all__ = [
    "Contrast",
    "Target",
    "byol_distance",
    "contrast",
    "cosine",
    "in_batch_contrast",
    "nt_xent",
    "paired_cosine",
    "relations",
    "soft_contrast",
    "sup_con",
    "unit",
]
