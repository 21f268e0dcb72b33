"""Orders of visits: each sample once a round, or in W/S consecutive windows that slide modulo the data set."""

import math
from collections import Counter

import pytest
import torch

from lookalike.functional.order import Shuffle, Window


def sets(window: Window, rounds: int, size: int, seed: int = 1, phase: int = 0) -> list[set[int]]:
    return [set(window.indices(seed=seed, phase=phase, round=r, size=size).tolist()) for r in range(rounds)]


@pytest.mark.parametrize("order", [Shuffle(), Window(size=30, shift=30), Window(size=30, shift=10)])
def test_a_round_of_the_whole_data_set_is_a_permutation(order) -> None:
    for round in range(4):
        indices = order.indices(seed=5, phase=1, round=round, size=30)
        assert sorted(indices.tolist()) == list(range(30))
    assert order.length(30) == 30
    assert order.rounds(4.0, 30) == 4.0


@pytest.mark.parametrize("order", [Shuffle(), Window(size=12, shift=3)])
def test_the_order_is_a_function_of_seed_phase_and_round(order) -> None:
    here = {"seed": 5, "phase": 1, "round": 2}
    first = order.indices(**here, size=40)
    assert torch.equal(first, order.indices(**here, size=40))
    for part in here:
        assert not torch.equal(first, order.indices(**here | {part: 7}, size=40)), part


def test_every_sample_comes_to_every_place() -> None:
    """Counts of (place, sample) over 2,000 rounds of six samples: chi squared with 25 degrees of freedom, p < 1e-5."""
    counts = torch.zeros(6, 6)
    for round in range(2000):
        counts[torch.arange(6), Shuffle().indices(seed=3, phase=0, round=round, size=6)] += 1
    assert ((counts - 2000 / 6) ** 2 / (2000 / 6)).sum() < 70


def test_windows_of_four_slide_by_two_over_eight_samples() -> None:
    """Four windows make a cycle; neighbors share W - S = 2 samples, those two apart none; the fifth is the first."""
    windows = sets(Window(size=4, shift=2), 9, 8)
    for round in range(8):
        assert len(windows[round]) == 4
        assert len(windows[round] & windows[round + 1]) == 2
    assert not windows[0] & windows[2]
    assert not windows[1] & windows[3]
    assert windows[0] | windows[2] == windows[1] | windows[3] == set(range(8))
    assert windows[:4] == windows[4:8]
    assert windows[8] == windows[0]


@pytest.mark.parametrize(("size", "length", "shift"), [(8, 4, 2), (12, 6, 2), (12, 4, 4), (10, 5, 1), (9, 6, 3)])
def test_a_cycle_visits_each_sample_equally_often_and_in_a_row(size: int, length: int, shift: int) -> None:
    cycle = size // shift
    windows = sets(Window(size=length, shift=shift), cycle, size)
    assert Counter(i for window in windows for i in window) == dict.fromkeys(range(size), length // shift)
    for i in range(size):
        entries = [r for r in range(cycle) if i in windows[r] and i not in windows[r - 1]]
        assert len(entries) == 1, "a sample comes in once a cycle, and its windows are consecutive"


def test_windows_slide_when_the_shift_does_not_divide() -> None:
    """Seven samples, windows of four by three: read off a plain list that is doubled instead of taken modulo."""
    window = Window(size=4, shift=3)
    windows = sets(window, 7, 7)
    fixed = [None] * 7
    for place in range(7):  # the sample in the fixed shuffle at `place` is the one whose windows are those it predicts
        holding = {r for r in range(7) if any((r * 3 + k) % 7 == place for k in range(4))}
        [fixed[place]] = [i for i in range(7) if {r for r in range(7) if i in windows[r]} == holding]
    assert sorted(fixed) == list(range(7))
    assert windows == [set((fixed * 4)[3 * r : 3 * r + 4]) for r in range(7)]


def test_a_window_is_in_a_new_order_each_time_it_comes_round() -> None:
    first, later = (Window(size=20, shift=20).indices(seed=1, phase=0, round=r, size=40) for r in (0, 2))
    assert set(first.tolist()) == set(later.tolist())
    assert not torch.equal(first, later)


def test_a_window_larger_than_the_data_set_is_the_data_set() -> None:
    window = Window(size=1000, shift=300)
    assert window.length(8) == 8
    assert sets(window, 3, 8) == [set(range(8))] * 3
    assert window.rounds(5.0, 8) == 5.0


@pytest.mark.parametrize("epochs", [0.25, 1.0, 3.0, 7.5])
@pytest.mark.parametrize(("size", "length"), [(8, 4), (10, 4), (7, 3), (4, 4)])
def test_windows_make_as_many_visits_as_epochs(epochs: float, size: int, length: int) -> None:
    rounds = Window(size=length, shift=1).rounds(epochs, size)
    assert rounds == math.ceil(epochs * size / length)
    assert 0 <= rounds * length - epochs * size < length


def test_rounds_of_a_shuffle_are_epochs() -> None:
    assert Shuffle().rounds(2.5, 7) == 2.5


@pytest.mark.parametrize(("size", "shift"), [(4, 0), (4, -1), (4, 5), (0, 0)])
def test_a_window_that_cannot_slide_is_refused(size: int, shift: int) -> None:
    with pytest.raises(ValueError, match=rf"a window of {size} cannot slide by {shift}: give 0 < shift <= size"):
        Window(size=size, shift=shift)


def test_orders_are_values() -> None:
    assert Window(size=4, shift=2) == Window(shift=2, size=4)
    assert Window(size=4, shift=2) != Window(size=4, shift=1)
    assert len({Shuffle(), Shuffle(), Window(size=4, shift=2), Window(size=4, shift=2)}) == 2


def released(rounds: int, size: int, length: int, shift: int, shuffle: bool) -> list[tuple[int, ...]]:
    """Which shuffle, and which of its places, a round of the published sampler takes: its code, followed by hand."""
    shuffles, start, taken = 0, 0, []
    for number in range(rounds):
        if shuffle and start + length > length:
            shuffles = number
        taken.append((shuffles, *sorted((place + start) % length for place in range(length))))
        start = (start + shift) % length
    return taken


@pytest.mark.parametrize(("mode", "shuffle"), [("released", True), ("released_fixed", False)])
def test_the_released_sampler_never_leaves_the_first_places_of_a_shuffle(mode, shuffle) -> None:
    window = Window(size=16, shift=4, mode=mode)
    visited, taken = sets(window, 12, 80), released(12, 80, 16, 4, shuffle)
    for a in range(12):
        for b in range(a):
            assert (visited[a] == visited[b]) == (taken[a] == taken[b])
    assert (len(set().union(*visited)) == 16) == (not shuffle)
    assert len({frozenset(one) for one in visited}) == (10 if shuffle else 1)
