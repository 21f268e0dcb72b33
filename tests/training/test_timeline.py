"""From phases to steps: boundaries without drift, rounds of windows, and the three clocks."""

from fractions import Fraction
from itertools import pairwise

import pytest

from lookalike.functional.order import Shuffle, Window
from lookalike.functional.schedules import Clock
from lookalike.methods.method import Phase
from lookalike.training.timeline import Stretch, schedule_clock, timeline


def phase(epochs: float, order=None, *, name: str = "learn", restart: bool = False) -> Phase:
    return Phase(
        name=name, epochs=epochs, trains=("net",), reads=("view/1",), order=order or Shuffle(), restart=restart
    )


def edges(stretches: list[Stretch]) -> list[int]:
    assert [s.start for s in stretches[1:]] == [s.stop for s in stretches[:-1]]
    return [stretches[0].start, *(s.stop for s in stretches)]


def test_one_phase_of_whole_epochs() -> None:
    [stretch] = timeline([phase(3.0)], size=103, batch=10)
    assert (stretch.start, stretch.stop, stretch.per_round) == (0, 30, 10)
    assert (stretch.first, stretch.last, stretch.run_steps, stretch.run_epochs) == (0, 30, 30, 3.0)


@pytest.mark.parametrize("parts", [(1, 10), (1, 3), (7, 12), (5, 4)])
@pytest.mark.parametrize("per_round", [13, 11, 100])
def test_fractions_of_epochs_do_not_drift(parts: tuple[int, int], per_round: int) -> None:
    """A hundred phases: each boundary is the whole number next to the exact sum, in rational arithmetic."""
    exact = Fraction(*parts) * per_round
    found = edges(timeline([phase(parts[0] / parts[1])] * 100, size=per_round * 4 + 3, batch=4))
    assert all(abs(edge - number * exact) <= Fraction(1, 2) for number, edge in enumerate(found))
    assert found[-1] == round(100 * exact)


def test_boundaries_are_rounded_cumulative_steps() -> None:
    """1.3 steps each: 1.3, 2.6, 3.9, 5.2, 6.5 ... and not 1, 2, 3, 4, 5."""
    assert edges(timeline([phase(0.13)] * 4, size=10, batch=1)) == [0, 1, 3, 4, 5]


def test_windows_come_in_whole_rounds() -> None:
    """Three epochs of 100 samples in windows of 40: 7.5, so 8 rounds of four batches; epochs still count to three."""
    plan = [phase(1.0), phase(3.0, Window(size=40, shift=20))]
    shuffle, window = timeline(plan, size=100, batch=10)
    assert (shuffle.start, shuffle.stop, shuffle.per_round) == (0, 10, 10)
    assert (window.start, window.stop, window.per_round) == (10, 10 + 8 * 4, 4)
    assert [window.round_and_slot(step) for step in (10, 13, 14, 41)] == [(0, 0), (0, 3), (1, 0), (7, 3)]
    assert window.epoch(10) == 0.0
    assert window.epoch(26) == 1.5
    assert window.epoch(42) == 3.0


def test_each_phase_begins_its_order_anew() -> None:
    first, second = timeline([phase(1.5), phase(1.0)], size=8, batch=2)
    assert [first.round_and_slot(step) for step in range(first.start, first.stop)] == [
        (0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)
    ]  # fmt: skip
    assert [second.round_and_slot(step) for step in range(6, 10)] == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_clocks_of_phase_and_run() -> None:
    """Four steps an epoch; two epochs, then half a one."""
    first, second = timeline([phase(2.0), phase(0.5)], size=8, batch=2)
    progress = first.progress(5, seed=9)
    assert progress.phase == Clock(step=5, steps=8, epoch=1.25, epochs=2.0)
    assert progress.run == Clock(step=5, steps=10, epoch=1.25, epochs=2.5)
    assert progress.seed == 9
    progress = second.progress(9, seed=9)
    assert progress.phase == Clock(step=1, steps=2, epoch=0.25, epochs=0.5)
    assert progress.run == Clock(step=9, steps=10, epoch=2.25, epochs=2.5)


def test_clocks_grow_evenly_over_uneven_phases() -> None:
    """Run epochs never go back, and start each phase at the sum of those before."""
    stretches = timeline([phase(0.7), phase(1.6), phase(0.45)], size=90, batch=10)
    clocks = [s.progress(step, seed=0).run for s in stretches for step in range(s.start, s.stop)]
    assert [c.step for c in clocks] == list(range(clocks[0].steps))
    assert all(a.epoch < b.epoch for a, b in pairwise(clocks))
    assert [s.before for s in stretches] == pytest.approx([0.0, 0.7, 2.3])
    assert all(c.epochs == pytest.approx(2.75) for c in clocks)
    assert clocks[-1].epoch < 2.75


def test_one_schedule_runs_over_all_phases_without_restart() -> None:
    stretches = timeline([phase(2.0), phase(1.0)], size=8, batch=2)
    clocks = [schedule_clock(stretches, s, step) for s in stretches for step in range(s.start, s.stop)]
    assert clocks == [Clock(step=k, steps=12, epoch=k / 4, epochs=3.0) for k in range(12)]


def test_a_restart_begins_a_new_schedule() -> None:
    """Epochs 1 + 2 share the first schedule, 1 + 3 the second, which starts at zero; the run's clock goes on."""
    plan = [phase(1.0), phase(2.0), phase(1.0, restart=True), phase(3.0)]
    stretches = timeline(plan, size=8, batch=2)
    assert [(s.first, s.last) for s in stretches] == [(0, 12), (0, 12), (12, 28), (12, 28)]
    clocks = [schedule_clock(stretches, s, step) for s in stretches for step in range(s.start, s.stop)]
    assert clocks[:12] == [Clock(step=k, steps=12, epoch=k / 4, epochs=3.0) for k in range(12)]
    assert clocks[12:] == [Clock(step=k, steps=16, epoch=k / 4, epochs=4.0) for k in range(16)]
    assert stretches[2].progress(12, seed=0).run == Clock(step=12, steps=28, epoch=3.0, epochs=7.0)


def test_every_phase_may_restart() -> None:
    stretches = timeline([phase(1.0, restart=True)] * 3, size=8, batch=2)
    assert [(s.first, s.last) for s in stretches] == [(0, 4), (4, 8), (8, 12)]


def test_reading_changes_only_the_views() -> None:
    [stretch] = timeline([phase(1.0)], size=8, batch=2)
    plain = stretch.reading("plain")
    assert (plain.phase.reads, plain.phase.partners) == (("plain",), ())
    assert plain.phase.order == stretch.phase.order
    assert (plain.number, plain.start, plain.stop, plain.per_round) == (0, 0, 4, 4)
    assert stretch.phase.reads == ("view/1",)


@pytest.mark.parametrize(("order", "images"), [(Shuffle(), 20), (Window(size=12, shift=6), 12)])
def test_a_batch_larger_than_a_round_is_refused(order, images: int) -> None:
    sentence = f"a batch of 32 is larger than the {images} images of a round: lower the batch size "
    sentence += f"to {images} or less (--batch)"
    with pytest.raises(ValueError) as raised:
        timeline([phase(1.0, order)], size=20, batch=32)
    assert str(raised.value) == sentence
    assert timeline([phase(1.0, order)], size=20, batch=images)[0].per_round == 1


def test_a_phase_shorter_than_a_step_is_refused() -> None:
    with pytest.raises(ValueError) as raised:
        timeline([phase(1.0), phase(0.05, name="sharpen")], size=8, batch=2)
    assert str(raised.value) == ("phase 'sharpen' with 0.05 epochs is shorter than one step: train for more epochs")
