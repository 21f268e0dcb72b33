"""Multi-label classification as on VOC2007: a linear SVM for each class, and mean average precision.

After Goyal et al., "Scaling and benchmarking self-supervised visual representation learning", 2019 (arXiv 1905.01235):
rows of unit norm, squared hinge, positives weigh twice, and the cost C of each class is the one with the best average
precision in cross-validation on training rows.

Needs scikit-learn (pip install 'lookalike[demo]'), whose LinearSVC (liblinear) is the solver.

Shapes: N train rows, M test rows, D features, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.nn.functional import normalize

COSTS = tuple(10.0 ** (exponent / 2) for exponent in range(-6, 5))  # 1e-3 to 100; our choice
COST_FOLDS = 3  # among which a cost is chosen; our choice
POSITIVES = 2.0  # their weight: wvangansbeke/Revisiting-Contrastive-SSL
STEPS = 2000  # of the solver
Measure = Literal["11 points", "area"]


@dataclass(frozen=True, kw_only=True)
class SvmResult:
    """precision: average precision of each class on the test rows, by `measure`; costs: the C of each class."""

    precision: Float64[Tensor, "C"] = field(compare=False, repr=False)
    costs: tuple[float, ...]
    measure: Measure
    n_train: int
    n_test: int

    @property
    def mean_precision(self) -> float:
        """mAP: the mean over classes."""
        return float(self.precision.mean())


def svm(
    train_rows: Float[Tensor, "N D"],
    train_targets: Int[Tensor, "N C"],
    test_rows: Float[Tensor, "M D"],
    test_targets: Int[Tensor, "M C"],
    *,
    costs: Sequence[float] = COSTS,
    measure: Measure = "11 points",
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> SvmResult:
    """One SVM against the rest for each class; targets are 1 (holds the class), 0 (does not) and -1 (not counted).

    measure: "11 points" is VOC2007's, "area" that of later years. Of equal costs the smaller; with one nothing is
    chosen. `on_progress` hears the number of classes done. Raises ValueError for other targets, a class without a
    positive and a negative to test or COST_FOLDS of each to train, and where scikit-learn is missing.
    """
    solver = _solver()
    train_ND, test_MD = (normalize(rows.double(), dim=1).numpy(force=True) for rows in (train_rows, test_rows))
    chosen, precision = [], []
    for label in range(train_targets.shape[1]):
        train, test = train_targets[:, label].cpu(), test_targets[:, label].cpu()
        _demand_both(train, test, label, COST_FOLDS if len(costs) > 1 else 1)
        counted = (train >= 0).numpy()
        x, y = train_ND[counted], train[train >= 0]
        cost = _chosen(solver, x, y, costs, measure, seed) if len(costs) > 1 else costs[0]
        scores_M = torch.from_numpy(solver(cost, seed).fit(x, y.numpy()).decision_function(test_MD))
        precision.append(average_precision(scores_M[test >= 0], test[test >= 0], measure))
        chosen.append(cost)
        if on_progress is not None:
            on_progress(label + 1)
    return SvmResult(
        precision=torch.tensor(precision, dtype=torch.float64),
        costs=tuple(chosen),
        measure=measure,
        n_train=len(train_rows),
        n_test=len(test_rows),
    )


def average_precision(scores_N: Float[Tensor, "N"], truth_N: Int[Tensor, "N"], measure: Measure) -> float:
    """Of a ranking by score, highest first; among equal scores the first row comes first.

    With precision(r) the largest precision at a recall of r or more: "11 points" is its mean at the recalls 0, 0.1 ...
    1 (Everingham et al., "The PASCAL visual object classes challenge", 2010, 4.2), "area" its integral over recall.
    """
    right_N = truth_N[scores_N.argsort(descending=True, stable=True)].double()
    found_N = right_N.cumsum(0)
    precision_N = found_N / torch.arange(1, len(found_N) + 1)
    best_N = precision_N.flip(0).cummax(0).values.flip(0)
    if measure == "area":
        return float((best_N * right_N).sum() / found_N[-1])
    # tenths of the positives, as whole numbers: no recall is missed for a rounding error
    reached = [(found_N * 10 >= tenth * found_N[-1]).nonzero()[:1, 0] for tenth in range(11)]
    return sum(float(best_N[place]) for place in reached) / 11


def _chosen(solver: Any, x: Any, y: Tensor, costs: Sequence[float], measure: Measure, seed: int) -> float:
    """The cost with the best mean average precision over folds that hold as many positives each."""
    from sklearn.model_selection import StratifiedKFold

    folds = list(StratifiedKFold(COST_FOLDS, shuffle=True, random_state=seed).split(x, y.numpy()))
    best, chosen = -1.0, costs[0]
    for cost in costs:
        total = 0.0
        for inside, outside in folds:
            scores = solver(cost, seed).fit(x[inside], y[inside].numpy()).decision_function(x[outside])
            total += average_precision(torch.from_numpy(scores), y[outside], measure)
        if total > best:
            best, chosen = total, cost
    return chosen


def _solver() -> Callable[[float, int], Any]:
    try:
        from sklearn.svm import LinearSVC
    except ImportError:
        raise ValueError(
            "the SVM probe needs scikit-learn, which is not installed: pip install 'lookalike[demo]'"
        ) from None
    return lambda cost, seed: LinearSVC(C=cost, class_weight={1: POSITIVES, 0: 1.0}, max_iter=STEPS, random_state=seed)


def _demand_both(train: Tensor, test: Tensor, label: int, least: int) -> None:
    for targets, what, count in ((train, "train", least), (test, "test", 1)):
        if not bool(torch.isin(targets, torch.tensor([-1, 0, 1])).all()):
            raise ValueError(f"targets are 1, 0 or -1 (not counted), and those to {what} class {label} hold others")
        positives, negatives = int((targets == 1).sum()), int((targets == 0).sum())
        if min(positives, negatives) < count:
            raise ValueError(
                f"class {label} has {positives} positives and {negatives} negatives to {what}: {count} of each are "
                "needed; leave the class out"
            )
