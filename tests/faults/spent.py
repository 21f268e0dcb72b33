"""How much processor time and memory something takes: the machine may be busy with other things."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Spent:
    """Processor seconds; megabytes by which memory grew at the most (0 where the system does not tell)."""

    seconds: float = 0.0
    megabytes: float = 0.0
    peak: float = 0.0  # megabytes of the whole process


@contextmanager
def spending() -> Iterator[Spent]:
    """Measures what happens inside."""
    spent, told = Spent(), forget_peak()
    before, start = resident("VmRSS") if told else 0.0, time.process_time()
    try:
        yield spent
    finally:
        spent.seconds = time.process_time() - start
        spent.peak = resident("VmHWM") if told else 0.0
        spent.megabytes = spent.peak - before


def forget_peak() -> bool:
    """Makes the peak of resident memory start anew; False where that is not possible. See proc(5), clear_refs."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def resident(what: str) -> float:
    """VmRSS or VmHWM of this process in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) / 1024
