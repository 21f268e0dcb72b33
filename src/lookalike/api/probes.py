"""What is watched while training, without changing it: collapse, and k-NN accuracy where labels are given."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from typing import Any

import torch
from torch import Tensor

from lookalike.data import Source, read_or_next
from lookalike.evaluation import PROTOCOLS, Diagnosis, Reading, alignment, diagnose, extract, health, knn, uniformity
from lookalike.functional import random
from lookalike.methods.method import Method, Progress, Step
from lookalike.training.metrics import Metrics, Value
from lookalike.transforms import Views, eval_chain

BANK, QUERIES = 10_000, 2_000  # most images of an online k-NN score
REQUIRED = {field.name for field in fields(Reading) if field.default is MISSING}


class HealthProbe:
    """Reads the projections every `every` steps; says once, in plain words, what is wrong with them.

    rows: images of all processes that the loss compares at a time; history: where earlier readings of this run stand,
    so that a run that was stopped is judged as if it had not been.
    """

    def __init__(self, *, every: int, rows: int, history: Metrics | None = None) -> None:
        self.every, self.rows, self.history = every, rows, history
        self.readings: list[Reading] = []
        self.named: set[str] = set()

    def due(self, progress: Progress) -> bool:
        return progress.updated and (progress.run.step + 1) % self.every == 0

    def look(self, method: Method, steps: Sequence[Step], progress: Progress) -> Mapping[str, Value]:
        step, done = steps[0], progress.run.step + 1
        if not step.projections or step.loss is None:
            return {}
        rows = next(iter(step.projections.values()))
        if len(rows) < 2:  # of many processes each may hold a single image
            return {}
        self.recall()
        seen = health(rows.float())
        reading = Reading(
            step=done, loss=float(step.loss), uniform=method.uniform(self.rows), rate=progress.rate, **seen
        )
        values: dict[str, Value] = {name: value for name, value in asdict(reading).items() if value is not None}
        if len(step.projections) > 1:
            one, two = list(step.projections.values())[:2]
            values |= {"alignment": alignment(one.float(), two.float()), "uniformity": uniformity(one.float())}
        if found := self.judge(reading):
            values["collapse"] = f"step {done}: {found.sentence}"
        return values

    def recall(self) -> None:
        """Before the first look: what was read, and named, before the run was stopped."""
        earlier, self.history = readings_of(self.history.rows() if self.history else ()), None
        for reading in earlier:
            self.judge(reading)

    def judge(self, reading: Reading) -> Diagnosis | None:
        """What this reading shows, with those before it, and was not named yet."""
        self.readings = [*self.readings[-50:], reading]
        found = diagnose(self.readings)
        if found is None or found.cause in self.named:
            return None
        self.named.add(found.cause)
        return found


def readings_of(rows: Iterable[Mapping[str, Any]]) -> list[Reading]:
    """The readings that a HealthProbe has left in the lines of metrics.jsonl."""
    found: Iterator[dict[str, Any]] = ({field.name: row.get(field.name) for field in fields(Reading)} for row in rows)
    return [Reading(**values) for values in found if all(map(_possible, values, values.values()))]


def _possible(name: str, value: Any) -> bool:
    """Whether a reading may have this value: a number, or none where it has a default."""
    return isinstance(value, int | float) or (value is None and name not in REQUIRED)


class KnnProbe:
    """k-NN accuracy of the encoder every `every` steps and at the end: some training images against others."""

    def __init__(
        self, source: Source, labels: Tensor, *, size: int, every: int, seed: int, device: torch.device
    ) -> None:
        self.source, self.labels, self.every, self.device = source, labels, every, device
        self.views = Views({"center": eval_chain(size)})
        order = torch.randperm(len(source), generator=random.generator("online knn", seed))
        queries = max(1, min(QUERIES, len(source) // 5))
        self.queries, self.bank = order[:queries], order[queries : queries + BANK]

    def due(self, progress: Progress) -> bool:
        done = progress.run.step + 1
        return done % self.every == 0 or done == progress.run.steps

    def look(self, method: Method, steps: Sequence[Step], progress: Progress) -> Mapping[str, Value]:
        (encoder, *_) = method.exports().values()
        bank, queries = (extract(encoder, self.batches(part), device=self.device) for part in (self.bank, self.queries))
        k, temperature = PROTOCOLS[0]
        result = knn(
            bank.rows, self.labels[bank.index], queries.rows, self.labels[queries.index], k=k, temperature=temperature
        )
        text = (
            f"epoch {progress.run.epoch:.1f}: online knn {100 * result.accuracy:.1f} % (k={result.k}, T={temperature})"
        )
        return {"knn": result.accuracy, "says": text}

    def batches(self, part: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The central view of some images; an unreadable one gives way to the next."""
        for place in torch.arange(len(part)).split(256):
            images, index, _ = read_or_next(self.source, part, place, stride=256)
            yield index, self.views.render(images, self.views.draw(index, seed=0, epoch=(0, 0)))["center"]
