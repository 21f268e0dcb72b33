"""What a run tells while it runs: the metrics file, the progress line, the list of skipped files."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from lookalike.data import Skips
from lookalike.methods.method import Batch, Progress, Step
from lookalike.training.metrics import Metrics
from lookalike.training.progress import Line


class Journal:
    """Writes metrics.jsonl every `every` steps and keeps the progress line; other ranks than the first keep silent.

    images: images per step over all ranks; skips: unreadable files met so far.
    """

    def __init__(
        self, metrics: Metrics | None, line: Line, *, images: int, every: int = 50, skips: Skips | None = None
    ) -> None:
        self.metrics, self.line, self.images, self.every, self.skips = metrics, line, images, every, skips
        self.name = ""
        self.waited = self.since = 0.0
        self.steps = 0

    def start(self, step: int, steps: int, notes: Sequence[str]) -> None:
        """Training goes on at `step` of `steps`; log lines past that step are dropped."""
        for note in notes:
            self.line.say(note)
        if self.metrics:
            self.metrics.truncate(step)
        self.line.start(step, steps)
        self.since = time.perf_counter()

    def phase(self, name: str) -> None:
        self.name = name

    def waiting(self, batches: Iterable[list[Batch]]) -> Iterator[list[Batch]]:
        """The same batches; the time spent waiting for them is measured."""
        batches = iter(batches)
        while True:
            start = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.waited += time.perf_counter() - start
            yield batch

    def step(self, progress: Progress, steps: Sequence[Step], norm: Tensor | None) -> None:
        self.steps += 1
        done = progress.run.step + 1
        if done % self.every and done != progress.run.steps:
            return
        elapsed = max(time.perf_counter() - self.since, 1e-9)
        row = {
            "step": done,
            "phase": self.name,
            "epoch": round(progress.run.epoch, 4),
            "loss": _mean([step.loss for step in steps if step.loss is not None]),
            "rate": progress.rate,
            "gradient_norm": None if norm is None else norm.item(),
            "updated": progress.updated,
            "images_per_second": self.images * self.steps / elapsed,
            "wait": self.waited / elapsed,
            "skipped": len(self.skips) if self.skips else 0,
        }
        row |= {name: _mean([step.metrics[name] for step in steps]) for name in steps[0].metrics}
        if self.metrics:
            self.metrics.write(row)
        self.line.update(row)
        self.waited, self.since, self.steps = 0.0, time.perf_counter(), 0

    def probe(self, progress: Progress, values: Mapping[str, float | str]) -> None:
        """What a probe saw; text is said aloud."""
        if self.metrics and values:
            self.metrics.write({"step": progress.run.step + 1, "probe": True, **values})
        for name, value in values.items():
            self.line.say(value if isinstance(value, str) else f"{name} {value:.4g}")
        self.since = time.perf_counter() - 1e-9  # a probe's time is not training time

    def finish(self, step: int) -> None:
        self.line.finish(step)


def _mean(values: Sequence[Tensor]) -> float | None:
    return torch.stack([value.double() for value in values]).mean().item() if values else None
