"""profile: the parts of a step add up, the largest comes first, a slow data set is named, nothing is kept."""

import time

import pytest
import torch

from lookalike.api import profile

SMALL = ["batch=8", "views.size=8", "epochs=3", "runtime.precision=fp32", "runtime.channels_last=false"]
QUICK = [*SMALL, "backbone.name=resnet18_quarter", "runtime.compile=false", "runtime.threads=1"]


class Noise:
    """Sixty-four images, each read in `delay` seconds."""

    def __init__(self, delay: float) -> None:
        self.delay = delay

    def __len__(self):
        return 64

    def __getitem__(self, index):
        time.sleep(self.delay)
        return torch.randint(256, (3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(index))


def test_the_parts_are_the_whole_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = profile(Noise(0.0), recipe="simclr_small", overrides=QUICK, steps=4)
    assert {cost.part for cost in found.costs} == {
        "views",
        "forward",
        "backward",
        "optimizer",
        "after update",
        "the rest",
    }
    shares = [cost.share for cost in found.costs]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1.0, abs=0.02)
    backward = next(cost for cost in found.costs if cost.part == "backward")
    assert "aten::convolution_backward" in backward.operators
    heavy = sum(cost.share for cost in found.costs if cost.part in ("forward", "backward")) > 0.5
    assert any("computes in fp32" in sentence for sentence in found.advice) == heavy
    assert list(tmp_path.iterdir()) == []


def test_a_slow_data_set_is_named():
    found = profile(Noise(0.05), recipe="simclr_small", overrides=[*QUICK, "data.cache=false"], steps=3)
    assert found.costs[0].part == "views"
    assert found.costs[0].milliseconds > 8 * 50
    assert "runtime.workers=2" in found.advice[0]
    assert "data.cache=auto" in found.advice[0]


def test_too_few_steps_are_said_so():
    with pytest.raises(ValueError, match="training ends after 2 steps, too few to measure"):
        profile(Noise(0.0), recipe="simclr_small", overrides=[*QUICK, "epochs=1", "batch=32"])


def test_a_profiler_that_was_started_is_stopped():
    """Steps that end as the profiler starts: one that runs on ends the process with a fault."""
    with pytest.raises(ValueError, match="training ends after 3 steps, too few to measure"):
        profile(Noise(0.0), recipe="simclr_small", overrides=[*QUICK, "epochs=0.75", "batch=16"])
    assert not torch.autograd._profiler_enabled()
