"""A save that is killed, or refused, at any call that reaches the disk: the previous checkpoint stays, nothing else."""

import errno
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from counts import note
from disk import ERRORS, REMOVING, calls_of, die, disk, refuse, refuse_from
from torch import Tensor

from lookalike.cli.shell import verdict
from lookalike.data import Skipped, Skips
from lookalike.training.checkpoint import CheckpointError, Checkpoints, load_weights, save_weights, write_atomic
from lookalike.training.metrics import Metrics

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/fd")
MEMORY = "/dev/shm"
NUMBERS = pytest.mark.parametrize("number", ERRORS.values(), ids=ERRORS.keys())


def state(step: int) -> dict[str, Tensor]:
    return {"weight": torch.arange(5000.0) * step, "count": torch.tensor(step)}


def save(folder: Path, step: int) -> None:
    Checkpoints(folder).save(step, state(step), {"step": step})


def demand_whole(folder: Path, *steps: int) -> int:
    """The newest checkpoint, bit by bit one of these steps; nothing was skipped."""
    found = Checkpoints(folder).load()
    assert found is not None
    assert found.notes == []
    assert found.step in steps
    assert found.facts == {"step": found.step}
    assert all(torch.equal(found.tensors[name], value) for name, value in state(found.step).items())
    return found.step


def litter(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".tmp-")]


def demand_one_sentence(error: Exception, number: int, name: str = "") -> None:
    code, text = verdict(error)
    assert code == 2
    assert "\n" not in text
    assert not re.search(r"[.!?] ", text)
    assert os.strerror(number) in text
    assert name in text
    assert re.search(r"; (free some|check|write to)|: (free some|check|write to)", text), text


@pytest.fixture
def before() -> Iterator[Path]:
    """A run with checkpoints 1 and 2, whose pointer only its owner may read; in memory, where syncing is quick."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        yield begun(Path(folder))


def begun(place: Path) -> Path:
    for step in (1, 2):
        save(place / "before", step)
    (place / "before" / "checkpoints" / "latest").chmod(0o600)
    return place / "before"


def mode(folder: Path) -> int:
    return (folder / "checkpoints" / "latest").stat().st_mode & 0o777


def copies(before: Path) -> Iterator[tuple[int, str, Path]]:
    """For each call of a save: its number, the call, and a copy of the run on which it may fail."""
    whole = Path(shutil.copytree(before, before.with_name("whole")))
    calls = calls_of(whole, lambda: save(whole, 3))
    kinds = {call.split()[0] for call in calls}
    assert kinds >= {"scandir", "mkdir", "create", "write", "fsync", "chmod", "replace", "rename", "unlink", "rmdir"}
    assert "fsync checkpoints" in calls  # the folder, after the rename
    for at, call in enumerate(calls, start=1):
        yield at, call, Path(shutil.copytree(before, before.with_name(f"run-{at}")))


def in_a_child(deed: Callable[[], None]) -> int:
    """How the deed ended in a process of its own: its exit code, or minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            deed()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_save(folder: Path, at: int) -> None:
    with disk(folder, die(at)):
        save(folder, 3)


@pytest.fixture(params=["disk", "memory"])
def place(request, tmp_path: Path) -> Iterator[Path]:
    """A folder on the disk, and one in memory: two file systems."""
    if request.param == "disk":
        yield tmp_path
        return
    if not os.access(MEMORY, os.W_OK):
        pytest.skip(f"there is no file system in memory at {MEMORY}")
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


def test_a_kill_at_any_call_of_a_save(place):
    before, points = begun(place), 0
    for points, call, folder in copies(before):
        assert in_a_child(lambda at=points, folder=folder: killed_save(folder, at)) == -signal.SIGKILL, call
        demand_whole(folder, 2, 3)
        save(folder, 4)
        assert demand_whole(folder, 4) == 4
        assert litter(folder) == [], call
        assert mode(folder) == 0o600
    assert points > 20
    note(5, "SIGKILL at each call of a save, on two file systems", cases=points, right=points)


@NUMBERS
def test_a_refusal_of_any_call_of_a_save(before, number):
    points = 0
    for points, call, folder in copies(before):
        try:
            with disk(folder, refuse(points, number)):
                save(folder, 3)
        except CheckpointError as error:
            demand_one_sentence(error, number)
            demand_whole(folder, 2, 3)
            assert litter(folder) == [], call
        else:  # an old checkpoint may stay for a while, half removed
            assert call.split()[0] in (*REMOVING, "scandir", "open"), call
            demand_whole(folder, 3)
        assert Checkpoints(folder).load(2) is not None
        assert mode(folder) == 0o600
        save(folder, 4)
        demand_whole(folder, 4)
        assert litter(folder) == [], call
        assert mode(folder) == 0o600
    note(6, f"refusal of each call of a save: {os.strerror(number)}", cases=points, right=points)


def test_a_disk_that_goes_away_in_the_middle_of_a_save(before):
    points = 0
    for points, _, folder in copies(before):
        try:
            with disk(folder, refuse_from(points, errno.EIO)):
                save(folder, 3)
        except CheckpointError as error:
            demand_one_sentence(error, errno.EIO)
        demand_whole(folder, 2, 3)
        save(folder, 4)
        demand_whole(folder, 4)
        assert litter(folder) == []
    note(6, "the disk goes away at each call of a save", cases=points, right=points)


def test_a_folder_that_may_not_be_written_for_real(before):
    """The system itself refuses; permissions mean nothing to root, who becomes nobody meanwhile."""
    reachable = Path(tempfile.mkdtemp())
    run = Path(shutil.copytree(before, reachable / "run"))
    (run / "checkpoints" / "latest").chmod(0o644)
    for folder in (reachable, run, run / "checkpoints"):
        folder.chmod(0o555)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        with pytest.raises(CheckpointError, match="that of step 2 is as it was") as caught:
            save(run, 3)
    finally:
        if root:
            os.seteuid(0)
        for folder in (reachable, run, run / "checkpoints"):
            folder.chmod(0o755)
    demand_one_sentence(caught.value, errno.EACCES)
    demand_whole(run, 2)
    shutil.rmtree(reachable)


def replaced(path: Path, data: bytes) -> None:
    write_atomic(path, data)


def exported(path: Path, data: bytes) -> None:
    save_weights(path, {"a": torch.tensor(list(data))})


@NUMBERS
@pytest.mark.parametrize("write", [replaced, exported])
def test_a_refusal_while_a_file_is_replaced(tmp_path, write, number):
    for name in ("file", "another"):
        write(tmp_path / name, b"old")
        (tmp_path / name).chmod(0o640)
    old, points = (tmp_path / "file").read_bytes(), 0
    for call in calls_of(tmp_path, lambda: write(tmp_path / "another", b"new")):
        points += 1
        try:
            with disk(tmp_path, refuse(points, number)) as calls:
                write(tmp_path / "file", b"new")
        except CheckpointError as error:
            demand_one_sentence(error, number, "file")
        else:
            pytest.fail(f"{call} was refused and nobody said so")
        if not any(done.startswith("replace") for done in calls[: points - 1]):
            assert (tmp_path / "file").read_bytes() == old, call
        (tmp_path / "file").write_bytes(old)
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
        assert litter(tmp_path) == []
    note(6, f"refusal while a file is replaced: {os.strerror(number)}", cases=points, right=points)


@NUMBERS
def test_a_refusal_of_a_line_of_the_journal(tmp_path, number):
    """A torn last line is all that may be left; it goes when the run goes on."""
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.write({"step": 1, "loss": 0.5})
    for at in (1, 2):
        with disk(tmp_path, refuse(at, number)), pytest.raises(CheckpointError, match=r"metrics\.jsonl") as caught:
            metrics.write({"step": 2, "loss": 0.25})
        demand_one_sentence(caught.value, number)
        metrics.truncate(1)
        assert [json.loads(line) for line in metrics.path.read_text().splitlines()] == [{"step": 1, "loss": 0.5}]


@NUMBERS
def test_a_refusal_of_a_line_of_the_ledger(tmp_path, number):
    path = tmp_path / "skipped.jsonl"
    Skips(path, 10_000).add([Skipped(1, "a.jpg", "torn")])
    for at in (1, 2):
        with disk(tmp_path, refuse(at, number)), pytest.raises(OSError, match=os.strerror(number)) as caught:
            Skips(path, 10_000).add([Skipped(2, "b.jpg", "torn")])
        demand_one_sentence(caught.value, number)
        assert str(path) in verdict(caught.value)[1]
    Skips(path, 10_000).add([Skipped(3, "c.jpg", "torn")])
    names = []
    for line in path.read_text().splitlines():
        try:
            names.append(json.loads(line)["name"])
        except ValueError:
            continue
    assert names == ["a.jpg", "c.jpg"]


def test_weights_that_were_saved_are_read(tmp_path):
    """What `exported` writes is what the tests above believe."""
    exported(tmp_path / "file", b"new")
    assert bytes(load_weights(tmp_path / "file")["a"].tolist()) == b"new"
