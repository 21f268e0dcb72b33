"""A run that saves every step, started again and again and killed at random moments (python killed.py FOLDER KILLS).

One process starts a child for each kill. The child trains from the newest checkpoint on; in memory shared with its
parent it notes the state that it is about to save, and each step whose save has returned. Prints what was found, as
JSON.
"""

import json
import mmap
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from tiny import digest, training

from lookalike.training.checkpoint import Checkpoints
from lookalike.training.loop import train
from lookalike.training.optimizers import flat_state
from lookalike.training.saver import Saver

STEPS, DIGEST = 200_000, 16
PROCESSOR_SECONDS = (0.0, 0.2)  # a child gets, before it is killed
PATIENCE = 120.0


class Notes:
    """Shared memory: the step whose save has returned last, whether a step was repeated otherwise, the states."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 16 + STEPS * DIGEST)
        self.memory[:8] = (-1).to_bytes(8, "little", signed=True)

    @property
    def saved(self) -> int:
        return int.from_bytes(self.memory[:8], "little", signed=True)

    @saved.setter
    def saved(self, step: int) -> None:
        self.memory[:8] = step.to_bytes(8, "little", signed=True)

    @property
    def differing(self) -> int:
        """Steps that came out otherwise when they were done again."""
        return self.memory[8]

    def state(self, step: int) -> bytes:
        return self.memory[16 + step * DIGEST : 16 + (step + 1) * DIGEST]

    def note(self, step: int, state: bytes) -> None:
        earlier = self.state(step)
        if earlier not in (bytes(DIGEST), state):
            self.memory[8] = min(255, self.memory[8] + 1)
        self.memory[16 + step * DIGEST : 16 + (step + 1) * DIGEST] = state


class Telling(Saver):
    """The saver, which also notes what it saves and when it has."""

    notes: ClassVar[Notes]

    def save(self, step, state) -> None:
        tensors, _ = flat_state(state.optimizer)
        self.notes.note(step, digest(tensors | {f"method/{name}": v for name, v in state.method.state_dict().items()}))
        super().save(step, state)
        self.notes.saved = max(step, self.notes.saved)


def killed(folder: Path, moment: float, extra: float) -> None:
    """A child trains until it has used `moment` seconds of the processor, and `extra` seconds more; then SIGKILL."""
    child = os.fork()
    if child == 0:
        try:
            train(training(folder, saver=Telling), 1e6)
        finally:
            os._exit(1)
    clock, deadline = (~child << 3) | 2, time.monotonic() + PATIENCE  # the child's processor time: clock_gettime(3)
    while time.monotonic() < deadline:
        try:
            if time.clock_gettime(clock) >= moment:
                break
        except OSError:  # it has ended: the exit code tells
            break
        time.sleep(0.0005)
    time.sleep(extra)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise SystemExit("a child ended before it was killed")


def main() -> None:
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    draw, notes = random.Random(5), Notes()
    Telling.notes = notes
    late, torn, foreign, newest = 0, 0, 0, []
    for _ in range(kills):
        killed(folder, draw.uniform(*PROCESSOR_SECONDS), draw.choice([0.0, draw.uniform(0, 0.01)]))
        try:
            found = Checkpoints(folder).load()
        except ValueError:
            torn += 1
            continue
        step = -1 if found is None else found.step
        newest.append(step)
        late += not notes.saved <= step <= notes.saved + 1
        notes.saved = max(step, notes.saved)  # a save may be whole although its child died before it returned
        torn += bool(found and found.notes)
        foreign += bool(found and digest(found.tensors) != notes.state(step))
    result = {"kills": kills, "late": late, "torn": torn, "foreign": foreign, "differing": notes.differing}
    print(json.dumps({**result, "steps": newest}))


if __name__ == "__main__":
    main()
