"""What is watched while training, without changing it: collapse, and k-NN accuracy where labels are given."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from lookalike.data import Source, read_or_next
from lookalike.evaluation import PROTOCOLS, Reading, alignment, diagnose, extract, health, knn, uniformity
from lookalike.functional import random
from lookalike.methods.method import Method, Progress, Step
from lookalike.transforms import Views, eval_chain

BANK, QUERIES = 10_000, 2_000  # most images of an online k-NN score


class HealthProbe:
    """Reads the projections every `every` steps; says once, in plain words, what is wrong with them."""

    def __init__(self, *, every: int) -> None:
        self.every = every
        self.readings: list[Reading] = []
        self.named: set[str] = set()

    def due(self, progress: Progress) -> bool:
        return progress.updated and (progress.run.step + 1) % self.every == 0

    def look(self, method: Method, steps: Sequence[Step], progress: Progress) -> Mapping[str, float | str]:
        step = steps[0]
        if not step.projections or step.loss is None:
            return {}
        rows = next(iter(step.projections.values()))
        if len(rows) < 2:  # of many processes each may hold a single image
            return {}
        seen = health(rows.float())
        reading = Reading(step=progress.run.step, loss=float(step.loss), **seen)
        self.readings = [*self.readings[-50:], reading]
        values: dict[str, float | str] = {name: float(seen[name]) for name in ("spread", "rank", "cosine")}
        if len(step.projections) > 1:
            one, two = list(step.projections.values())[:2]
            values |= {"alignment": alignment(one.float(), two.float()), "uniformity": uniformity(one.float())}
        found = diagnose(self.readings)
        if found and found.cause not in self.named:
            self.named.add(found.cause)
            values["collapse"] = f"step {progress.run.step + 1}: {found.sentence}"
        return values


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

    def look(self, method: Method, steps: Sequence[Step], progress: Progress) -> Mapping[str, float | str]:
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
