"""metrics.jsonl is valid JSON line by line, holds no step twice after a resume, and costs one wait per line."""

import json
import math
import resource

import pytest
import torch

from lookalike.training.checkpoint import CheckpointError
from lookalike.training.metrics import Metrics


def rows(path) -> list[dict]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def test_a_line_is_there_as_soon_as_it_is_written(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.write({"step": 1, "phase": "train", "loss": torch.tensor(0.25), "updated": True, "norm": None})
    assert rows(metrics.path) == [{"step": 1, "phase": "train", "loss": 0.25, "updated": True, "norm": None}]
    metrics.write({"step": 2, "probe": True, "knn": 0.5})
    assert rows(metrics.path)[1] == {"step": 2, "probe": True, "knn": 0.5}


def test_tensors_of_any_dtype_and_shape_of_one_become_numbers(tmp_path):
    row = {
        "half": torch.tensor([1.5], dtype=torch.bfloat16, requires_grad=True),
        "double": torch.tensor(1 / 3, dtype=torch.float64),
        "count": torch.tensor([[2**40 + 1]]),
        "flag": torch.tensor(True),
    }
    written = Metrics(tmp_path / "metrics.jsonl").write({"step": 1, **row})
    assert written == {"step": 1, "half": 1.5, "double": 1 / 3, "count": 2**40 + 1, "flag": True}
    assert rows(tmp_path / "metrics.jsonl") == [written]
    assert list(written) == ["step", *row]


def test_what_is_not_finite_is_null_and_named(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.write({"step": 3, "loss": torch.tensor(float("nan")), "rate": 0.1, "norm": math.inf})
    assert rows(metrics.path) == [{"step": 3, "loss": None, "rate": 0.1, "norm": None, "nonfinite": ["loss", "norm"]}]


def test_a_resumed_run_holds_no_step_twice(tmp_path):
    path = tmp_path / "metrics.jsonl"
    unbroken, broken = Metrics(tmp_path / "unbroken.jsonl"), Metrics(path)
    for step in range(1, 11):
        unbroken.write({"step": step, "loss": 1 / step})
    for step in range(1, 9):  # dies in step 9, in the middle of a line
        broken.write({"step": step, "loss": 1 / step})
    with path.open("ab") as file:
        file.write(b'{"step": 9, "lo')
    resumed = Metrics(path)  # the newest checkpoint is that of step 6
    resumed.truncate(6)
    for step in range(7, 11):
        resumed.write({"step": step, "loss": 1 / step})
    assert path.read_bytes() == unbroken.path.read_bytes()


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        (b"", 2),
        (b'{"step": 2, "probe": true}\n', 3),
        (b'{"step": 3}', 2),  # whole JSON, but the line end is missing
        (b'{"step": 3}\n{"step": 4}\n', 3),
        (b'{"loss": 1}\n', 2),
        (b"7\n", 2),
        (b"\xff\xfe\n", 2),
        (b'{"step": "x"}\n', 2),
        (b"\0" * 100, 2),  # what some file systems leave after a power cut
    ],
)
def test_torn_foreign_and_later_lines_go(tmp_path, tail, kept):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n' + tail)
    Metrics(path).truncate(3)
    assert [row["step"] for row in rows(path)] == [1, 2, *([2] if b"probe" in tail else [3])][:kept]


def test_at_step_zero_everything_is_new(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.truncate(0)
    assert not metrics.path.exists()
    metrics.write({"step": 0, "probe": True})
    metrics.truncate(0)
    assert rows(metrics.path) == []


def test_a_full_disk_ends_in_a_sentence_and_leaves_the_lines_before(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.write({"step": 1, "loss": 1.0})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (24, 30):  # nothing of the next line fits, or a part of it
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(CheckpointError, match=r"could not write .*metrics\.jsonl: "):
                metrics.write({"step": 2, "loss": 1.0})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    metrics.truncate(2)
    assert rows(metrics.path) == [{"step": 1, "loss": 1.0}]
