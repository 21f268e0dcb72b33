"""The health probe: what it leaves in metrics.jsonl, every cause named once, and no difference after a resume."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lookalike.api.probes import HealthProbe, readings_of
from lookalike.methods.method import Method, Step
from lookalike.training.journal import Journal
from lookalike.training.metrics import Metrics
from lookalike.training.progress import Line
from methods.fixtures import progress

EVERY, LOOKS = 20, 14


class Told(Method):
    """A method of which only the uniform loss counts here."""

    def __init__(self, uniform: float | None) -> None:
        super().__init__()
        self.told = uniform

    def plan(self, epochs):
        return []

    def forward(self, batch):
        raise AssertionError("a probe looks; it does not run the method")

    def uniform(self, rows: int) -> float | None:
        return None if self.told is None else self.told * rows

    def exports(self):
        return {}


def alike(look: int) -> Tensor:
    """Rows that are all but equal, other ones at each look."""
    return 1 + 1e-4 * torch.randn(16, 8, generator=torch.Generator().manual_seed(look))


def spread(look: int) -> Tensor:
    return torch.randn(16, 8, generator=torch.Generator().manual_seed(look))


def watch(path: Path, looks: range, rows=alike, loss: float = 1.0, uniform: float | None = 0.5) -> list[dict]:
    """Looks at steps 20, 40 ...; the lines written so far."""
    probe = HealthProbe(every=EVERY, rows=4, history=Metrics(path))
    journal = Journal(Metrics(path), Line(quiet=True), images=4)
    for look in looks:
        moment = progress(step=EVERY * (look + 1) - 1, steps=1000, updated=True)
        assert probe.due(moment)
        step = Step(loss=torch.tensor(loss), projections={"one": rows(look)})
        journal.probe(moment, probe.look(Told(uniform), [step], moment))
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_reading_is_whole_in_the_metrics_file(tmp_path) -> None:
    rows = watch(tmp_path / "metrics.jsonl", range(3), spread)
    assert [row["step"] for row in rows] == [20, 40, 60]
    for reading, row in zip(readings_of(rows), rows, strict=True):
        assert (reading.rows, reading.dimensions, reading.loss, reading.uniform) == (16, 8, 1.0, 2.0)
        assert reading.spread == row["spread"]
    assert [row["step"] for row in watch(tmp_path / "none.jsonl", range(1), uniform=None) if "uniform" not in row]


@pytest.mark.parametrize("stop", [1, 6, 8, 9, 12])
def test_a_run_that_was_stopped_is_judged_as_if_it_had_not_been(stop: int, tmp_path) -> None:
    unbroken = watch(tmp_path / "unbroken.jsonl", range(LOOKS))
    watch(tmp_path / "broken.jsonl", range(stop))
    assert watch(tmp_path / "broken.jsonl", range(stop, LOOKS)) == unbroken
    named = [row["collapse"] for row in unbroken if "collapse" in row]
    assert len(named) == 1
    assert named[0].startswith("step 180: The projections have collapsed: all images look alike")


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (4 * 0.5, "The loss stays at 2.000, and it would be 2.000 if all images looked alike"),
        (2.4, "The loss stays at 2.400"),
        (40.0, "The loss is 40, far above 2.000"),
        (1e-5, "The loss is 1e-05: positives are told apart without effort"),
    ],
)
def test_what_a_loss_alone_shows_is_named_while_training(loss: float, words: str, tmp_path) -> None:
    rows = watch(tmp_path / "metrics.jsonl", range(LOOKS), spread, loss)
    (named,) = [row["collapse"] for row in rows if "collapse" in row]
    assert named.startswith(f"step 180: {words}")


@pytest.mark.parametrize(("loss", "uniform"), [(1.9, 0.5), (2.0, None), (1e-5, None), (40.0, None)])
def test_a_loss_in_good_health_or_without_keys_is_left_alone(loss: float, uniform: float | None, tmp_path) -> None:
    rows = watch(tmp_path / "metrics.jsonl", range(LOOKS), spread, loss, uniform)
    assert [row for row in rows if "collapse" in row] == []


def test_no_look_without_an_update_and_nothing_without_projections() -> None:
    probe, moment = HealthProbe(every=EVERY, rows=4), progress(step=19, updated=True)
    assert not probe.due(progress(step=19, updated=False))
    assert not probe.due(progress(step=20, updated=True))
    assert probe.look(Told(1.0), [Step(loss=torch.tensor(1.0))], moment) == {}
    assert probe.look(Told(1.0), [Step(loss=None, projections={"one": alike(0)})], moment) == {}
    assert probe.look(Told(1.0), [Step(loss=torch.tensor(1.0), projections={"one": alike(0)[:1]})], moment) == {}


def test_lines_that_are_no_readings_are_passed_over() -> None:
    whole = {"step": 20, "rows": 4, "dimensions": 2, "spread": 1.0, "rank": 2.0, "cosine": 0.0}
    others = [{"step": 20, "loss": 1.0}, {**whole, "spread": "wide"}, {**whole, "rank": None}, {"step": 1, "knn": 0.5}]
    (found,) = readings_of([*others, whole])
    assert (found.step, found.loss, found.uniform) == (20, None, None)
    assert math.isclose(found.spread, 1.0)
