"""What a person sees while something runs: one line that is rewritten on a terminal, a line now and then elsewhere.

Nothing here asks a device for a value or starts a thread: a thread that holds a lock while a data worker is forked
would hang that worker.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

SECONDS = 10.0  # between two plain lines
REFRESH = 0.2  # seconds between two pictures of the bar
SHORT = 2.0  # seconds; what takes less needs no last word
ENDED = "ended by an error: "  # how the log says why a run stands still


class Line:
    """The progress of training, and what is said meanwhile; a context manager that leaves the terminal tidy.

    log: a file that gets every note and a plain line every 10 seconds; quiet: for ranks that print nothing.
    All goes to standard error; results alone belong to standard output.
    """

    def __init__(self, *, log: Path | None = None, quiet: bool = False) -> None:
        self.log, self.quiet = log, quiet
        self.console = Screen(file=sys.stderr, highlight=False)
        self.live = not quiet and sys.stderr.isatty() and not self.console.is_dumb_terminal
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._first, self._total = 0, 0
        self._row: Mapping[str, Any] = {}
        self._since = self._drawn = self._printed = 0.0

    def __enter__(self) -> "Line":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(error, ValueError | RuntimeError | OSError) and self.log is not None and self.log.exists():
            self._log(f"{ENDED}{' '.join(str(error).split())}")

    def say(self, text: str) -> None:
        """A note: to the terminal, above the progress line, and to the log."""
        if not self.quiet:
            self._show(text)
        self._log(text)

    def start(self, step: int, steps: int) -> None:
        """Training goes on at `step` of `steps`."""
        self._first, self._total, self._since = step, steps, time.monotonic()
        self._printed = float("-inf")
        if self.live:
            self._task = self._opened().add_task(f"step {step}/{steps}", total=steps, completed=step)

    def update(self, row: Mapping[str, Any]) -> None:
        """Shows a line of the metrics: step, phase, epoch, loss, images_per_second, wait."""
        self._row, text, now = row, self.describe(row), time.monotonic()
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=row["step"], description=text)
            self._draw(now)
        if now - self._printed < SECONDS and row["step"] < self._total:
            return
        self._printed = now
        if not self.live and not self.quiet:
            self._show(text)
        self._log(text)

    def tick(self, step: int) -> None:
        """Moves the bar to `step`, between two rows; cheap enough for every step, and fetches nothing."""
        now = time.monotonic()
        if self._bar and self._task is not None and now - self._drawn >= REFRESH:
            text = self.describe({**self._row, "step": step})
            self._bar.update(self._task, completed=step, description=text)
            self._draw(now)

    def describe(self, row: Mapping[str, Any]) -> str:
        """The row in one line of text, with the time that is left."""
        done = row["step"] - self._first
        left = (time.monotonic() - self._since) / done * (self._total - row["step"]) if done > 0 else None
        parts = [
            str(row.get("phase", "")),
            f"epoch {row['epoch']:.2f}" if "epoch" in row else "",
            f"step {row['step']}/{self._total}",
            f"loss {row['loss']:.4g}" if isinstance(row.get("loss"), float) else "",
            f"{row['images_per_second']:,.0f} images/s" if "images_per_second" in row else "",
            f"data wait {row['wait']:.0%}" if "wait" in row else "",
            f"ETA {duration(left)}" if left is not None else "",
        ]
        return "  ".join(part for part in parts if part)

    def finish(self, step: int) -> None:
        """Training is done: the line stays as it is, and a note says how long it took."""
        self.close()
        if step > self._first:
            self.say(f"step {step}/{self._total} after {duration(time.monotonic() - self._since)}")

    @contextmanager
    def track(self, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Shows a side job, `total` pieces long; gives a function to call with the number of pieces done.

        with line.track("Decoding", len(files)) as advance:
            for file in files:
                ...
                advance(1)
        """
        alone, job = self._bar is None, Job(what, total)
        task = self._opened().add_task(what, total=total) if self.live else None

        def advance(pieces: int = 1) -> None:
            job.done += pieces
            now = time.monotonic()
            if self._bar and task is not None:
                self._bar.update(task, completed=job.done, description=job.text())
                self._draw(now)
            elif now - job.printed >= SECONDS:
                job.printed = now
                self.say(job.text())

        try:
            yield advance
        finally:
            if self._bar and task is not None:
                self._bar.remove_task(task)
            if alone:
                self.close()
        if (took := time.monotonic() - job.start) >= SHORT:
            self.say(f"{job.text()} in {duration(took)}")

    def close(self) -> None:
        """Takes the bar off the terminal."""
        if self._bar:
            with suppress(OSError):
                self._bar.refresh()
                self._bar.stop()
        self._bar = self._task = None

    def _opened(self) -> Progress:
        if self._bar is None:
            text = TextColumn(
                "{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis"), markup=False
            )
            self._bar = Progress(BarColumn(bar_width=16), text, console=self.console, auto_refresh=False)
            self._bar.start()
        return self._bar

    def _show(self, text: str) -> None:
        """On the terminal; where nobody reads any more (a closed window, a pipe that ended) the run goes on unseen."""
        try:
            self.console.print(text, markup=False, soft_wrap=True)
        except OSError:
            self._unseen()
        if self.console.gone:
            self._unseen()

    def _unseen(self) -> None:
        self.quiet, self.live, self._bar, self._task = True, False, None, None

    def _draw(self, now: float) -> None:
        if self._bar and now - self._drawn >= REFRESH:
            self._drawn = now
            try:
                self._bar.refresh()
            except OSError:
                self._unseen()

    def _log(self, text: str) -> None:
        """To the log with the time; a disk that refuses ends the log, aloud, not the run."""
        if self.log is None:
            return
        try:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {text}\n")
        except OSError as error:
            path, self.log = self.log, None
            self.say(f"nothing more is written to {path}: {error.strerror}")


class Screen(Console):
    """rich's console, which ends the program when nobody reads what it writes; this one remembers it instead."""

    gone = False

    def on_broken_pipe(self) -> None:
        self.gone = True


class Job:
    """A side job: what, how many pieces, how many are done, and the time that is left."""

    def __init__(self, what: str, total: int | None) -> None:
        self.what, self.total, self.done, self.start = what, total, 0, time.monotonic()
        self.printed = self.start + SHORT - SECONDS

    def text(self) -> str:
        if self.total is None:
            return f"{self.what} {self.done:,}"
        text, spent = f"{self.what} {self.done:,}/{self.total:,}", time.monotonic() - self.start
        if not 0 < self.done < self.total or spent < SHORT:
            return text
        return f"{text}  ETA {duration(spent / self.done * (self.total - self.done))}"


def steps_of(advance: Callable[[int], None]) -> Callable[..., None]:
    """A callback that hears totals, as `cached` and `extract` call it, for what `Line.track` gives."""
    done = 0

    def hear(total: int, *_: int) -> None:
        nonlocal done
        advance(total - done)
        done = max(done, total)

    return hear


def duration(seconds: float) -> str:
    """1:02:03, or 2:03."""
    text = str(timedelta(seconds=round(seconds)))
    return text.removeprefix("0:").removeprefix("0") if seconds < 3600 else text
