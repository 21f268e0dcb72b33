"""Pure tensor functions: no state, no hidden randomness.

Exported, and documented in the reference, is what the pages of `methods/` compute their objectives from. The parts
below objectives are imported from their own modules: collectives, random, order, schedules, crops, sweeps, shards.
"""

from lookalike.functional.boxes import overlap
from lookalike.functional.classes import Classified, ClassTarget, class_contrast, class_gradients
from lookalike.functional.clusters import one_member
from lookalike.functional.contrast import Contrast, Target, contrast, relations, soft_contrast
from lookalike.functional.divergence import kl_divergence
from lookalike.functional.hardest import hardest_classes
from lookalike.functional.in_batch import in_batch_contrast, nt_xent
from lookalike.functional.live_keys import live_contrast
from lookalike.functional.margin import Margin
from lookalike.functional.mixing import mixed_negatives
from lookalike.functional.negatives import debiased, decoupled
from lookalike.functional.neighbors import Nearest, nearest_keys, resembling
from lookalike.functional.normalization import ISC2021, SSCD, Normalization, background_level, with_level, with_one
from lookalike.functional.other_clusters import negatives_of_other_clusters
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
from lookalike.functional.relabel import Relabeled, relabeled, relabeled_distance
from lookalike.functional.sampled import drawn_contrast, mean_exponential, nce
from lookalike.functional.similarity import byol_distance, cosine, paired_cosine, unit
from lookalike.functional.sinkhorn import sinkhorn
from lookalike.functional.sphere import alignment, uniformity
from lookalike.functional.supervised import sup_con

__all__ = [
    "ISC2021",
    "SSCD",
    "ClassTarget",
    "Classified",
    "Contrast",
    "Margin",
    "Nearest",
    "Normalization",
    "OperatingPoint",
    "Predictions",
    "Ranking",
    "Relabeled",
    "Spread",
    "Target",
    "alignment",
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
    "drawn_contrast",
    "hardest_classes",
    "in_batch_contrast",
    "kl_divergence",
    "live_contrast",
    "mean_exponential",
    "micro_average_precision",
    "mixed_negatives",
    "nce",
    "nearest_keys",
    "negatives_of_other_clusters",
    "nt_xent",
    "one_member",
    "overlap",
    "paired_cosine",
    "ranking",
    "recall_at_precision",
    "relabeled",
    "relabeled_distance",
    "relations",
    "resampled_average_precision",
    "resembling",
    "sinkhorn",
    "soft_contrast",
    "spread",
    "sup_con",
    "true_ranks",
    "uniformity",
    "unit",
    "with_level",
    "with_one",
]
