"""lookalike selftest: a line for each check with its error and limit, the time, and exit code 1 where one fails."""

import re

from command import lookalike, mistake

from lookalike.api import two_processes
from lookalike.api.loops import LOOPS
from lookalike.recipes import METHODS


def test_all_checks_pass_here(monkeypatch):
    monkeypatch.setattr(two_processes, "PATIENCE", 240.0)  # of a machine that is busy with other tests
    said = lookalike("selftest", "--device", "cpu")
    assert said.code == 0, said.out
    *lines, total, then = said.out.splitlines()
    assert len(lines) == 4 * len(METHODS)
    assert all(re.fullmatch(r"ok        \w+: .+: error \d\.\de[-+]\d\d, limit \d+e[-+]\d\d", line) for line in lines)
    assert sum("one process against two, in fp64" in line for line in lines) == len(METHODS)
    assert re.fullmatch(rf"{len(lines)} checks in \d+\.\d s, 0 failed", total)
    assert then == "next: lookalike demo"
    assert "starting two processes" in said.err  # seconds pass before their checks come


def test_a_check_that_fails_is_exit_code_1(monkeypatch):
    right = LOOPS["sce"]
    monkeypatch.setitem(LOOPS, "sce", lambda method, views: 1.01 * right(method, views))
    monkeypatch.setattr(two_processes.sys, "executable", "/nowhere/python")
    said = lookalike("selftest", "--device", "cpu")
    assert said.code == 1
    (failed,) = [line for line in said.out.splitlines() if line.startswith("FAILED")]
    assert failed.startswith("FAILED    sce: fp32 against a slow loop in fp64: error 9.9e-03, limit 1e-04")
    assert "not done  one process against two, in fp64 (a second process cannot be started" in said.out
    assert ", 1 failed" in said.out


def test_a_device_that_is_not_there():
    assert "it is auto, cpu, cuda or cuda:N" in mistake("selftest", "--device", "abacus")
