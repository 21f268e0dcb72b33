"""The first twenty losses of each method, in fp64, are those on record: numbers change by decision, not by accident.

python tests/golden/test_traces.py [method ...]   # writes the record anew; prints a trace of a test file
"""

import json
import sys
from contextlib import suppress
from pathlib import Path

import pytest

LENGTH = 20
RECORD = Path(__file__).parent / "traces.json"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from contracts.small_world import Killed  # noqa: E402
from contracts.test_methods_resume import METHODS, go, losses_of, write_images  # noqa: E402
from methods.records import records  # noqa: E402


def trace(method: str, folder: Path) -> list[float]:
    with suppress(Killed):  # the schedules are those of a longer run, which need not be waited for
        images, run = write_images(folder / "images"), folder / "run"
        go(method, images, run, precision="fp64", die_after=LENGTH + 1, more=["saving.every=1000"])
    losses = losses_of(folder / "run")
    return [losses[step] for step in range(1, LENGTH + 1)]


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_those_on_record(method: str, tmp_path: Path) -> None:
    expected = records()[method].trace if method in records() else json.loads(RECORD.read_text())[method]
    assert trace(method, tmp_path) == pytest.approx(expected, rel=1e-7)


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    record = json.loads(RECORD.read_text())
    for method in sys.argv[1:] or METHODS:
        with TemporaryDirectory() as folder:
            found = trace(method, Path(folder))
        if method in records():
            print(method, json.dumps(found))
        else:
            record[method] = found
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
