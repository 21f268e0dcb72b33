"""Probes: they take any encoder and iterables of pixels, and give numbers that carry their protocol."""

from lookalike.evaluation.features import Features, evaluating, extract, fingerprint, stream
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
from lookalike.evaluation.neighbors import Neighbors, nearest
from lookalike.evaluation.references import RawPixels, random_weights
from lookalike.evaluation.score import Protocol, Score, compare, interval

__all__ = [
    "PROTOCOLS",
    "Diagnosis",
    "Features",
    "Health",
    "KnnResult",
    "Neighbors",
    "Protocol",
    "RawPixels",
    "Reading",
    "Score",
    "alignment",
    "compare",
    "diagnose",
    "evaluating",
    "extract",
    "fingerprint",
    "health",
    "interval",
    "knn",
    "nearest",
    "random_weights",
    "rankme",
    "stream",
    "uniformity",
    "vote",
]
