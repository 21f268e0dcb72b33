"""SIGKILL at random moments of a run that saves every step: no save that returned is ever lost, and none is torn."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from counts import note

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    "kills", [15, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])], ids=["15", "200"]
)
@pytest.mark.skipif(sys.platform != "linux", reason="reads the processor time of another process as Linux gives it")
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint_at_most_one_save_old(tmp_path, kills):
    command = [sys.executable, HERE / "killed.py", tmp_path, str(kills)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    steps = found.pop("steps")
    assert found == {"kills": kills, "late": 0, "torn": 0, "foreign": 0, "differing": 0}
    assert steps == sorted(steps)  # a run never goes back
    assert len(set(steps)) > kills / 4  # and gets on: the kills hit a run that works
    note(4, "SIGKILL at random moments", cases=kills, right=kills, steps=steps[-1])
