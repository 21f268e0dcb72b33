"""Every kind of odd image x {skip, stop}: what comes of it is written down, and no other sample is touched."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from counts import note
from odd_images import COLORS, KINDS, Reads, jpeg, make, picture, png

from lookalike.data import Files, Skips, TooManyUnreadable, Unreadable, cached, decode, read_or_next
from lookalike.data.decode import shown

SECONDS, MEGABYTES = 2.0, 1024.0
HERE = Path(__file__).parent


class Corpus:
    """A folder that everybody may read, with a sound image before, between and behind the odd ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o755)
        (folder / "sound.png").write_bytes(png())
        self.names = make(folder)
        self.order = ["sound.png"]
        for name in self.names.values():
            self.order += [name, "sound.png"]

    def source(self) -> Files:
        return Files(str(self.folder), self.order)

    def place(self, kind: str) -> int:
        return 1 + 2 * list(self.names).index(kind)


@pytest.fixture(scope="module")
def corpus() -> Iterator[Corpus]:
    folder = Path(tempfile.mkdtemp())
    try:
        yield Corpus(folder)
    finally:
        shutil.rmtree(folder)


def children(tasks: dict, folder: Path) -> list[dict]:
    """What decoded.py tells of these tasks, in a process that must end well."""
    (folder / "tasks.json").write_text(json.dumps(tasks))
    command = [sys.executable, HERE / "decoded.py", folder / "tasks.json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def told(corpus, tmp_path_factory) -> list[dict]:
    """What a process of its own made of each kind, and of 300 damaged files; its time and its memory."""
    paths = [str(corpus.folder / name) for name in corpus.names.values()]
    return children({"paths": paths, "damaged": 300}, tmp_path_factory.mktemp("child"))


@pytest.fixture(scope="module")
def found(corpus, told) -> dict[str, dict]:
    return dict(zip(corpus.names, told, strict=False))


@contextmanager
def unprivileged() -> Iterator[None]:
    """Permissions mean nothing to root, who becomes nobody inside."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def color(pixel: list[int]) -> str:
    """The letter of the color that is meant, by half of each channel's range."""
    return next((name for name, full in COLORS.items() if [v > 127 for v in pixel] == [v > 127 for v in full]), "?")


def test_there_are_sixty_four_and_more():
    assert len(KINDS) >= 64
    assert sum(isinstance(kind.result, Reads) for kind in KINDS.values()) > 25
    note(11, "kinds of odd images, skipped and stopped at", cases=2 * len(KINDS), right=2 * len(KINDS))


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_of_it(found, kind):
    """The size, upright, and the colors; or the reason, in one line. The header tells the size that decoding gives."""
    told, result = found[kind], KINDS[kind].result
    if isinstance(result, Reads):
        assert "reason" not in told, told
        assert told["shape"] == [3, result.height, result.width]
        assert told["header"] == [result.height, result.width]
        colors = "".join(map(color, told["quarters"]))
        assert all(want in ("?", got) for want, got in zip(result.quarters, colors, strict=True)), colors
    else:
        assert re.search(result, told.get("reason", "")), told
        assert "\n" not in told["line"]
        assert len(told["line"]) < 600
    assert told["seconds"] < SECONDS
    assert told["peak"] < MEGABYTES


LIGHT = [kind for kind, made in KINDS.items() if not made.heavy]


@pytest.mark.parametrize("kind", LIGHT)
def test_skip(corpus, tmp_path, kind):
    """The next sample of the order stands in, the ledger names the file and the reason, neighbors are as they were."""
    source, place, result = corpus.source(), corpus.place(kind), KINDS[kind].result
    order, sound = torch.arange(len(corpus.order)), decode(png())
    with unprivileged():
        pixels, index, skipped = read_or_next(source, order, torch.tensor([place - 1, place, place + 1]), stride=1)
    assert torch.equal(pixels[0], sound)
    assert torch.equal(pixels[2], sound)
    assert (index[0], index[2]) == (place - 1, place + 1)
    ledger = Skips(tmp_path / "skipped.jsonl", len(source), allowed=1.0)
    ledger.add(skipped)
    if isinstance(result, Reads):
        assert (int(index[1]), len(ledger)) == (place, 0)
        return
    assert (int(index[1]), len(ledger)) == (place + 1, 1)
    assert torch.equal(pixels[1], sound)
    (line,) = (tmp_path / "skipped.jsonl").read_text().splitlines()
    assert json.loads(line)["name"] == corpus.order[place]
    assert re.search(result, json.loads(line)["reason"])


@pytest.mark.parametrize("kind", LIGHT)
def test_stop(corpus, kind):
    """The run ends with a sentence that names the file and the reason; what can be read stops nobody."""
    source, place, result = corpus.source(), corpus.place(kind), KINDS[kind].result
    with unprivileged():
        _, _, skipped = read_or_next(source, torch.arange(len(corpus.order)), torch.tensor([place]), stride=1)
    ledger = Skips(None, len(source), allowed=0.0)
    if isinstance(result, Reads):
        ledger.add(skipped)
        return
    with pytest.raises(TooManyUnreadable) as caught:
        ledger.add(skipped)
    assert shown(corpus.order[place]) in str(caught.value)
    assert re.search(result, str(caught.value))
    assert "\n" not in str(caught.value)


def test_a_cache_of_all_kinds_holds_what_reading_gives(corpus):
    """Decoded once, by four threads: the same pixels, the same failures, and nothing else touched."""
    names = ["sound.png", *(name for kind, name in corpus.names.items() if kind in LIGHT), "sound.png"]
    source = Files(str(corpus.folder), names)
    with unprivileged():
        kept = cached(source, limit_bytes=10**9, workers=4)
        assert kept is not source
        failures: dict[int, str] = {}
        for index in range(len(source)):
            try:
                pixels = source.read(index)
            except Unreadable as error:
                failures[index] = error.reason
            else:
                assert torch.equal(kept.read(index), pixels)
        assert {index: error.reason for index, error in kept.failures.items()} == failures


def test_a_damaged_file_gives_pixels_or_a_sentence(corpus, told):
    """In a process of its own, which neither crashes nor hangs nor grows."""
    demand_pixels_or_sentences(told[len(corpus.names) :], 300)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_thousand_damaged_files(tmp_path):
    demand_pixels_or_sentences(children({"paths": [], "damaged": 5000}, tmp_path), 5000)


def demand_pixels_or_sentences(found: list[dict], count: int) -> None:
    assert len(found) == count
    readable = [told for told in found if "reason" not in told]
    assert count / 20 < len(readable) < count
    for told in found:
        assert told["seconds"] < SECONDS
        assert told["peak"] < MEGABYTES
        assert "\n" not in told.get("line", "")
        assert "Type-check" not in told.get("line", "")  # our own mistakes must not pass for bad files
    slowest, peak = max(told["seconds"] for told in found), max(told["peak"] for told in found)
    note(12, "damaged JPEG and PNG", cases=count, right=count, readable=len(readable), seconds=slowest, megabytes=peak)


@pytest.mark.parametrize("way", ["replaced", "rewritten"])
def test_a_file_that_changes_while_it_is_read(tmp_path, way):
    """Each read gives the one picture or the other, or says that there is none: never a mixture."""
    path, versions, stop = tmp_path / "a.png", (png(), png_of("KWWK")), threading.Event()
    path.write_bytes(versions[0])
    whole = [decode(version) for version in versions]

    def change() -> None:
        for number in range(10**6):
            if stop.is_set():
                return
            if way == "rewritten":
                path.write_bytes(versions[number % 2])
            else:
                (tmp_path / "next").write_bytes(versions[number % 2])
                os.replace(tmp_path / "next", path)

    writer = threading.Thread(target=change)
    writer.start()
    try:
        for _ in range(200):
            try:
                pixels = decode(path)
            except Unreadable:
                assert way == "rewritten"
            else:
                assert any(torch.equal(pixels, one) for one in whole)
    finally:
        stop.set()
        writer.join()


def png_of(quarters: str) -> bytes:
    from odd_images import encoded

    return encoded(picture(quarters), "PNG")


def test_what_is_changed_or_deleted_during_an_epoch_does_not_reach_a_cache(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(jpeg())
    source = Files(str(tmp_path), ["a.jpg", "b.jpg", "c.jpg"])
    before, kept = source.read(1), cached(source, limit_bytes=10**9)
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "b.jpg").write_bytes(jpeg(picture("KKKK", 10, 10)))
    assert torch.equal(kept.read(1), before)
    assert torch.equal(kept.read(0), before)
    assert source.read(1).shape == (3, 10, 10)  # without a cache a file is what it is when it is read
    with pytest.raises(Unreadable, match="No such file"):
        source.read(0)
    assert torch.equal(source.read(2), before)
