"""lookalike pretrain --resume: the same bits as without a stop, and a sentence where that cannot be."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import TINY, lookalike, mistake, write_images

from lookalike.training.checkpoint import Checkpoints


def test_a_finished_run_says_so(finished):
    said = lookalike("pretrain", "--resume", finished)
    assert said.code == 0
    assert f"{finished} has finished: evaluate it with lookalike evaluate {finished} --data" in said.err


def test_a_run_goes_on_to_the_same_bits(finished, unfinished):
    said = lookalike("pretrain", "--resume", unfinished)
    assert said.code == 0, said.err
    assert (unfinished / "encoder.safetensors").read_bytes() == (finished / "encoder.safetensors").read_bytes()
    rows = [json.loads(line) for line in (unfinished / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "probe" not in row]
    assert [row["step"] for row in rows] == list(range(1, 9))


def test_a_tampered_checkpoint_is_skipped_with_a_note(finished, unfinished):
    newest = unfinished / "checkpoints" / "step-00000006" / "state.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    said = lookalike("pretrain", "--resume", unfinished)
    assert said.code == 0, said.err
    assert "checkpoint step-00000006 is skipped: its files are not those that were saved" in said.err
    assert (unfinished / "encoder.safetensors").read_bytes() == (finished / "encoder.safetensors").read_bytes()


def test_no_whole_checkpoint(unfinished):
    for state in (unfinished / "checkpoints").glob("*/state.safetensors"):
        state.write_bytes(b"torn")
    text = mistake("pretrain", "--resume", unfinished)
    assert "has no whole checkpoint" in text
    assert "bring one back from a copy, or remove the folder to start at step 0" in text


def test_without_a_checkpoint_a_run_starts_at_step_0(finished, unfinished):
    shutil.rmtree(unfinished / "checkpoints")
    assert lookalike("pretrain", "--resume", unfinished).code == 0
    assert (unfinished / "encoder.safetensors").read_bytes() == (finished / "encoder.safetensors").read_bytes()


@pytest.fixture
def moved(photos, unfinished, tmp_path) -> Path:
    """Own images for the unfinished run: the same files elsewhere."""
    shutil.copytree(photos, tmp_path / "photos")
    manifest = json.loads((unfinished / "manifest.json").read_text())
    manifest["data"] = str(tmp_path / "photos")
    (unfinished / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path / "photos"


def test_images_that_changed(moved, unfinished):
    write_images(moved, 1, first=64)
    text = mistake("pretrain", "--resume", unfinished)
    assert "the images are not those that" in text
    assert "began with (64 then, 65 now" in text


def test_images_that_moved(finished, moved, unfinished):
    moved.rename(moved.parent / "elsewhere")
    text = mistake("pretrain", "--resume", unfinished)
    assert "photos does not exist" in text
    assert f"where they have moved: lookalike pretrain THERE --resume {unfinished}" in text
    assert "moved" not in mistake("pretrain", "nowhere", "--resume", unfinished)
    assert lookalike("pretrain", "elsewhere", "--resume", unfinished).code == 0
    assert (unfinished / "encoder.safetensors").read_bytes() == (finished / "encoder.safetensors").read_bytes()


def test_another_torch_needs_to_be_allowed(unfinished):
    manifest = json.loads((unfinished / "manifest.json").read_text())
    manifest["versions"]["torch"] = "1.0.0"
    (unfinished / "manifest.json").write_text(json.dumps(manifest))
    text = mistake("pretrain", "--resume", unfinished)
    assert "the run cannot go on bit for bit (torch is" in text
    assert "and was 1.0.0): restore that, or accept other rounding with --allow-different-numerics" in text
    assert lookalike("pretrain", "--resume", unfinished, "--allow-different-numerics").code == 0


def test_what_draws_or_decodes_otherwise_needs_to_be_allowed_once(unfinished):
    path = unfinished / "manifest.json"
    manifest = json.loads(path.read_text())
    other = {"versions": manifest["versions"] | {"pillow": "1.0", "numba": "0.1"}, "code": "f" * 32}
    path.write_text(json.dumps(manifest | other | {"machine": manifest["machine"] | {"instructions": "NEON"}}))
    text = mistake("pretrain", "--resume", unfinished)
    assert "and was 1.0" in text
    assert "and was 0.1" in text
    assert "the code of lookalike is not what it was" in text
    assert "and the last one did with NEON" in text
    assert lookalike("pretrain", "--resume", unfinished, "--allow-different-numerics").code == 0
    (start,) = json.loads(path.read_text())["resumed"]
    assert start["versions"] == manifest["versions"]
    assert start["code"] == manifest["code"]


@pytest.mark.parametrize("text", ["", "{", "{}"])
def test_a_manifest_that_was_damaged(unfinished, text):
    (unfinished / "manifest.json").write_text(text)
    assert "restore it" in mistake("pretrain", "--resume", unfinished)


def test_a_run_that_another_process_trains(unfinished, photos):
    hold = "held = alone(Path(sys.argv[1])); held.__enter__(); print(flush=True); input()"
    lines = f"import sys; from pathlib import Path; from lookalike.training.lock import alone; {hold}"
    with subprocess.Popen(
        [sys.executable, "-c", lines, unfinished], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        log = (unfinished / "log.txt").read_bytes()
        assert "another process trains in" in mistake("pretrain", "--resume", unfinished)
        assert (unfinished / "log.txt").read_bytes() == log  # it is the other's, and tells how that one ends
        process.kill()
    assert lookalike("pretrain", "--resume", unfinished).code == 0


def test_a_folder_that_is_no_run():
    assert mistake("pretrain", "--resume", "none").startswith("none is not a run: it has no recipe.yaml")


@pytest.mark.parametrize("words", [("epochs=3",), ("--epochs", "3"), ("--out", "x"), ("--method", "moco")])
def test_a_resumed_run_keeps_its_recipe(unfinished, words):
    assert mistake("pretrain", "--resume", unfinished, *words).startswith("a resumed run keeps its recipe: leave out ")


def test_loss_that_is_not_finite_stops_and_keeps_a_good_checkpoint(photos):
    huge = ("optimizer.rate=1e6", "optimizer.weight_decay=1e6", "optimizer.clip=null")
    text = mistake("pretrain", photos, *TINY, *huge, "saving.every=1", "--epochs", "5", "--out", "run")
    found = re.match(r"loss or gradients were NaN or infinite in (\d) steps in a row, up to step (\d+): ", text)
    assert found, text
    assert "lower the learning rate (optimizer.rate)" in text
    kept = Checkpoints(Path("run"), keep=2).load()
    assert kept is not None
    assert all(tensor.isfinite().all() for tensor in kept.tensors.values() if tensor.is_floating_point())
    assert kept.step + int(found[1]) == int(found[2])  # nothing was saved since, and nothing good was lost


def test_curves_for_tensorboard_are_those_of_an_unbroken_run(finished, unfinished):
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs lookalike[log]"
    )
    recipe = unfinished / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("log_to: null", "log_to: tensorboard"))
    said = lookalike("pretrain", "--resume", unfinished)
    assert said.code == 0, said.err
    curves = accumulators.EventAccumulator(str(unfinished / "tensorboard")).Reload()
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    losses = [
        (row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in rows if "loss" in row and not row.get("probe")
    ]
    assert [(event.step, event.value) for event in curves.Scalars("loss")] == losses
    assert len(losses) == 8
