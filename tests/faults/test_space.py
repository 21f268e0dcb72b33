"""A run whose checkpoints have no room says so before it starts, unless it is told not to ask."""

import re
import shutil

import pytest
from tiny import training

from lookalike.training.checkpoint import SLACK, CheckpointError, Checkpoints
from lookalike.training.loop import train


@pytest.fixture
def free(monkeypatch):
    """Sets the free bytes that the system tells."""

    def to(count: int) -> None:
        monkeypatch.setattr(
            shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**15, 10**15 - count, count)
        )

    return to


def size_of_one(folder) -> int:
    """Bytes of a checkpoint, once the optimizer has its momentum."""
    train(training(folder), 1.0)
    newest = max((folder / "checkpoints").glob("step-*"))
    return sum(path.stat().st_size for path in newest.iterdir())


def test_room_for_keep_and_one_more_is_asked_for(tmp_path, free):
    size = size_of_one(tmp_path / "measured")
    free(3 * SLACK + 2 * size)
    with pytest.raises(
        CheckpointError, match=r"2 that stay and one that is written, need [\d.]+ MB more in .*"
    ) as caught:
        train(training(tmp_path / "run"), 1.0)
    assert re.search(
        r"[\d.]+ MB are free: free some space there, keep fewer \(saving\.keep=1\), or start", str(caught.value)
    )
    assert not (tmp_path / "run" / "checkpoints").exists()
    free(3 * SLACK + 6 * size)
    train(training(tmp_path / "run"), 1.0)


def test_fewer_checkpoints_need_less(tmp_path, free):
    free(2 * SLACK + 4 * size_of_one(tmp_path / "measured"))
    with pytest.raises(CheckpointError, match="2 that stay"):
        train(training(tmp_path / "two"), 1.0)
    train(training(tmp_path / "one", checkpoints=Checkpoints(tmp_path / "one", keep=1)), 1.0)


def test_what_is_there_already_is_not_asked_for_again(tmp_path, free):
    """A run that goes on holds its checkpoints: it needs room for one."""
    size = size_of_one(tmp_path)
    free(SLACK + 2 * size)
    train(training(tmp_path), 2.0)
    assert Checkpoints(tmp_path).latest_step() == 8
    free(SLACK // 2)
    with pytest.raises(CheckpointError, match=r"need 1\.1 MB more"):
        train(training(tmp_path), 3.0)


def test_the_question_can_be_left_out(tmp_path, free):
    """Then the first save that finds no room stops the run."""
    free(SLACK // 2)
    with pytest.raises(CheckpointError, match=r"the checkpoint of step 0 failed: .* bytes are needed"):
        train(training(tmp_path, check_space=False), 1.0)
