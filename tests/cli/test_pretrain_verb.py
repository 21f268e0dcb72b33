"""lookalike pretrain where all is well: what it writes, what it says, and what a dry run shows."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from command import TINY, lookalike, write_images

from lookalike.api import Run
from lookalike.training.checkpoint import load_weights


def test_a_run_folder_has_its_layout(finished):
    files = {path.name for path in finished.iterdir()}
    assert files == {
        "checkpoints",
        "encoder.json",
        "encoder.safetensors",
        "log.txt",
        "manifest.json",
        "metrics.jsonl",
        "recipe.yaml",
    }
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "probe" not in row]
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert all(row["loss"] > 0 for row in rows)


def test_a_finished_run_says_it_and_keeps_it(finished):
    said = [line for line in (finished / "log.txt").read_text().splitlines() if "known by another view" in line]
    assert len(said) == 1
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    (row,) = [row for row in rows if "recognized/trained" in row]
    for name in ("trained", "random weights", "raw pixels"):
        assert f"{name} {100 * row[f'recognized/{name}']:.1f} %" in said[0]


def test_options_are_keys_of_the_recipe(photos):
    words = ("--epochs", "1", "--seed", "7", "--backbone", "resnet18_quarter", "--batch", "8", "--max-bad", "0.5")
    said = lookalike("pretrain", photos, "method.temperature=0.3", *TINY, *words, "--channels", "1", "--out", "run")
    assert said.code == 0, said.err
    recipe = yaml.safe_load(Path("run/recipe.yaml").read_text())
    assert (recipe["epochs"], recipe["seed"], recipe["batch"]) == (1.0, 7, 8)
    assert recipe["data"]["max_bad"] == 0.5
    assert recipe["method"]["temperature"] == 0.3
    assert Run("run").encoder.channels == 1


def test_the_end_names_the_next_command_and_runs_are_numbered(photos):
    for number in (1, 2):
        said = lookalike("pretrain", photos, *TINY, "--epochs", "0.5")
        assert said.code == 0
        assert said.err.splitlines()[-2:] == [
            f"next, without labels: lookalike report runs/simclr-{number}",
            f"next: lookalike evaluate runs/simclr-{number} --data LABELLED",
        ]
    assert Path("runs/simclr-2/log.txt").read_text().splitlines()[-1].endswith("--data LABELLED")


def test_the_same_words_make_the_same_bytes(photos, finished):
    said = lookalike("pretrain", photos, *TINY, "--out", "again")
    assert said.code == 0, said.err
    assert Path("again/encoder.safetensors").read_bytes() == (finished / "encoder.safetensors").read_bytes()


def test_a_dry_run_shows_the_recipe_memory_and_hours_and_leaves_nothing(photos, tmp_path):
    said = lookalike("pretrain", photos, *TINY, "--dry-run", "method.temperature=0.3")
    assert said.code == 0, said.err
    assert yaml.safe_load(said.out)["method"]["temperature"] == 0.3
    assert "# recipe simclr_small_smoke" in said.out
    assert "# memory: " in said.out
    assert " hours), at " in said.out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_what_becomes_of_numbers_that_cannot_be_had(photos, tmp_path):
    words = ("--recipe", "mochi_small_smoke", "method.queue=300", "method.hardest=400", "optimizer.warmup=2")
    said = lookalike("pretrain", photos, *words, "--dry-run")
    assert said.code == 0, said.err
    assert "# the queue of 300 is capped at 32: more would hold keys of over half of the 64 images" in said.out
    assert "# method.hardest is 400, and the queue has 32 rows: all of them are the hardest" in said.out
    assert "# a warm-up of 2 epochs is too long for 2: shortened to 0.2" in said.out
    unlabeled = lookalike("pretrain", photos, "--recipe", "supcon_small_smoke", "--dry-run")
    assert "# supcon: without --labels every image is a class of its own" in unlabeled.out


def test_without_a_recipe_the_rule_says_what_it_chose(photos, tmp_path):
    said = lookalike("pretrain", photos, "--method", "byol", "--dry-run", "runtime.precision=fp32", "runtime.threads=1")
    assert said.code == 0, said.err
    assert "# recipe byol_small: images are 32 pixels" in said.out
    assert yaml.safe_load(said.out)["method"]["kind"] == "byol"
    assert list(tmp_path.iterdir()) == []


def test_init_starts_from_the_weights_of_a_run(photos, finished):
    # a rate of zero keeps the weights; BatchNorm's running statistics move all the same
    words = ("optimizer.rate=1e-30", "optimizer.weight_decay=0", "--epochs", "0.5")
    for name, init in (("from run", finished), ("from file", finished / "encoder.safetensors")):
        said = lookalike("pretrain", photos, *TINY, *words, "--init", init, "--out", name)
        assert said.code == 0, said.err
        before, after = load_weights(finished / "encoder.safetensors"), load_weights(Path(name, "encoder.safetensors"))
        assert all((before[key] == after[key]).all() for key in before if key.endswith("weight"))
        assert json.loads(Path(name, "manifest.json").read_text())["init"] == str(Path(init).absolute())


def test_labels_are_scored_while_training_and_change_nothing(labelled):
    for name, words in (("with", ("--labels", "folders", "watching.knn_every=1")), ("without", ())):
        said = lookalike("pretrain", labelled / "train", *TINY, "--batch", "8", "--out", name, *words)
        assert said.code == 0, said.err
        assert ("online knn" in said.err) == (name == "with")
    assert Path("with/encoder.safetensors").read_bytes() == Path("without/encoder.safetensors").read_bytes()


def test_a_list_of_images_is_read_as_a_folder_is(tmp_path):
    write_images(tmp_path / "some", 16)
    Path("list.txt").write_text("".join(f"some/{number:03}.png\n" for number in range(16)))
    for data, out in (("some", "a"), ("list.txt", "b")):
        assert lookalike("pretrain", data, *TINY, "--out", out).code == 0
    assert Path("a/encoder.safetensors").read_bytes() == Path("b/encoder.safetensors").read_bytes()


def test_init_survives_a_kill_before_the_first_checkpoint(photos, finished):
    words = ("--epochs", "0.5", "--init", finished, "--out", "early")
    assert lookalike("pretrain", photos, *TINY, *words).code == 0
    expected = Path("early", "encoder.safetensors").read_bytes()
    for path in (Path("early", "encoder.safetensors"), Path("early", "encoder.json"), Path("early", "metrics.jsonl")):
        path.unlink()
    shutil.rmtree(Path("early", "checkpoints"))  # what is left was written before training
    said = lookalike("pretrain", "--resume", "early")
    assert said.code == 0, said.err
    assert Path("early", "encoder.safetensors").read_bytes() == expected


def test_a_profile_names_the_three_largest_costs(photos):
    said = lookalike("pretrain", photos, *TINY, "--profile", "epochs=2")
    assert said.code == 0, said.err
    assert "the three largest costs: " in said.out
    assert "advice: " in said.out
    assert not Path("runs").exists()


def test_a_run_that_could_learn_from_labels_says_where_it_has_none(photos):
    rows = "".join(f"{photo.name},{number % 2}\n" for number, photo in enumerate(sorted(photos.iterdir())))
    Path("labels.csv").write_text("name,label\n" + rows)
    for labels in ((), ("--labels", "labels.csv")):
        out = f"run-{len(labels)}"
        said = lookalike("pretrain", photos, "--recipe", "supcon_small_smoke", "--epochs", "1", *labels, "--out", out)
        assert said.code == 0, said.err
        assert ("the loss is that of simclr" in Path(out, "log.txt").read_text()) == (not labels)
    weights = [load_weights(Path(out, "encoder.safetensors")) for out in ("run-0", "run-2")]
    assert any(not weights[0][name].equal(tensor) for name, tensor in weights[1].items())  # they learned otherwise


def test_metrics_that_are_lost(own_run):
    assert Run(own_run).metrics[0]["step"] == 1
    (own_run / "metrics.jsonl").unlink()
    with pytest.raises(ValueError, match="is missing: no step was trained yet, or restore it from a copy"):
        _ = Run(own_run).metrics
