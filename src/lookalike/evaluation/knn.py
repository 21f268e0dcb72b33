"""Weighted k-NN accuracy of features: nothing is trained, nothing is selected.

Wu et al., "Unsupervised feature learning via non-parametric instance discrimination", 2018 (arXiv 1805.01978), 3.4:

    vote(c) = sum of exp(similarity / temperature) over those of the k most similar train rows that are of class c

    >>> train, test = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), torch.tensor([[1.0, 0.05], [0.1, 1.0]])
    >>> knn(train, torch.tensor([0, 0, 1]), test, torch.tensor([0, 1]), k=1, temperature=0.1).accuracy
    1.0

Shapes: N train rows, M test rows, D features, C classes, k neighbors.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lookalike.evaluation.neighbors import Neighbors, nearest
from lookalike.evaluation.score import Answers

# (k, temperature): small images as in MoCo's CIFAR notebook; larger ones as in DINO (arXiv 2104.14294)
PROTOCOLS = ((200, 0.1), (20, 0.07))


@dataclass(frozen=True, kw_only=True)
class KnnResult(Answers):
    """Answers for all test rows, with what they were measured by. `note` says what differs from what was asked.

    top5 is None for five classes or fewer.
    """

    k: int
    temperature: float
    top5: float | None = None
    note: str = ""


def knn(
    train_rows: Float[Tensor, "N D"],
    train_labels: Int64[Tensor, "N"],
    test_rows: Float[Tensor, "M D"],
    test_labels: Int64[Tensor, "M"],
    *,
    k: int = 200,
    temperature: float = 0.1,
    classes: int | None = None,
    chunk: int = 256,
) -> KnnResult:
    """Cosine similarity, top k, weights exp(similarity / temperature), one vote per class.

    Among equally similar train rows the lowest rows count, among equal votes the lowest class wins, and a
    class without a vote is never predicted. k above N is lowered to N, with a note. `classes` defaults to
    the largest label + 1. The result does not depend on `chunk`, the number of test rows searched at a
    time. ValueError for no rows and for negative labels: no sample is dropped.
    """
    if not len(train_rows) or not len(test_rows):
        raise ValueError(
            f"k-NN needs images on both sides; there are {len(train_rows)} to train and {len(test_rows)} to test"
        )
    found = nearest(test_rows, train_rows, k, exclude_self=False, chunk=chunk)
    return vote(found, train_labels, test_labels, k=k, temperature=temperature, classes=classes)


def vote(
    found: Neighbors,
    train_labels: Int64[Tensor, "N"],
    test_labels: Int64[Tensor, "M"],
    *,
    k: int,
    temperature: float,
    classes: int | None = None,
) -> KnnResult:
    """k-NN from neighbors already found, at least k each: one search serves both protocols."""
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    train_labels, test_labels = train_labels.cpu(), test_labels.cpu()
    lowest, highest = torch.cat([train_labels, test_labels]).aminmax()
    classes = int(highest) + 1 if classes is None else classes
    if lowest < 0 or highest >= classes:
        raise ValueError(
            f"labels run from {int(lowest)} to {int(highest)}, outside 0 to {classes - 1}; "
            "label every image, or leave unlabeled images out of the data"
        )
    used = min(k, len(train_labels))
    if found.rows.shape[1] < used:
        raise ValueError(f"{found.rows.shape[1]} neighbors were searched and k is {used}; search for at least {used}")
    rank_M = _rank_of_truth(found, train_labels, test_labels, used, temperature, classes)
    return KnnResult(
        hits=rank_M == 0,
        n_train=len(train_labels),
        k=used,
        temperature=temperature,
        top5=float((rank_M < 5).double().mean()) if classes > 5 else None,
        note=f"k lowered from {k} to {used}, the number of train images" if used < k else "",
    )


def _rank_of_truth(
    found: Neighbors, train_labels: Tensor, test_labels: Tensor, k: int, temperature: float, classes: int
) -> Tensor:
    """Place (M,) of the true class when classes are sorted by vote and then by number; `classes` without a vote."""
    rank_M = torch.empty_like(test_labels)
    for start in range(0, len(test_labels), 1024):
        part = slice(start, start + 1024)
        rows, truth = found.rows[part, :k].cpu(), test_labels[part, None]
        similarity = found.similarity[part, :k].cpu().double()
        # Relative to the nearest: the ratio of votes is the same and no temperature overflows.
        weight = torch.exp((similarity - similarity[:, :1]) / temperature)
        votes = torch.zeros((len(truth), classes), dtype=torch.float64).scatter_add_(1, train_labels[rows], weight)
        own = votes.gather(1, truth)
        ahead = (votes > own) | ((votes == own) & (torch.arange(classes) < truth))
        rank_M[part] = torch.where(own[:, 0] > 0, ahead.sum(1), classes)
    return rank_M
