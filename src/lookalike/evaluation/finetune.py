"""Probes that train on views: fine-tuning of a copy of the encoder, and the papers' linear probes by SGD.

Each epoch brings new views of the training images (random crop, mirrored half of the time); test images are seen in
their central view, once, after the last step. A linear head on the features learns by cross-entropy. What is tuned is a
copy: the encoder itself is read, and never written.

    finetune(encoder, epoch_of_views, labels, test_batches, test_labels, course=FINETUNE)        all weights learn
    finetune(encoder, epoch_of_views, labels, test_batches, test_labels, course=LINEAR["moco"])  the head alone

Shapes: N train images, M test images, B batch, D features, C classes.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor, nn

from lookalike.evaluation.features import stream
from lookalike.evaluation.linear import demand_labels
from lookalike.evaluation.score import Answers
from lookalike.functional import random
from lookalike.functional.schedules import Clock, Schedule, Warmup

DEVIATION = 0.01  # of the head's first weights, whose bias starts at 0: facebookresearch/moco, main_lincls.py
Epoch = Callable[[int], Iterable[tuple[Tensor, Tensor]]]  # (index (B,), pixels) of the views of an epoch, by its number


@dataclass(frozen=True, kw_only=True)
class Course:
    """How SGD tunes: `rate` is the largest learning rate, `schedule` a factor of it.

    frozen: only the head learns, and the encoder is in eval mode throughout.
    """

    rate: float
    epochs: int
    batch: int
    schedule: Schedule = field(default_factory=Warmup)  # a cosine to 0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    frozen: bool = True

    def __post_init__(self) -> None:
        if self.rate <= 0 or min(self.epochs, self.batch) < 1:
            raise ValueError(
                f"rate={self.rate}, epochs={self.epochs}, batch={self.batch} tune nothing: use a rate above 0, and 1 "
                "or more of the others"
            )


# Our choice for some thousands of images; the papers search rate and epochs anew for each data set.
FINETUNE = Course(
    rate=0.03, epochs=20, batch=128, schedule=Warmup(epochs=1.0), nesterov=True, weight_decay=1e-4, frozen=False
)

LINEAR = {
    # facebookresearch/moco, main_lincls.py; SCE and PIC take the same rate
    "moco": Course(rate=30.0, epochs=100, batch=256, schedule=Warmup(shape="steps", milestones=(60.0, 80.0))),
    # facebookresearch/swav, eval_linear.py; Barlow Twins (facebookresearch/barlowtwins, evaluate.py)
    "swav": Course(rate=0.3, epochs=100, batch=256, schedule=Warmup(per="epoch"), weight_decay=1e-6),
    # mingkai-zheng/ReSSL
    "ressl": Course(rate=0.3, epochs=100, batch=256),
    # google-deepmind/deepmind-research, byol: 0.2 for 256 images; the batch of 256 is our choice
    "byol": Course(rate=0.2, epochs=80, batch=256, nesterov=True),
}


def finetune(
    encoder: nn.Module,
    views: Epoch,
    train_labels: Int64[Tensor, "N"],
    test_batches: Iterable[tuple[Tensor, Tensor]],
    test_labels: Int64[Tensor, "M"],
    *,
    course: Course = FINETUNE,
    classes: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_progress: Callable[[int], None] | None = None,
) -> Answers:
    """Answers of the tuned copy for the test images, after the last step: no epoch is picked.

    views(e) gives (index (B,), pixels) of epoch e; `index` leads into train_labels, as that of `test_batches` into
    test_labels. A function of the arguments and the seed on one machine: the head is drawn from a keyed generator, and
    so is what the encoder draws on the CPU (dropout). `on_progress` hears the number of training views done. The
    encoder keeps its fingerprint. Raises ValueError for labels that cannot be used, and for weights that leave the
    finite numbers.
    """
    classes = demand_labels(train_labels, test_labels, classes)
    device = torch.device(device)
    tuned = copy.deepcopy(encoder).to(device)
    for parameter in tuned.parameters():
        parameter.requires_grad_(not course.frozen)
    with _own_draws(seed):
        head, n_train = _train(tuned, views, train_labels, course, classes, seed, device, on_progress)
    head.cpu()
    hits = [
        head(rows_BD).argmax(1) == test_labels[index] for index, rows_BD in stream(tuned, test_batches, device=device)
    ]
    return Answers(hits=torch.cat(hits), n_train=n_train)


def _train(
    tuned: nn.Module,
    views: Epoch,
    labels_N: Tensor,
    course: Course,
    classes: int,
    seed: int,
    device: torch.device,
    on_progress: Callable[[int], None] | None,
) -> tuple[nn.Linear, int]:
    """Moves `tuned`, unless it is frozen; gives its head, and the number of images it saw in an epoch."""
    head: nn.Linear | None = None
    optimizer: torch.optim.SGD | None = None
    N, done, seen = len(labels_N), 0, 0
    for epoch in range(course.epochs):
        for index, rows_BD in _features(tuned, views(epoch), course.frozen, device):
            if head is None or optimizer is None:
                head = _head(rows_BD.shape[1], classes, seed).to(rows_BD)
                optimizer = _optimizer([*tuned.parameters(), *head.parameters()], course)
            _set_rate(optimizer, course, done, N)
            loss = F.cross_entropy(head(rows_BD), labels_N[index].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += len(index)
            if on_progress is not None:
                on_progress(done)
        seen = seen or done
        if head is not None and not bool(head.weight.isfinite().all()):
            raise ValueError(f"the probe's weights are not finite after epoch {epoch + 1}: lower rate={course.rate}")
    if head is None:
        raise ValueError("the views of the training images gave no batch: check the data")
    return head, seen


def _features(
    tuned: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], frozen: bool, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows with a graph in train mode; of a frozen encoder without, in eval mode."""
    if frozen:
        for index, rows_BD in stream(tuned, batches, device=device):
            yield index, rows_BD.to(device)
        return
    for index, pixels in batches:
        tuned.train()
        rows = tuned(pixels.to(device, non_blocking=True))
        yield index, rows.mean((2, 3)) if rows.ndim == 4 else rows


def _head(dim: int, classes: int, seed: int) -> nn.Linear:
    head = nn.Linear(dim, classes)
    with torch.no_grad():
        head.weight.normal_(0.0, DEVIATION, generator=random.generator("head of a probe", seed))
        head.bias.zero_()
    return head


def _optimizer(parameters: list[nn.Parameter], course: Course) -> torch.optim.SGD:
    return torch.optim.SGD(
        [parameter for parameter in parameters if parameter.requires_grad],
        lr=course.rate,
        momentum=course.momentum,
        nesterov=course.nesterov,
        weight_decay=course.weight_decay,
    )


def _set_rate(optimizer: torch.optim.SGD, course: Course, done: int, N: int) -> None:
    """By the views that were seen: `done` of N each epoch."""
    clock = Clock(step=done, steps=course.epochs * N, epoch=done / N, epochs=float(course.epochs))
    for group in optimizer.param_groups:
        group["lr"] = course.rate * course.schedule(clock)


@contextmanager
def _own_draws(seed: int) -> Iterator[None]:
    """What modules draw inside (dropout, the first weights of a layer) depends on the seed, and leaves no trace.

    Torch gives them no generator of their own: the global one is borrowed, and handed back as it was.
    """
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(random.key("tuning", seed) & (2**63 - 1))
        yield
