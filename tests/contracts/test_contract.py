"""The contract holds: five crude methods, killed after every step and resumed, equal their unbroken runs to the bit."""

import shutil
from pathlib import Path

import pytest
import torch

from contracts import small_world
from contracts.small_world import Killed, run

METHODS = ["sce", "qk", "pic", "slic", "simclr"]
STEPS = 8
CASES = [(name, 1) for name in METHODS] + [
    pytest.param(name, 2, marks=[] if name == "sce" else pytest.mark.slow) for name in METHODS
]


def same_bits(one, other) -> None:
    (state, losses), (state_2, losses_2) = one, other
    assert losses == losses_2
    assert state.keys() == state_2.keys()
    for name in state:
        assert torch.equal(state[name], state_2[name]), name


def every_death(name: str, folder: Path, accumulate: int, processes: int) -> int:
    """Runs unbroken, then once for each step after which it dies; how many deaths were survived."""
    unbroken = run(name, folder / "unbroken", accumulate=accumulate)
    deaths = 0
    for after in range(STEPS):
        place, every = folder / f"killed-{after}", 1 + after % 3  # what was saved last may be some steps old
        with pytest.raises(Killed):
            run(name, place, accumulate=accumulate, die_after=after, every=every)
        same_bits(run(name, place, accumulate=accumulate, every=every), unbroken)
        deaths += 1
    return deaths


@pytest.mark.parametrize(("name", "accumulate"), CASES)
def test_killed_after_every_step_and_resumed(name: str, accumulate: int, tmp_path: Path) -> None:
    assert every_death(name, tmp_path, accumulate, 1) == STEPS


@pytest.mark.parametrize(("name", "accumulate"), CASES)
def test_two_processes_killed_and_resumed(name: str, accumulate: int, tmp_path: Path, gloo) -> None:
    assert gloo.run(2, every_death, name, tmp_path, accumulate, 2) == [STEPS, STEPS]


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_equal_one(name: str, tmp_path: Path, gloo) -> None:
    state, losses = run(name, tmp_path / "one")
    for state_2, losses_2 in gloo.run(2, run, name, tmp_path / "two"):
        assert losses_2 == pytest.approx(losses, abs=1e-9)
        for key, value in state.items():
            torch.testing.assert_close(state_2[key], value, atol=1e-8, rtol=0)


@pytest.mark.parametrize("name", METHODS)
def test_saved_with_one_process_resumed_with_two(name: str, tmp_path: Path, gloo) -> None:
    _, losses = run(name, tmp_path / "unbroken")
    with pytest.raises(Killed):
        run(name, tmp_path / "half", die_after=3)
    for _, rest in gloo.run(2, run, name, tmp_path / "half"):
        assert rest == pytest.approx(losses, abs=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_methods_learn(name: str, tmp_path: Path) -> None:
    before = small_world.build(name).state_dict()
    state, losses = run(name, tmp_path)
    assert len(losses) == STEPS
    assert all(torch.isfinite(torch.tensor(list(losses.values()))))
    moved = [key for key, value in state.items() if not torch.equal(value, before[key].to(value.dtype))]
    assert any("conv" in key for key in moved)


def test_a_death_that_loses_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    """The comparison can fail: a run that goes on from the wrong step differs."""
    unbroken = run("sce", tmp_path / "unbroken")
    with pytest.raises(Killed):
        run("sce", tmp_path / "killed", die_after=4)
    shutil.rmtree(tmp_path / "killed" / "checkpoints")
    (tmp_path / "killed" / "metrics.jsonl").unlink()
    state, _ = run("sce", tmp_path / "killed", epochs=1.5)
    assert not torch.equal(state["queue.rows_keys"], unbroken[0]["queue.rows_keys"])
