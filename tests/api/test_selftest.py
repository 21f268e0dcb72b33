"""selftest: every method is checked in four ways, each check can fail, and so may the start of a second process."""

import math
import sys

import pytest
import torch

from lookalike.api import two_processes
from lookalike.api.loops import LOOPS
from lookalike.api.selftest import (
    Check,
    Rehearsal,
    against_loop,
    against_single,
    checks,
    error,
    gradients,
    on_two_processes,
    resumed,
    tried,
)
from lookalike.api.tiny import batch, prepared, tiny
from lookalike.methods.vicreg import VICReg
from lookalike.recipes import METHODS
from methods.records import records

CPU = torch.device("cpu")
OWN = {name: record.loop for name, record in records().items()}


def test_every_method_has_a_loop_here_or_in_its_test_file() -> None:
    assert LOOPS.keys() | OWN.keys() == METHODS.keys()
    assert not LOOPS.keys() & OWN.keys()


@pytest.mark.parametrize("name", METHODS)
def test_each_method_is_what_its_loop_says_in_fp64(name) -> None:
    method, exact = prepared(tiny(name).double()), prepared(tiny(name).double())
    mine = method(batch(method, 12)).loss
    theirs = {**LOOPS, **OWN}[name](exact, batch(exact, 12).views)
    assert error(mine, theirs) < 1e-13
    for loss in (mine, theirs):
        loss.backward()
    assert error(gradients(method), gradients(exact)) < 1e-11


@pytest.mark.parametrize("name", METHODS)
def test_the_checks_pass_with_room(name) -> None:
    assert against_loop(name, CPU) < 2e-5
    assert 0 < against_single(name, CPU) < 3e-2
    assert resumed(name) == 0.0


def test_a_loss_that_is_wrong_is_found(monkeypatch) -> None:
    right = LOOPS["moco"]
    monkeypatch.setitem(LOOPS, "moco", lambda method, views: 1.001 * right(method, views))
    check = tried("moco", 1e-4, against_loop, "moco", CPU)
    assert not check.passed
    assert check.error == pytest.approx(1e-3, rel=0.02)


def test_a_loss_without_a_loop_is_held_against_itself_in_fp64(monkeypatch) -> None:
    monkeypatch.delitem(LOOPS, "vicreg")
    first = next(checks(CPU, ["vicreg"]))
    assert first.what == "vicreg: fp32 against itself in fp64"
    assert 0 < first.error < 2e-5
    monkeypatch.setattr(VICReg, "forward", rounded(VICReg.forward))
    assert against_loop("vicreg", CPU) > 1e-4


def rounded(forward):
    """As a kernel that computes in half precision, whatever it is given."""

    def wrong(self, batch):
        with torch.autocast("cpu", torch.bfloat16):
            return forward(self, batch)

    return wrong


def test_a_state_that_is_not_whole_is_found(monkeypatch) -> None:
    whole = Rehearsal.state

    def without_momentum(self: Rehearsal):
        tensors, facts = whole(self)
        return {key: value for key, value in tensors.items() if not key.startswith("optimizer/")}, facts

    assert resumed("simclr") == 0.0
    monkeypatch.setattr(Rehearsal, "state", without_momentum)
    assert resumed("simclr") > 1e-6


def test_what_cannot_be_computed_fails_and_what_cannot_be_tried_does_not() -> None:
    def broken() -> float:
        raise RuntimeError("no kernel")

    check = tried("x", 1.0, broken)
    assert (check.passed, check.error, check.note) == (False, math.inf, "RuntimeError: no kernel")
    assert not Check("x", math.nan, 1.0).passed
    assert Check("x", 1.0, 1.0).passed
    assert Check("x", None, 1.0, "why").passed


@pytest.mark.parametrize(
    ("executable", "program", "words"),
    [
        ("/nowhere/python", "", "a second process cannot be started"),
        (sys.executable, "raise SystemExit('no network')", "two processes do not meet (no network)"),
        (sys.executable, "import time; time.sleep(60)", "two processes did not answer within 1 s"),
    ],
)
def test_a_machine_without_a_second_process_is_told_so(executable, program, words, monkeypatch) -> None:
    monkeypatch.setattr(two_processes.sys, "executable", executable)
    monkeypatch.setattr(two_processes, "PROGRAM", program)
    monkeypatch.setattr(two_processes, "PATIENCE", 1.0)
    (check,) = on_two_processes()
    assert check.passed
    assert check.error is None
    assert words in check.note


def test_a_process_that_fails_after_they_met_is_a_failure(monkeypatch) -> None:
    program = "import pathlib, sys; [pathlib.Path(sys.argv[1], f'{n}.met').touch() for n in '01']; sys.exit('shapes')"
    monkeypatch.setattr(two_processes, "PROGRAM", program)
    (check,) = on_two_processes()
    assert not check.passed
    assert check.note == "RuntimeError: shapes"
