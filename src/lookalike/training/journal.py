"""What a run tells while it runs: the metrics file, the progress line, the list of skipped files."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.profiler import record_function

from lookalike.data import Skips
from lookalike.methods.method import Batch, Progress, Step
from lookalike.training.metrics import Metrics, Value
from lookalike.training.progress import Line


class Journal:
    """Writes metrics.jsonl every `every` steps and keeps the progress line; ranks other than the first give no metrics.

    images: images per step over all ranks; skips: unreadable files met so far. Probes and checkpoints do not count as
    training time.
    """

    def __init__(
        self, metrics: Metrics | None, line: Line, *, images: int, every: int = 50, skips: Skips | None = None
    ) -> None:
        self.metrics, self.line, self.images, self.every, self.skips = metrics, line, images, every, skips
        self.name = ""
        self.waited = self.worked = self.mark = 0.0  # seconds since the last line of the log; end of the last wait
        self.steps = self.dropped = 0  # since the last line of the log
        self.done = 0  # steps of a finished run

    def start(self, step: int, steps: int, notes: Sequence[str]) -> None:
        """Training goes on at `step` of `steps`; log lines past that step are dropped."""
        for note in notes:
            self.line.say(note)
        if step:
            self.line.say(f"going on after step {step:,} of {steps:,}")
        if self.metrics:
            self.metrics.truncate(step)
        self.line.start(step, steps)

    def phase(self, name: str) -> None:
        self.name = name

    def waiting(self, batches: Iterable[list[Batch]]) -> Iterator[list[Batch]]:
        """The same batches; the time spent waiting for each is measured."""
        batches = iter(batches)
        while True:
            start = time.perf_counter()
            with record_function("views"):
                batch = next(batches, None)
            self.mark = time.perf_counter()
            self.waited += self.mark - start
            if batch is None:
                return
            yield batch

    def step(self, progress: Progress, steps: Sequence[Step], norm: Tensor | None) -> None:
        """One step is done; every `every` steps, and at the last, it is written down."""
        self.steps += 1
        self.dropped += not progress.updated and steps[0].loss is not None
        self.worked += time.perf_counter() - self.mark
        done = progress.run.step + 1
        self.line.tick(done)
        if done % self.every and done != progress.run.steps:
            return
        elapsed = max(self.worked + self.waited, 1e-9)
        losses = [step.loss for step in steps if step.loss is not None]
        row: dict[str, Value] = {
            "step": done,
            "phase": self.name,
            "epoch": round(progress.run.epoch, 4),
            "loss": _mean(losses) if losses else None,
            "rate": progress.rate,
            "gradient_norm": norm,
            "updated": progress.updated,
            "images_per_second": self.images * self.steps / elapsed,
            "wait": self.waited / elapsed,
            "skipped": 0 if self.skips is None else len(self.skips),
        }
        if self.dropped:
            row["dropped"] = self.dropped
        row |= {name: _mean([step.metrics[name] for step in steps]) for name in steps[0].metrics}
        if self.metrics:
            row = self.metrics.write(row)
            self.line.update(row)
        self.waited = self.worked = 0.0
        self.steps = self.dropped = 0

    def probe(self, progress: Progress, values: Mapping[str, Value]) -> None:
        """What a probe saw; text is said aloud."""
        if self.metrics and values:
            self.metrics.write({"step": progress.run.step + 1, "probe": True, **values})
        for value in values.values():
            if isinstance(value, str):
                self.line.say(value)

    def finish(self, step: int) -> None:
        self.done = step
        self.line.finish(step)


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack([value.double() for value in values]).mean()
