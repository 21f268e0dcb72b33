"""The first twenty losses of each method, in fp64, are those on record: numbers change by decision, not by accident.

python tests/golden/test_traces.py [method ...]   # writes the record anew; prints a trace of a test file
"""

import json
import sys
from pathlib import Path

import pytest

RECORD = Path(__file__).parent / "traces.json"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from contracts.test_methods_resume import METHODS, go, write_images  # noqa: E402
from methods.records import records  # noqa: E402


def trace(method: str, folder: Path) -> list[float]:
    _, losses = go(method, write_images(folder / "images"), folder / "run", precision="fp64")
    return [losses[step] for step in range(1, 21)]


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
