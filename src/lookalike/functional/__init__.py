"""Pure tensor functions: no state, no hidden randomness."""

from lookalike.functional.classes import Classified, ClassTarget, class_contrast, class_gradients
from lookalike.functional.contrast import Contrast, Target, contrast, relations, soft_contrast
from lookalike.functional.hardest import hardest_classes
from lookalike.functional.in_batch import in_batch_contrast, nt_xent
from lookalike.functional.margin import Margin
from lookalike.functional.negatives import debiased, decoupled
from lookalike.functional.normalization import (
    ISC2021,
    SSCD,
    Normalization,
    background_level,
    with_level,
    with_one,
)
from lookalike.functional.ranking import (
    OperatingPoint,
    Predictions,
    Ranking,
    micro_average_precision,
    ranking,
    recall_at_precision,
    resampled_average_precision,
    true_ranks,
)
from lookalike.functional.redundancy import Spread, barlow_twins, cross_correlation, spread
from lookalike.functional.similarity import byol_distance, cosine, paired_cosine, unit
from lookalike.functional.supervised import sup_con

__all__ = [
    "ISC2021",
    "SSCD",
    "ClassTarget",
    "Classified",
    "Contrast",
    "Margin",
    "Normalization",
    "OperatingPoint",
    "Predictions",
    "Ranking",
    "Spread",
    "Target",
    "background_level",
    "barlow_twins",
    "byol_distance",
    "class_contrast",
    "class_gradients",
    "contrast",
    "cosine",
    "cross_correlation",
    "debiased",
    "decoupled",
    "hardest_classes",
    "in_batch_contrast",
    "micro_average_precision",
    "nt_xent",
    "paired_cosine",
    "ranking",
    "recall_at_precision",
    "relations",
    "resampled_average_precision",
    "soft_contrast",
    "spread",
    "sup_con",
    "true_ranks",
    "unit",
    "with_level",
    "with_one",
]
