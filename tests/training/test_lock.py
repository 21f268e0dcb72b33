"""A folder that one process holds is nobody else's, and is free again however that process ends."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lookalike.api.folder import RunFolder
from lookalike.api.pretrain import _alone
from lookalike.training import lock
from lookalike.training.files import CheckpointError
from lookalike.training.lock import LOCK, alone

fcntl = pytest.importorskip("fcntl", reason="needs locks of POSIX")
HOLD = """
import sys
from pathlib import Path
from lookalike.training.lock import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen:
    """A process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path):
    with holder(tmp_path) as process:
        with pytest.raises(CheckpointError, match="another process trains in"):
            alone(tmp_path).__enter__()
        process.communicate("")
    assert process.returncode == 0
    assert not (tmp_path / LOCK).exists()
    with alone(tmp_path):
        assert (tmp_path / LOCK).exists()


def test_a_killed_process_holds_nothing(tmp_path):
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / LOCK).exists()
    with alone(tmp_path):
        second = subprocess.run([sys.executable, "-c", HOLD, str(tmp_path)], input="", capture_output=True, text=True)
        assert "another process trains in" in second.stderr
    assert not (tmp_path / LOCK).exists()


def test_one_process_is_not_in_twice(tmp_path):
    with alone(tmp_path):
        with pytest.raises(CheckpointError, match="another process trains in"):
            alone(tmp_path / "." / "").__enter__()
        second = subprocess.run([sys.executable, "-c", HOLD, str(tmp_path)], input="", capture_output=True, text=True)
        assert "another process trains in" in second.stderr


def test_a_lock_on_a_file_that_has_gone_is_none(tmp_path, monkeypatch):
    """Who held it removed it between our opening and our lock, and another process has made a new one."""
    real, calls = fcntl.lockf, list[int]()

    def late(handle: int, how: int) -> None:
        real(handle, how)
        calls.append(handle)
        if len(calls) == 1:
            (tmp_path / LOCK).unlink()

    monkeypatch.setattr(lock.fcntl, "lockf", late)
    with alone(tmp_path):
        assert len(calls) == 2
        assert os.path.samestat(os.stat(tmp_path / LOCK), os.fstat(calls[1]))


def test_where_a_file_system_has_no_locks_nothing_is_held(tmp_path, monkeypatch):
    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "lockf", refuse)
    with holder(tmp_path) as process:
        with alone(tmp_path):
            pass
        process.communicate("")


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ENOSPC])
def test_any_other_failure_is_a_sentence(tmp_path, monkeypatch, number):
    def refuse(handle: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "lockf", refuse)
    with pytest.raises(CheckpointError, match="could not lock"), alone(tmp_path):
        raise AssertionError("nobody may be in")


def test_a_folder_that_stays_empty_is_removed_and_another_ones_file_is_not(tmp_path):
    with alone(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
    assert not (tmp_path / "run").exists()
    with alone(tmp_path / "run"):
        (tmp_path / "run" / LOCK).unlink()
        (tmp_path / "run" / LOCK).touch()  # that of another process, after somebody removed the folder
    assert (tmp_path / "run" / LOCK).exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="could not make"), alone(tmp_path / "file" / "run"):
        raise AssertionError("nobody may be in")


def refused(folder: str) -> str:
    """What one of several processes says that are refused together."""
    try:
        with _alone(RunFolder(Path(folder))):
            return ""
    except CheckpointError as error:
        return str(error)


def test_several_processes_are_refused_together(tmp_path, gloo):
    with holder(tmp_path) as process:
        first, second = gloo.run(2, refused, str(tmp_path))
        process.communicate("")
    assert first.startswith("another process trains in")
    assert second == "the first process cannot go on: see what it says"
    assert gloo.run(2, refused, str(tmp_path)) == ["", ""]
