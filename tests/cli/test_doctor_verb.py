"""lookalike doctor: one line for each finding, the command to type next, and a run that stays as it is."""

import json
import shlex
from pathlib import Path

import pytest
from command import lookalike, mistake, write_images

from lookalike.api import doctor


def metrics(run: Path, **changes: object) -> None:
    """The run's lines with changes; a share of waiting that no machine's load decides."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    text = "".join(json.dumps({**row, "wait": 0.01, **changes}) + "\n" for row in rows)
    (run / "metrics.jsonl").write_text(text)


def state(run: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in run.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def asked(run: Path) -> list[str]:
    """The lines that doctor prints, after asserting that it changed nothing."""
    before, folders = state(run), sorted(run.rglob("*"))
    said = lookalike("doctor", run)
    assert said.code == 0, said.err
    assert state(run) == before
    assert sorted(run.rglob("*")) == folders
    return said.out.splitlines()


def findings(run: Path) -> dict[str, str]:
    lines = asked(run)
    assert lines[-2].startswith("looked at: ")
    assert lines[-1].startswith("next: ")
    return dict(line.split(": ", 1) for line in lines[:-2])


def test_a_run_in_good_health(own_run) -> None:
    metrics(own_run)
    wrong, looked, then = asked(own_run)
    assert wrong == "nothing wrong found"
    assert "lines of metrics.jsonl to step 8 of 8, checkpoints of step 4 and 6 and 8, log.txt" in looked
    assert then == f"next: lookalike evaluate {own_run} --data LABELLED"


def test_a_run_that_was_stopped(unfinished) -> None:
    metrics(unfinished)
    *_, wrong, _, then = asked(unfinished)
    assert wrong == "nothing wrong found"
    assert then == f"next: lookalike pretrain --resume {unfinished}"


def test_damaged_checkpoints(unfinished) -> None:
    metrics(unfinished)
    for name in ("step-00000002", "step-00000006"):
        path = unfinished / "checkpoints" / name
        if path.exists():
            (path / "state.safetensors").write_bytes(b"torn")
    found = findings(unfinished)
    assert list(found) == ["damaged checkpoint"]
    assert "step-00000006" in found["damaged checkpoint"]
    assert "resuming goes on at step 4" in found["damaged checkpoint"]
    for path in (unfinished / "checkpoints").glob("*/facts.json"):
        path.write_text("{}")
    assert "none is whole, so nothing can be resumed" in findings(unfinished)["damaged checkpoint"]
    assert asked(unfinished)[-1].startswith("next: lookalike pretrain ")
    assert "--resume" not in asked(unfinished)[-1]


def test_what_became_of_the_files(own_run) -> None:
    metrics(own_run)
    (own_run / "manifest.json").unlink()
    weights = bytearray((own_run / "encoder.safetensors").read_bytes())
    weights[-1] ^= 1
    (own_run / "encoder.safetensors").write_bytes(weights)
    rows = [{"index": n, "name": f"a\n{n}.jpg", "reason": "it is cut short"} for n in (3, 3, 7)]
    (own_run / "skipped.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"na')
    found = findings(own_run)
    assert set(found) == {"lost manifest", "changed weights", "skipped images"}
    assert "its fingerprint differs" in found["changed weights"]
    assert (
        "2 of 64 images (3.12%) could not be read, the first 'a\\n3.jpg' (it is cut short)" in found["skipped images"]
    )


def test_the_error_that_stopped_a_run_is_in_its_log(tmp_path) -> None:
    (write_images(tmp_path / "photos", 64) / "007.png").write_bytes(b"torn")
    words = ("--recipe", "simclr_small_smoke", "--out", tmp_path / "run", "data.max_bad=0", "data.cache=false")
    text = mistake("pretrain", tmp_path / "photos", *words)
    found = findings(tmp_path / "run")
    assert found["stopped by an error"] == f"{text}."
    assert found["skipped images"].startswith("1 of 64 images (1.56%) could not be read, the first 007.png")
    assert asked(tmp_path / "run")[-1] == f"next: lookalike pretrain --resume {tmp_path / 'run'}"


def test_the_next_command_is_a_run_with_the_change(own_run, tmp_path) -> None:
    metrics(own_run, wait=0.5)
    lines = asked(own_run)
    assert lines[0].startswith("starved loader: 50% of the time went into waiting for images")
    command, change = lines[-1].removeprefix("next: ").rsplit(" ", 1)
    assert change == "runtime.workers=2"
    said = lookalike(*shlex.split(command)[1:], change, "--out", tmp_path / "again", "--epochs", 0.5)
    assert said.code == 0, said.err
    assert "workers: 2" in (tmp_path / "again" / "recipe.yaml").read_text()


def test_of_no_gradient_and_what_follows_from_it_the_cause_alone_is_named(own_run) -> None:
    metrics(own_run)
    kept, told = own_run / "metrics.jsonl", json.loads((own_run / "manifest.json").read_text())
    (own_run / "manifest.json").write_text(json.dumps({**told, "images": 1000}))
    last = {"step": 8, "probe": True, "recognized/trained": 0.0, "recognized/random weights": 0.9}
    kept.write_text(kept.read_text() + json.dumps(last) + "\n")
    assert list(findings(own_run)) == ["less than random weights"]
    still = [json.dumps({"step": step, "gradient_norm": 0.0, "wait": 0.01}) for step in range(9, 15)]
    kept.write_text(kept.read_text() + "\n".join(still) + "\n")
    assert list(findings(own_run)) == ["no gradient"]


def test_lines_of_another_kind_do_no_harm(own_run) -> None:
    metrics(own_run)
    with (own_run / "metrics.jsonl").open("a") as file:
        file.write('7\n[]\n{"step": 1e999}\n{"step": 9, "wait": "long", "loss": null, "dropped": "x"}\n{"st')
    assert asked(own_run)[0] == "nothing wrong found"


def test_a_folder_that_is_no_run(tmp_path) -> None:
    assert mistake("doctor", tmp_path).endswith("it has no recipe.yaml; give the folder that pretrain made")
    with pytest.raises(ValueError, match="is not a run"):
        doctor(tmp_path / "nothing")
