"""The progress line: rewritten on a terminal, now and then elsewhere, silent when quiet; notes always reach the log."""

import io
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from lookalike.training import progress as module
from lookalike.training.progress import Line, duration

ROW = {"step": 20, "phase": "train", "epoch": 1.25, "loss": 2.5, "images_per_second": 1234.4, "wait": 0.031}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch) -> Callable[[], Terminal]:
    """To be called in the test: pytest sets standard error anew after its fixtures."""

    def make() -> Terminal:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return make


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when told to."""

    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_the_line_says_what_a_person_wants_to_know(clock):
    line = Line(quiet=True)
    line.start(10, 40)
    clock.now += 100
    assert line.describe(ROW) == "train  epoch 1.25  step 20/40  loss 2.5  1,234 images/s  data wait 3%  ETA 3:20"


def test_what_is_unknown_is_left_out(clock):
    line = Line(quiet=True)
    line.start(0, 40)
    assert line.describe({"step": 0, "phase": "fill", "loss": None}) == "fill  step 0/40"


def test_without_a_terminal_a_line_comes_every_ten_seconds_and_at_the_end(capsys, clock, tmp_path):
    log = tmp_path / "log.txt"
    with Line(log=log) as line:
        line.start(0, 100)
        for step in range(1, 101):
            clock.now += 1
            line.update(ROW | {"step": step})
        line.finish(100)
    shown = capsys.readouterr().err
    steps = [int(n) for n in re.findall(r"step (\d+)/100 ", shown)]
    assert steps == [1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 100, 100]
    assert shown.splitlines()[-1] == "step 100/100 after 1:40"
    assert "\x1b" not in shown
    logged = [text[21:] for text in log.read_text().splitlines()]
    assert logged == shown.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  train", log.read_text())


def test_notes_reach_terminal_and_log_word_for_word(capsys, tmp_path):
    text = "queue [red]capped[/red] at 10 of 20, see " + "/very/long/path" * 20
    line = Line(log=tmp_path / "log.txt")
    line.say(text)
    assert capsys.readouterr().err == text + "\n"
    assert (tmp_path / "log.txt").read_text().endswith(f"  {text}\n")


def test_quiet_prints_nothing_anywhere(terminal, clock):
    shown = terminal()
    with Line(quiet=True) as line:
        line.start(0, 2)
        line.say("hello")
        with line.track("Decoding", 3) as advance:
            clock.now += 60
            advance(3)
        line.update(ROW | {"step": 2})
        line.finish(2)
    assert shown.getvalue() == ""


def test_a_log_that_cannot_be_written_ends_aloud_and_the_run_goes_on(capsys, tmp_path):
    line = Line(log=tmp_path / "missing" / "log.txt")
    line.say("one")
    line.say("two")
    assert capsys.readouterr().err.splitlines() == [
        "one",
        f"nothing more is written to {tmp_path}/missing/log.txt: No such file or directory",
        "two",
    ]


def test_a_side_job_without_a_terminal(capsys, clock):
    with Line().track("Decoding", 50_000) as advance:
        for _ in range(50):
            clock.now += 0.5
            advance(1000)
    assert capsys.readouterr().err.splitlines() == [
        "Decoding 4,000/50,000  ETA 0:23",
        "Decoding 24,000/50,000  ETA 0:13",
        "Decoding 44,000/50,000  ETA 0:03",
        "Decoding 50,000/50,000 in 0:25",
    ]


def test_a_short_side_job_needs_no_words(capsys, clock):
    with Line().track("Decoding") as advance:
        clock.now += 1.5
        advance(7)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0:00"),
        (9.6, "0:10"),
        (75.0, "1:15"),
        (754.0, "12:34"),
        (3599.7, "1:00:00"),
        (3723.0, "1:02:03"),
        (90_000.0, "1 day, 1:00:00"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


SCRIPT = """
import sys, threading, time
from lookalike.training.progress import Line
with Line() as line:
    line.start(0, 40)
    for step in range(1, 41):
        row = {"step": step, "phase": "train", "epoch": step / 10, "loss": 1 / step}
        line.update(row | {"images_per_second": 99.0, "wait": 0.5})
        if step == 20:
            line.say("a note [in brackets]")
            with line.track("Probing", 3) as advance:
                for _ in range(3):
                    time.sleep(0.21)
                    advance(1)
        time.sleep(0.02)
    assert threading.active_count() == 1
    line.finish(40)
with Line() as line, line.track("Decoding", 2) as advance:
    time.sleep(0.3)
    advance(2)
print("\\ndone", file=sys.stderr)
"""


def test_on_a_real_terminal_there_is_one_line(tmp_path):
    """In a pseudo-terminal: the bar is drawn over itself, notes stand above it, the cursor comes back."""
    owner, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stderr=child,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200", "NO_COLOR": "1"},
    )
    os.close(child)
    chunks: list[bytes] = []

    def read() -> None:
        while True:
            try:
                chunk = os.read(owner, 65536)
            except OSError:
                return
            if not chunk:
                return
            chunks.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait(60) == 0
    reader.join(10)
    os.close(owner)
    text = b"".join(chunks).decode()
    shown = screen(text)
    assert shown[0] == "a note [in brackets]"
    assert re.fullmatch(
        r"━+ train  epoch 4\.00  step 40/40  loss 0\.025  99 images/s  data wait 50%  ETA 0:00", shown[1]
    )
    assert re.fullmatch(r"step 40/40 after 0:0\d", shown[2])
    assert shown[-1] == "done"
    assert len(shown) <= 6
    assert "Probing 2/3" in text
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")


def screen(text: str) -> list[str]:
    """What stays on the screen: enough of a terminal for carriage return, line feed, cursor up and erase line."""
    lines, row, column = [""], 0, 0
    for code, char in re.findall(r"\x1b\[([0-9;?]*[A-Za-z])|([\s\S])", text):
        if code == "2K":
            lines[row] = ""
        elif code.endswith("A"):
            row -= int(code[:-1])
        elif char == "\r":
            column = 0
        elif char == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif char:
            lines[row] = lines[row][:column].ljust(column) + char + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines if line.strip()]


def test_between_two_rows_the_bar_goes_on_with_the_step(terminal, clock):
    """At most five pictures a second, with the numbers of the last row."""
    shown = terminal()
    with Line() as line:
        line.start(0, 40)
        line.update(ROW | {"step": 10})
        for step in range(11, 31):
            clock.now += 0.0625
            line.tick(step)
        steps = [int(number) for number in re.findall(r"step (\d+)/40  loss 2\.5  1,234 images/s", shown.getvalue())]
    assert steps == [10, 14, 18, 22, 26, 30]


def test_the_terminal_is_tidied_after_an_error(terminal):
    screen = terminal()

    def interrupted() -> None:
        with Line() as line:
            line.start(0, 10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    shown = screen.getvalue()
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l") > -1


def test_progress_alone_says_how_long_a_job_took(clock, capsys):
    with Line() as line, line.track("Embedding", 10) as advance:
        clock.now += 65
        advance(10)
    assert capsys.readouterr().err.splitlines() == ["Embedding 10/10", "Embedding 10/10 in 1:05"]
