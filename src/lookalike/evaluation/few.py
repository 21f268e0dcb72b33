"""Probes with few labels: which training rows keep theirs, and the classifier of the nearest class mean.

    linear(rows[kept], labels[kept], test_rows, test_labels)          where kept = few(labels, 0.01, seed=0)

Shapes: N train rows, M test rows, n rows that keep their labels, D features, C classes.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from lookalike.evaluation.linear import demand_labels
from lookalike.evaluation.score import Answers
from lookalike.functional import random

SHARES = (0.01, 0.1)  # of the labels of each class: SimCLR (arXiv 2002.05709), 4.2
DRAWS = 3  # sets of labels over which a score is the mean; our choice


def few(labels_N: Int64[Tensor, "N"], share: float, seed: int) -> Int64[Tensor, "n"]:
    """The rows that keep their labels: `share` of each class, rounded, and at least one.

    In the order of their numbers. A smaller share is part of a larger one with the same seed. Raises ValueError for a
    share that is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share of labels is {share}: give a number above 0 and at most 1")
    kept = [own[: max(1, round(share * len(own)))] for own in _drawn(labels_N, seed).values()]
    return torch.cat(kept).sort().values


def shots(labels_N: Int64[Tensor, "N"], n: int, seed: int) -> Int64[Tensor, "n"]:
    """`n` rows of each class, in the order of their numbers; fewer are part of more with the same seed.

    Raises ValueError for n < 1, and where a class has fewer rows.
    """
    drawn = _drawn(labels_N, seed)
    label, least = min(((label, len(own)) for label, own in drawn.items()), key=lambda pair: pair[1])
    if not 1 <= n <= least:
        raise ValueError(f"{n} shots cannot be drawn: class {label} has {least} training images; use 1 to {least}")
    return torch.cat([own[:n] for own in drawn.values()]).sort().values


def nearest_mean(
    train_rows: Float[Tensor, "N D"],
    train_labels: Int64[Tensor, "N"],
    test_rows: Float[Tensor, "M D"],
    test_labels: Int64[Tensor, "M"],
) -> Answers:
    """The class whose mean of unit rows is most similar by cosine; of equals the lowest. Nothing is chosen.

    Raises ValueError as `linear` does. Snell et al., "Prototypical networks for few-shot learning", 2017 (arXiv
    1703.05175), with the cosine in place of the squared distance.
    """
    classes = demand_labels(train_labels, test_labels, None)
    unit_ND, labels_N = normalize(train_rows.double(), dim=1), train_labels.to(train_rows.device)
    counts_C = labels_N.bincount(minlength=classes)
    sums_CD = unit_ND.new_zeros(classes, unit_ND.shape[1]).index_add_(0, labels_N, unit_ND)
    mean_CD = normalize(sums_CD, dim=1)  # a mean points where its sum does
    similarity_MC = normalize(test_rows.double(), dim=1) @ mean_CD.T
    similarity_MC[:, counts_C == 0] = -torch.inf
    return Answers(hits=(similarity_MC.argmax(1).cpu() == test_labels.cpu()), n_train=len(train_labels))


def _drawn(labels_N: Tensor, seed: int) -> dict[int, Tensor]:
    """For each class its rows in a random order that depends on the seed, the class and its own rows alone."""
    drawn = {}
    for label in labels_N.unique().tolist():
        own = (labels_N == label).nonzero()[:, 0].cpu()
        drawn[label] = own[torch.randperm(len(own), generator=random.generator("few labels", seed, label))]
    return drawn
