"""Probes: they take any encoder and iterables of pixels, and give numbers that carry their protocol."""

from lookalike.evaluation.copy_detection import CopyResult, EditRow, by_edit, copy_detection
from lookalike.evaluation.features import Features, extract, fingerprint, stream
from lookalike.evaluation.few import DRAWS, SHARES, few, nearest_mean, shots
from lookalike.evaluation.finetune import FINETUNE, LINEAR, Course, finetune
from lookalike.evaluation.hashes import ColorHistogram, DifferenceHash, PerceptualHash
from lookalike.evaluation.health import (
    Diagnosis,
    Health,
    Reading,
    alignment,
    diagnose,
    health,
    rankme,
    uniformity,
)
from lookalike.evaluation.knn import PROTOCOLS, KnnResult, knn, vote
from lookalike.evaluation.linear import PENALTIES, LinearModel, LinearResult, fit, linear
from lookalike.evaluation.neighbors import Neighbors, Pairs, nearest, nearest_pairs
from lookalike.evaluation.propagation import (
    boundary_accuracy,
    carry,
    object_scores,
    objects_of,
    propagate,
    region_similarity,
    video_score,
)
from lookalike.evaluation.references import PixelMaps, RawPixels, random_weights
from lookalike.evaluation.retrieval import RANKS, RetrievalResult, retrieval
from lookalike.evaluation.score import Answers, Protocol, Score, brief, compare, interval, mean_interval
from lookalike.evaluation.segments import Segment, SegmentResult, segment_class, segment_retrieval, segment_row
from lookalike.evaluation.svm import SvmResult, average_precision, svm
from lookalike.evaluation.whitening import Whitening, whitening
from lookalike.evaluation.worth import Worth, paired, worth

__all__ = [
    "DRAWS",
    "FINETUNE",
    "LINEAR",
    "PENALTIES",
    "PROTOCOLS",
    "RANKS",
    "SHARES",
    "Answers",
    "ColorHistogram",
    "CopyResult",
    "Course",
    "Diagnosis",
    "DifferenceHash",
    "EditRow",
    "Features",
    "Health",
    "KnnResult",
    "LinearModel",
    "LinearResult",
    "Neighbors",
    "Pairs",
    "PerceptualHash",
    "PixelMaps",
    "Protocol",
    "RawPixels",
    "Reading",
    "RetrievalResult",
    "Score",
    "Segment",
    "SegmentResult",
    "SvmResult",
    "Whitening",
    "Worth",
    "alignment",
    "average_precision",
    "boundary_accuracy",
    "brief",
    "by_edit",
    "carry",
    "compare",
    "copy_detection",
    "diagnose",
    "extract",
    "few",
    "finetune",
    "fingerprint",
    "fit",
    "health",
    "interval",
    "knn",
    "linear",
    "mean_interval",
    "nearest",
    "nearest_mean",
    "nearest_pairs",
    "object_scores",
    "objects_of",
    "paired",
    "propagate",
    "random_weights",
    "rankme",
    "region_similarity",
    "retrieval",
    "segment_class",
    "segment_retrieval",
    "segment_row",
    "shots",
    "stream",
    "svm",
    "uniformity",
    "video_score",
    "vote",
    "whitening",
    "worth",
]
