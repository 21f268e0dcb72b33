"""Schedules against the numbers of papers and against plain loops over the steps of a run."""

import math

import pytest

from lookalike.functional.schedules import Clock, Constant, Cosine, Warmup

STEPS, EPOCHS, PER_EPOCH = 120, 12, 10


def clock(step: int, steps: int = STEPS, epochs: float = float(EPOCHS)) -> Clock:
    return Clock(step=step, steps=steps, epoch=epochs * step / steps, epochs=epochs)


def run(schedule) -> list[float]:
    return [schedule(clock(step)) for step in range(STEPS)]


@pytest.mark.parametrize(("step", "value"), [(0, 0.996), (50, 0.998), (100, 1.0)])
def test_the_momentum_of_byol(step: int, value: float) -> None:
    assert Cosine(0.996, 1.0)(clock(step, steps=100)) == pytest.approx(value, abs=1e-12)


def test_a_cosine_falls_as_it_rises() -> None:
    """Quarter points of a cosine: cos(pi/3) = 1/2, cos(pi/4) = sqrt(1/2)."""
    falls, rises = Cosine(8.0, 2.0), Cosine(2.0, 8.0)
    assert falls(clock(40)) == pytest.approx(2 + 6 * 0.75)
    assert rises(clock(40)) == pytest.approx(8 - 6 * 0.75)
    assert falls(clock(30)) == pytest.approx(2 + 6 * (1 + math.sqrt(0.5)) / 2)
    assert run(falls) == sorted(run(falls), reverse=True)


def test_a_constant_stays() -> None:
    assert set(run(Constant(0.3))) == {0.3}


def test_warmup_then_cosine_as_a_loop() -> None:
    """Three of twelve epochs from 0.1 to 1, then half a cosine over the remaining ninety steps to 0.01."""
    expected, rate = [], 0.1
    for _ in range(30):
        expected.append(rate)
        rate += 0.9 / 30
    expected += [0.01 + 0.99 * math.cos(math.pi * k / 90 / 2) ** 2 for k in range(90)]
    assert run(Warmup(epochs=3.0, start=0.1, end=0.01)) == pytest.approx(expected, abs=1e-12)


def test_without_warmup_the_first_step_has_the_full_rate() -> None:
    expected = [math.cos(math.pi * k / STEPS / 2) ** 2 for k in range(STEPS)]
    assert run(Warmup()) == pytest.approx(expected, abs=1e-12)


def test_warmup_that_is_a_fraction_of_an_epoch() -> None:
    values = run(Warmup(epochs=0.5, shape="constant"))
    assert values == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8] + [1.0] * 115)


def test_steps_as_a_loop() -> None:
    expected, rate = [], 1.0
    for step in range(STEPS):
        if step in (7 * PER_EPOCH, 105):
            rate *= 0.2
        expected.append(step / 20 if step < 20 else rate)
    values = run(Warmup(epochs=2.0, shape="steps", milestones=(7.0, 10.5), factor=0.2))
    assert values == pytest.approx(expected, abs=1e-12)


def test_constant_after_warmup() -> None:
    expected = [0.5 + 0.5 * step / 40 if step < 40 else 1.0 for step in range(STEPS)]
    assert run(Warmup(epochs=4.0, start=0.5, shape="constant")) == pytest.approx(expected)


@pytest.mark.parametrize("warm", [0, 2])
def test_per_epoch_holds_the_cosine_but_not_the_rise(warm: int) -> None:
    expected = []
    for epoch in range(EPOCHS):
        for batch in range(PER_EPOCH):
            held = (1 + math.cos(math.pi * (epoch - warm) / (EPOCHS - warm))) / 2
            expected.append((epoch + batch / PER_EPOCH) / warm if epoch < warm else held)
    assert run(Warmup(epochs=float(warm), per="epoch")) == pytest.approx(expected, abs=1e-12)


def test_the_same_run_in_finer_steps_has_the_same_rates() -> None:
    schedule = Warmup(epochs=3.0, start=0.2, end=0.1)
    coarse, fine = ([schedule(clock(k * n, steps=STEPS * n)) for k in range(STEPS)] for n in (1, 4))
    assert fine == pytest.approx(coarse, abs=1e-12)
