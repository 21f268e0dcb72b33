"""metrics.jsonl once more, for a program that draws curves: made from its lines, and never in the way of training."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

INSTALL = "pip install 'lookalike[log]'"


class EventFile:
    """An event file of TensorBoard in `folder`: a scalar for each number of a line, by its name, at its step.

    Written at once and without a thread, which a data worker must not be forked beside. TensorBoard keeps float32.
    Lines made anew carry the time at which they were.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path: Path | None = None

    def restart(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """A new file with these lines takes the place of all others in the folder; a TensorBoard that looks follows.

        What was read before is forgotten there: that is what a start in the session log means.
        """
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        old = list(self.folder.glob("events.out.tfevents.*"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / f"events.out.tfevents.{time.time_ns():020}"
        start = [Event(file_version="brain.Event:2"), Event(step=0, session_log=SessionLog(status=SessionLog.START))]
        self._append([*start, *map(self._event, rows)])
        for path in old:
            if path.stat().st_size:
                os.truncate(path, 0)  # who reads it goes on to the next file, but not from one that is gone
            else:
                path.unlink()

    def add(self, row: Mapping[str, Any]) -> None:
        self._append([self._event(row)])

    def _event(self, row: Mapping[str, Any]) -> Any:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers(row).items()]
        return Event(step=row["step"], summary=Summary(value=values))

    def _append(self, events: Iterable[Any]) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        if self.path is None:
            raise ValueError("the event file was not begun: call restart before add")
        with open(self.path, "ab") as file:
            records = RecordWriter(file)
            for event in events:
                event.wall_time = time.time()
                records.write(event.SerializeToString())


class Mirror:
    """Hands each line of metrics.jsonl on. The first failure is said aloud, and from then on nothing is handed on.

    At each start everything is made anew from metrics.jsonl as it was cut back, so that no step appears twice.
    """

    def __init__(self, writer: EventFile, say: Callable[[str], None]) -> None:
        self.writer, self.say = writer, say
        self.broken = False

    def restart(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._try(lambda: self.writer.restart(rows))

    def add(self, row: Mapping[str, Any]) -> None:
        self._try(lambda: self.writer.add(row))

    def _try(self, deed: Callable[[], None]) -> None:
        if self.broken:
            return
        try:
            deed()
        except Exception as error:  # of somebody else's package, which training must outlive
            self.broken = True
            remedy = INSTALL if isinstance(error, ImportError) else "metrics.jsonl has it all"
            self.say(f"curves are no longer written ({type(error).__name__}: {error}): {remedy}")


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line but its step; what is text, null or a list is left out, true is 1."""
    others = ("step", "probe")
    return {name: float(v) for name, v in row.items() if name not in others and isinstance(v, int | float)}
