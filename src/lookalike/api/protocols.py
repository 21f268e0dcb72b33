"""The protocols of `evaluate`, by name: what each asks of a model, as scores that carry how they were measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lookalike.api.models import Scored
from lookalike.api.prepared import Prepared
from lookalike.evaluation import (
    DRAWS,
    FINETUNE,
    LINEAR,
    PENALTIES,
    PROTOCOLS,
    SHARES,
    Course,
    Features,
    Protocol,
    Score,
    extract,
    few,
    finetune,
    fingerprint,
    linear,
    mean_interval,
    nearest,
    retrieval,
    vote,
)
from lookalike.training.progress import Line, steps_of

Values = Mapping[str, float | int | str]
SEED = 0  # of all that the probes draw; our choice


@dataclass(frozen=True, kw_only=True)
class Exam:
    """One model and what it is examined on. Features are extracted at the first use, and once."""

    model: Scored
    train: Prepared
    test: Prepared
    classes: int
    device: torch.device
    line: Line

    @cached_property
    def backbone(self) -> str:
        """The model's fingerprint, "" for raw pixels."""
        return fingerprint(self.model.module) if self.model.learns else ""

    @cached_property
    def rows(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Training rows, their labels, test rows, their labels."""
        train, test = self._extracted(self.train, "train"), self._extracted(self.test, "test")
        return train.rows, self.train.labels[train.index], test.rows, self.test.labels[test.index]

    def _extracted(self, part: Prepared, what: str) -> Features:
        with self.line.track(f"{self.model.name}: {what} features", len(part)) as advance:
            batches = part.batches(self.model.size)
            return extract(self.model.module, batches, device=self.device, on_progress=steps_of(advance))

    def card(
        self,
        probe: str,
        each_M: Tensor,
        *,
        n_train: int,
        settings: Values,
        interval: tuple[float, float] | None = None,
        found: Values | None = None,
    ) -> Score:
        """The score of values for each test image: their mean, how they were measured, and what was scored."""
        each_M = each_M.double()
        return Score(
            value=float(each_M.mean()),
            protocol=Protocol(
                probe=probe,
                n_train=n_train,
                n_test=len(each_M),
                features=self.model.features,
                crop=f"center {self.model.size} px",
                settings=settings,
            ),
            interval=interval or mean_interval(each_M),
            seed=self.model.seed,
            epochs=self.model.epochs,
            backbone=self.backbone,
            found=found or {},
            each=each_M,
        )

    def say(self, note: str) -> None:
        """Once: what holds for one model holds for all."""
        if note and self.model.name == "trained":
            self.line.say(note)


def knn_scores(exam: Exam) -> list[Score]:
    """Both k-NN protocols from one search."""
    train_rows, train_labels, test_rows, test_labels = exam.rows
    found = nearest(test_rows, train_rows, max(k for k, _ in PROTOCOLS), exclude_self=False)
    scores = []
    for k, temperature in PROTOCOLS:
        result = vote(found, train_labels, test_labels, k=k, temperature=temperature, classes=exam.classes)
        exam.say(result.note)
        settings = {"k": result.k, "temperature": result.temperature}
        scores.append(
            exam.card("knn", result.hits, n_train=result.n_train, settings=settings, interval=result.interval)
        )
    return scores


def linear_scores(exam: Exam) -> list[Score]:
    """Logistic regression on all training rows."""
    with exam.line.track(f"{exam.model.name}: penalties of the linear probe", len(PENALTIES)) as advance:
        result = linear(*exam.rows, classes=exam.classes, seed=SEED, on_progress=steps_of(advance))
    found = {"penalty": result.penalty}
    settings = {"probe_seed": SEED}
    return [
        exam.card(
            "linear", result.hits, n_train=result.n_train, settings=settings, interval=result.interval, found=found
        )
    ]


def few_scores(exam: Exam) -> list[Score]:
    """The linear probe on each share of the labels: the mean over draws of the labels, and its spread over them."""
    train_rows, train_labels, test_rows, test_labels = exam.rows
    scores = []
    with exam.line.track(f"{exam.model.name}: linear probes of few labels", len(SHARES) * DRAWS) as advance:
        for share in SHARES:
            draws = []
            for seed in range(SEED, SEED + DRAWS):
                kept = few(train_labels, share, seed)
                rows, labels = train_rows[kept], train_labels[kept]
                draws.append(linear(rows, labels, test_rows, test_labels, classes=exam.classes, seed=SEED))
                advance(1)
            each_M = torch.stack([draw.hits for draw in draws]).double().mean(0)
            spread = float(torch.tensor([draw.accuracy for draw in draws]).std())
            settings: Values = {"share": share, "draws": DRAWS, "label_seeds": f"{SEED} to {SEED + DRAWS - 1}"}
            n_train = draws[0].n_train
            exam.say(_at_least_one(train_labels, share, n_train))
            scores.append(exam.card("few", each_M, n_train=n_train, settings=settings, found={"spread": spread}))
    return scores


def _at_least_one(labels_N: Tensor, share: float, kept: int) -> str:
    """Says that a class is too small for its share of the labels, "" if none is."""
    least = int(labels_N.unique(return_counts=True)[1].min())
    if round(share * least) > 0:
        return ""
    return (
        f"few {100 * share:g} %: a class of {least:,} images keeps one label, which is more: "
        f"{kept:,} of {len(labels_N):,} labels are used"
    )


def retrieval_scores(exam: Exam) -> list[Score]:
    """Test images look for training images of their class."""
    train_rows, train_labels, test_rows, test_labels = exam.rows
    with exam.line.track(f"{exam.model.name}: retrieval", len(test_rows)) as advance:
        result = retrieval(test_rows, test_labels, train_rows, train_labels, on_progress=steps_of(advance))
    exam.say(result.note)
    found: dict[str, float | int | str] = {f"recall@{k}": value for k, value in result.recall.items()}
    if len(result.without):
        found["without"] = len(result.without)
    each_M = result.precision[~result.precision.isnan()]
    return [exam.card("mAP", each_M, n_train=result.n_gallery, settings={"gallery": "train"}, found=found)]


def finetune_scores(exam: Exam) -> list[Score]:
    """All weights of a copy, tuned on views of the training images."""
    return [tuned(exam, "finetune", FINETUNE)]


def linear_sgd_scores(exam: Exam) -> list[Score]:
    """MoCo's linear probe: the head alone, by SGD on views."""
    return [tuned(exam, "linear_sgd", LINEAR["moco"])]


def tuned(exam: Exam, probe: str, course: Course) -> Score:
    """A copy of the model after a course on views of the training images."""
    size, train = exam.model.size, exam.train
    with exam.line.track(f"{exam.model.name}: {probe}, training views", course.epochs * len(train)) as advance:
        result = finetune(
            exam.model.module,
            lambda epoch: train.drawn(size, batch=course.batch, seed=SEED, epoch=epoch),
            train.labels,
            exam.test.batches(size),
            exam.test.labels,
            course=course,
            classes=exam.classes,
            seed=SEED,
            device=exam.device,
            on_progress=steps_of(advance),
        )
    settings = {"tuned_epochs": course.epochs, "rate": course.rate, "batch": course.batch, "probe_seed": SEED}
    return exam.card(probe, result.hits, n_train=result.n_train, settings=settings, interval=result.interval)


PROBES: Mapping[str, Callable[[Exam], list[Score]]] = {
    "knn": knn_scores,
    "linear": linear_scores,
    "few": few_scores,
    "retrieval": retrieval_scores,
    "finetune": finetune_scores,
    "linear_sgd": linear_sgd_scores,
}
FOR_WEIGHTS = ("finetune",)  # raw pixels have none to tune
