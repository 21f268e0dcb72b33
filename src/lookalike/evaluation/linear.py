"""The offline linear probe: multinomial logistic regression on features, its penalty chosen on training rows alone.

Features are standardized by mean and deviation of the training rows. What is minimized is the objective of
scikit-learn's LogisticRegression with C = 1 / (penalty N):

    mean over rows of -log softmax(W x + b)[label]  +  penalty / 2 |W|^2

The penalty is the one of PENALTIES that is right most often on training rows held out of its fit: a fifth of each
class where there are thousands of rows, five times another fifth where there are fewer. The final fit takes all
training rows. Test rows choose nothing.

    >>> rows = torch.tensor([[0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.9, 0.2]])
    >>> labels = torch.tensor([0, 0, 1, 1])
    >>> linear(rows, labels, rows, labels).accuracy
    1.0

Shapes: N train rows, M test rows, D features, R their rank, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from lookalike.evaluation.score import Answers
from lookalike.functional import random

PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(2, -13, -1))  # 10 to 1e-6; our choice
FOLDS, MANY = 5, 5_000  # from MANY rows on one fold is enough; our choice
PATIENCE = 3  # weaker penalties in a row that are no better; then weaker ones are not tried; our choice
MEMORY, CHUNK = 12, 8192  # steps that L-BFGS remembers; rows whose logits exist at a time


@dataclass(frozen=True, kw_only=True)
class LinearResult(Answers):
    """penalty: the one used; held_out: accuracy on the held-out training rows with it, None if it was given."""

    penalty: float
    held_out: float | None


@dataclass(frozen=True, kw_only=True)
class LinearModel:
    """A fitted probe: logits are rows @ weight.T + bias."""

    weight: Float64[Tensor, "C D"]
    bias: Float64[Tensor, "C"]

    def predict(self, rows_ND: Float[Tensor, "N D"]) -> Int64[Tensor, "N"]:
        """The most likely class of each row; of equals the lowest."""
        parts = rows_ND.split(CHUNK)
        return torch.cat([F.linear(part.to(self.weight), self.weight, self.bias).argmax(1) for part in parts]).cpu()


def linear(
    train_rows: Float[Tensor, "N D"],
    train_labels: Int64[Tensor, "N"],
    test_rows: Float[Tensor, "M D"],
    test_labels: Int64[Tensor, "M"],
    *,
    penalties: Sequence[float] = PENALTIES,
    classes: int | None = None,
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> LinearResult:
    """Fits on the training rows with the penalty that suits held-out ones best, and answers for the test rows.

    penalties: from the strongest on; of one nothing is held out. `classes` defaults to the largest label + 1; `seed`
    chooses what is held out; `on_progress` hears the number of fits done. Raises ValueError for no rows, labels out of
    range, fewer than two classes.
    """
    classes = demand_labels(train_labels, test_labels, classes)
    train_labels = train_labels.to(train_rows.device)
    space = Space.of(train_rows)
    x_NR = space.project(train_rows)
    penalty, held_out = penalties[0], None
    if len(penalties) > 1:
        part_N = folds(train_labels.cpu(), seed).to(x_NR.device)
        count = 1 if len(part_N) >= MANY else FOLDS
        penalty, held_out = _chosen(x_NR.float(), train_labels, part_N, count, penalties, classes, on_progress)
    weight_CR, bias_C = minimize(x_NR, train_labels, classes, penalty)
    hits = space.model(weight_CR, bias_C).predict(test_rows) == test_labels.cpu()
    return LinearResult(hits=hits, n_train=len(train_labels), penalty=penalty, held_out=held_out)


def fit(rows_ND: Float[Tensor, "N D"], labels_N: Int64[Tensor, "N"], classes: int, penalty: float) -> LinearModel:
    """The minimum of the objective for one penalty, in float64."""
    space = Space.of(rows_ND)
    return space.model(*minimize(space.project(rows_ND), labels_N.to(rows_ND.device), classes, penalty))


@dataclass(frozen=True, kw_only=True)
class Space:
    """Standardized rows in the coordinates of their principal axes: nothing of the objective changes.

    Rows lie in the span of `axes`, hence the best weights do too, and |W| is the same there: a hundred rows of 3,072
    pixels are a problem of a hundred dimensions.
    """

    mean: Float64[Tensor, "D"]
    deviation: Float64[Tensor, "D"]
    axes: Float64[Tensor, "D R"]

    @classmethod
    def of(cls, rows_ND: Float[Tensor, "N D"]) -> "Space":
        """A feature that never varies is left out: its deviation counts as 1."""
        mean_D = rows_ND.double().mean(0)
        deviation_D = rows_ND.double().std(0, correction=0)
        deviation_D = torch.where(deviation_D > 1e-9 * mean_D.abs().clamp_min(1e-30), deviation_D, 1.0)
        x_ND = (rows_ND.double() - mean_D) / deviation_D
        if len(x_ND) < x_ND.shape[1]:
            values, vectors = torch.linalg.eigh(x_ND @ x_ND.T)
            kept = values > 1e-12 * values[-1]
            axes_DR = x_ND.T @ (vectors[:, kept] / values[kept].sqrt())
        else:
            values, vectors = torch.linalg.eigh(x_ND.T @ x_ND)
            axes_DR = vectors[:, values > 1e-12 * values[-1]]
        return cls(mean=mean_D, deviation=deviation_D, axes=axes_DR)

    def project(self, rows_ND: Float[Tensor, "N D"]) -> Float64[Tensor, "N R"]:
        parts = rows_ND.split(CHUNK)
        return torch.cat([(part.double() - self.mean) / self.deviation @ self.axes for part in parts])

    def model(self, weight_CR: Float64[Tensor, "C R"], bias_C: Float64[Tensor, "C"]) -> LinearModel:
        """For rows as they are, neither standardized nor turned."""
        weight_CD = weight_CR @ self.axes.T / self.deviation
        return LinearModel(weight=weight_CD, bias=bias_C - weight_CD @ self.mean)


def minimize(
    x_NR: Float[Tensor, "N R"],
    labels_N: Int64[Tensor, "N"],
    classes: int,
    penalty: float,
    *,
    start: tuple[Tensor, Tensor] | None = None,
    steps: int = 1000,
    tolerance: float = 1e-9,
) -> tuple[Float[Tensor, "C R"], Float[Tensor, "C"]]:
    """Weights and bias at the minimum, by L-BFGS in the precision of x_NR, from `start` or from zero.

    In principal axes the Hessian is nearly diagonal, about variance / C + penalty: the square root of it rescales the
    weights meanwhile, and steps are counted in tens instead of hundreds.
    """
    scale_R = (x_NR.square().mean(0) / classes + penalty).rsqrt()
    weight_CR, bias_C = start or (x_NR.new_zeros(classes, x_NR.shape[1]), x_NR.new_zeros(classes))
    scaled, bias_C = (weight_CR / scale_R).requires_grad_(), (bias_C / classes**0.5).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [scaled, bias_C],
        max_iter=steps,
        history_size=MEMORY,
        tolerance_grad=tolerance,
        tolerance_change=tolerance**2,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        with torch.no_grad():
            value, slope_CR, slope_C = objective(x_NR, labels_N, scaled * scale_R, bias_C * classes**0.5, penalty)
            scaled.grad, bias_C.grad = slope_CR * scale_R, slope_C * classes**0.5
        return value

    optimizer.step(closure)
    return (scaled * scale_R).detach(), (bias_C * classes**0.5).detach()


def objective(
    x_NR: Float[Tensor, "N R"],
    labels_N: Int64[Tensor, "N"],
    weight_CR: Float[Tensor, "C R"],
    bias_C: Float[Tensor, "C"],
    penalty: float,
) -> tuple[float, Float[Tensor, "C R"], Float[Tensor, "C"]]:
    """Its value, and its gradient by weights and bias; logits of CHUNK rows at a time."""
    total, slope_CR, slope_C = 0.0, torch.zeros_like(weight_CR), torch.zeros_like(bias_C)
    for x, y in zip(x_NR.split(CHUNK), labels_N.split(CHUNK), strict=True):
        log_p = F.linear(x, weight_CR, bias_C).log_softmax(1)
        total -= float(log_p.gather(1, y[:, None]).double().sum())
        error = log_p.exp_().scatter_add_(1, y[:, None], log_p.new_full((len(y), 1), -1.0))
        slope_CR += error.T @ x
        slope_C += error.sum(0)
    N = len(x_NR)
    value = total / N + penalty / 2 * float(weight_CR.double().square().sum())
    return value, slope_CR / N + penalty * weight_CR, slope_C / N


def folds(labels_N: Int64[Tensor, "N"], seed: int) -> Int64[Tensor, "N"]:
    """The fold, 0 to FOLDS - 1, in which each row is held out, dealt out class by class; -1, never, for a lone row."""
    order = torch.randperm(len(labels_N), generator=random.generator("folds", seed))
    part_N = torch.full_like(labels_N, -1)
    for label in labels_N.unique():
        own = order[labels_N[order] == label]
        if len(own) > 1:
            part_N[own] = torch.arange(len(own)) % FOLDS
    return part_N


def _chosen(
    x_NR: Tensor,
    labels_N: Tensor,
    part_N: Tensor,
    count: int,
    penalties: Sequence[float],
    classes: int,
    on_progress: Callable[[int], None] | None,
) -> tuple[float, float | None]:
    """The best penalty and its accuracy on held-out rows, over `count` folds; of equals the strongest.

    Each fit starts from the one before it, in float32: accuracies do not show the difference.
    """
    held = (part_N >= 0) & (part_N < count)
    if not held.any():  # one row for each class: nothing can be held out
        return penalties[len(penalties) // 2], None
    models: list[tuple[Tensor, Tensor] | None] = [None] * count
    best, chosen, since = -1, 0, 0
    for tried, penalty in enumerate(penalties):
        right = 0
        for fold in range(count):
            inside, outside = part_N != fold, part_N == fold
            model = minimize(
                x_NR[inside], labels_N[inside], classes, penalty, start=models[fold], steps=100, tolerance=1e-5
            )
            right += int((F.linear(x_NR[outside], *model).argmax(1) == labels_N[outside]).sum())
            models[fold] = model
        if on_progress is not None:
            on_progress(tried + 1)
        best, chosen, since = (right, tried, 0) if right > best else (best, chosen, since + 1)
        if since == PATIENCE:
            break
    return penalties[chosen], best / int(held.sum())


def demand_labels(train_labels: Tensor, test_labels: Tensor, classes: int | None) -> int:
    """The number of classes. Raises ValueError where a probe cannot learn from these labels."""
    if not len(train_labels) or not len(test_labels):
        raise ValueError(
            f"a probe needs images on both sides; there are {len(train_labels)} to train and {len(test_labels)} to test"
        )
    lowest, highest = torch.cat([train_labels.cpu(), test_labels.cpu()]).aminmax()
    classes = int(highest) + 1 if classes is None else classes
    if lowest < 0 or highest >= classes or classes < 2:
        raise ValueError(
            f"labels run from {int(lowest)} to {int(highest)}, and a probe needs them from 0 to {classes - 1}, with "
            "two classes or more: label every image, or leave unlabeled images out of the data"
        )
    return classes
