"""What one of several processes cannot read counts for all: one ledger, one bound, and all of them stop together."""

import json
from pathlib import Path

import pytest
import torch

from contracts.small_world import BATCH, Draws, Samples
from gloo import Gloo
from lookalike.data import Skips, Unreadable
from lookalike.data.skipped import TooManyUnreadable
from lookalike.functional.collectives import rank, world
from lookalike.training.journal import Journal
from lookalike.training.loop import Training, train
from lookalike.training.optimizers import Optimization
from lookalike.training.progress import Line
from lookalike.training.runtime import Runtime
from lookalike.training.saver import Saver
from lookalike.training.streams import Streams
from training.test_loop import Fragile

BROKEN = (3, 17, 18, 40, 41)


class Torn(Samples):
    """The samples, some of which cannot be read."""

    def read(self, index: int) -> torch.Tensor:
        if index in BROKEN:
            raise Unreadable(self.name(index), f"image {index} is truncated")
        return super().read(index)


def trained(path: str, allowed: float) -> list[int]:
    source = Torn(3, 8, 8)
    skips = Skips(Path(path) if rank() == 0 else None, len(source), allowed=allowed)
    streams = Streams(source=source, views=Draws(), batch=BATCH, rank=rank(), world=world(), skips=skips)
    journal = Journal(None, Line(quiet=True), images=BATCH, every=1, skips=skips)
    method, optimization = Fragile(), Optimization(name="sgd", rate=0.1)
    run = Training(
        method=method,
        streams=streams,
        optimization=optimization,
        runtime=Runtime(),
        saver=Saver(checkpoints=None),
        journal=journal,
    )
    train(run, 2.0)
    return sorted(skips.met)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_process_knows_them_all_and_the_first_lists_them(gloo: Gloo, tmp_path: Path, processes: int) -> None:
    path = tmp_path / "skipped.jsonl"
    assert gloo.run(processes, trained, str(path), 0.1) == [sorted(BROKEN)] * processes
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["index"]: row["reason"] for row in rows} == {i: f"image {i} is truncated" for i in BROKEN}


def test_too_many_over_all_processes_stop_all_of_them(gloo: Gloo, tmp_path: Path) -> None:
    """A bound of 3 images, of which each of the two processes meets fewer."""
    with pytest.raises(TooManyUnreadable, match="of 64 images"):
        gloo.run(2, trained, str(tmp_path / "skipped.jsonl"), 3 / 64)
