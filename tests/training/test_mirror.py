"""What TensorBoard reads is what metrics.jsonl holds, also after a resume; a mirror that fails is left behind."""

import json
import math
import sys

import numpy as np
import pytest

from lookalike.training.metrics import Metrics
from lookalike.training.mirror import EventFile, Mirror

REASON = "needs the package tensorboard: pip install 'lookalike[log]'"


def read_back(folder) -> list[tuple[int, str, float]]:
    """(step, tag, value) of every scalar in the folder, as TensorBoard's own reader finds them."""
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader", reason=REASON)
    (path,) = (path for path in folder.iterdir() if path.stat().st_size)
    event = pytest.importorskip("tensorboard.compat.proto.event_pb2").Event
    found = [event.FromString(data) for data in loader.RawEventFileLoader(str(path)).Load()]
    assert all(one.wall_time > 1.7e9 for one in found)
    return [(one.step, value.tag, value.simple_value) for one in found for value in one.summary.value]


def told_by(path) -> list[tuple[int, str, float]]:
    """The same of the lines of metrics.jsonl, in float32."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        (row["step"], name, float(np.float32(value)))
        for row in rows
        for name, value in row.items()
        if name not in ("step", "probe") and isinstance(value, int | float)
    ]


@pytest.fixture
def mirrored(tmp_path):
    """Makes the metrics of a start in tmp_path, and keeps what was said."""
    said: list[str] = []

    def begun(step: int) -> Metrics:
        metrics = Metrics(tmp_path / "metrics.jsonl", Mirror(EventFile(tmp_path / "tensorboard"), said.append))
        metrics.truncate(step)
        return metrics

    begun.said = said
    return begun


def test_an_event_file_holds_the_numbers_of_the_lines(mirrored, tmp_path):
    pytest.importorskip("tensorboard", reason=REASON)
    metrics = mirrored(0)
    metrics.write(
        {"step": 1, "phase": "train", "loss": 1 / 3, "updated": True, "gradient_norm": math.inf, "skipped": 2}
    )
    metrics.write({"step": 1, "probe": True, "health/rank": 7.5, "collapse": "a sentence", "nothing": None})
    wanted = [(1, "loss", 1 / 3), (1, "updated", 1.0), (1, "skipped", 2.0), (1, "health/rank", 7.5)]
    assert read_back(tmp_path / "tensorboard") == [(step, tag, pytest.approx(v, rel=1e-7)) for step, tag, v in wanted]
    assert read_back(tmp_path / "tensorboard") == told_by(metrics.path)
    assert mirrored.said == []


def test_a_resumed_run_holds_no_step_twice(mirrored, tmp_path):
    pytest.importorskip("tensorboard", reason=REASON)
    metrics = mirrored(0)
    for step in range(1, 9):
        metrics.write({"step": step, "loss": 1 / step})
    metrics = mirrored(6)  # dies after step 8; the newest checkpoint is that of step 6
    assert [step for step, *_ in read_back(tmp_path / "tensorboard")] == [1, 2, 3, 4, 5, 6]
    for step in range(7, 11):
        metrics.write({"step": step, "loss": -1 / step})
    assert [step for step, *_ in read_back(tmp_path / "tensorboard")] == list(range(1, 11))
    assert read_back(tmp_path / "tensorboard") == told_by(metrics.path)


def test_a_watching_tensorboard_forgets_the_steps_that_were_given_up(mirrored, tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=REASON)
    metrics = mirrored(0)
    for step in range(1, 5):
        metrics.write({"step": step, "loss": 1.0})
    watching = accumulators.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert len(watching.Scalars("loss")) == 4
    metrics = mirrored(2)
    metrics.write({"step": 3, "loss": 2.0})
    again = [(event.step, event.value) for event in watching.Reload().Scalars("loss")]
    assert again == [(1, 1.0), (2, 1.0), (3, 2.0)]
    mirrored(2)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2  # the file before it stays, empty


def test_a_mirror_that_fails_is_named_once_and_training_goes_on(mirrored, tmp_path):
    pytest.importorskip("tensorboard", reason=REASON)
    metrics = mirrored(0)
    metrics.write({"step": 1, "loss": 1.0})
    (path,) = (tmp_path / "tensorboard").iterdir()
    path.unlink()
    path.mkdir()  # nothing can be appended to a folder
    for step in (2, 3):
        metrics.write({"step": step, "loss": 1.0})
    assert [row["step"] for row in metrics.rows()] == [1, 2, 3]
    (sentence,) = mirrored.said
    assert sentence.startswith("curves are no longer written (IsADirectoryError: ")
    assert sentence.endswith("metrics.jsonl has it all")


def test_without_the_package_the_remedy_is_said(mirrored, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    metrics = mirrored(0)
    metrics.write({"step": 1, "loss": 1.0})
    (sentence,) = mirrored.said
    assert sentence.endswith("pip install 'lookalike[log]'")
    assert not (tmp_path / "tensorboard").exists()
    assert len(metrics.rows()) == 1
