"""lookalike pretrain with files that cannot be read: skipped, counted, listed, and too many stop the run."""

import json
import shutil
from pathlib import Path

from command import TINY, lookalike, mistake


def spoiled(photos: Path, folder: Path, count: int) -> Path:
    """A copy of the images in which the first `count` are cut short."""
    shutil.copytree(photos, folder)
    for path in sorted(folder.iterdir())[:count]:
        path.write_bytes(path.read_bytes()[:60])
    return folder


def skipped(run: str) -> set[str]:
    return {json.loads(line)["name"] for line in (Path(run) / "skipped.jsonl").read_text().splitlines()}


def test_one_is_skipped_and_listed(photos, tmp_path):
    spoiled(photos, tmp_path / "photos", 1)
    said = lookalike("pretrain", "photos", *TINY, "--out", "run")
    assert said.code == 0
    assert "unreadable images, left out: 1, listed in run/skipped.jsonl" in said.err
    assert skipped("run") == {"000.png"}
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [row for row in rows if "probe" not in row][-1]["skipped"] == 1
    assert rows[-1]["step"] == 8


def test_more_than_allowed_stop_the_run(photos, tmp_path):
    spoiled(photos, tmp_path / "photos", 6)
    text = mistake("pretrain", "photos", *TINY, "--out", "run")
    assert "of 64 images" in text
    assert "cannot be read, more than the 0.10% allowed" in text
    assert "run/skipped.jsonl" in text
    assert "--max-bad" in text
    assert len(skipped("run")) > 1
    assert not Path("run/encoder.safetensors").exists()


def test_more_are_allowed_if_asked_for(photos, tmp_path):
    spoiled(photos, tmp_path / "photos", 6)
    said = lookalike("pretrain", "photos", *TINY, "--out", "run", "--max-bad", "0.1")
    assert said.code == 0, said.err
    assert skipped("run") == {f"{number:03}.png" for number in range(6)}


def test_workers_tell_of_them_in_one_sentence(tmp_path):
    (tmp_path / "torn").mkdir()
    for number in range(20):
        (tmp_path / "torn" / f"{number}.png").write_bytes(b"no image")
    text = mistake("pretrain", "torn", *TINY, "runtime.workers=1", "--out", "run")
    assert text.startswith("none of the 20 images can be read; the first: ")


def test_a_run_that_goes_on_counts_what_it_had_met_and_forgets_what_was_repaired(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    for name in ("000.png", "001.png"):  # as long as before: the run goes on with the same files
        (tmp_path / "photos" / name).write_bytes(bytes((photos / name).stat().st_size))
    words = ("--max-bad", "0.1", "data.cache=false", "saving.every=2")
    assert lookalike("pretrain", "photos", *TINY, *words, "--out", "run").code == 0
    run = Path("run")
    for path in run.glob("encoder.*"):
        path.unlink()
    shutil.rmtree(run / "checkpoints" / "step-00000008")
    (run / "checkpoints" / "latest").write_text("step-00000006\n")
    for repaired, count in (("000.png", 2), ("001.png", 1)):
        copy = Path(shutil.copytree(run, tmp_path / f"run-{count}"))
        said = lookalike("pretrain", "--resume", copy)
        assert said.code == 0, said.err
        rows = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
        assert [row["skipped"] for row in rows if row["step"] == 7 and "probe" not in row] == [count]
        (tmp_path / "photos" / repaired).write_bytes((photos / repaired).read_bytes())
