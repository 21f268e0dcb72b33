"""A folder that one process holds is nobody else's, and is free again however that process ends."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lookalike.training.files import LOCK, CheckpointError, alone

pytest.importorskip("fcntl", reason="needs locks of POSIX")
HOLD = """
import sys
from pathlib import Path
from lookalike.training.files import alone
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
        with pytest.raises(CheckpointError, match="another process is writing into"):
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
        assert "another process is writing" in second.stderr
    assert not (tmp_path / LOCK).exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(CheckpointError, match="could not write"), alone(tmp_path / "none"):
        pass
