"""lookalike evaluate: a table, a file, a last line; and every mistake in one sentence."""

import json
import shutil
from pathlib import Path

import pytest
from command import lookalike, mistake, write_images


def test_the_last_line_is_the_trained_encoders_first_score(finished, labelled, own_run):
    said = lookalike("evaluate", own_run, "--data", labelled)
    assert said.code == 0, said.err
    *_, last = said.out.splitlines()
    (entry,) = json.loads((own_run / "evaluation.json").read_text())
    first = entry["scores"]["trained"][0]
    assert last.startswith(f"knn {100 * first['value']:.1f} % (k=24, T=0.1, backbone features, center 16 px, offline")
    assert "24/12 images, 2 epochs, seed 0" in last
    assert set(entry["scores"]) == {"trained", "random weights", "raw pixels"}
    assert "random weights" in said.out
    assert "raw pixels" in said.out


def test_scores_are_added_to_those_of_earlier(labelled, own_run):
    assert lookalike("evaluate", own_run, "--data", labelled, "--no-references").code == 0
    assert lookalike("evaluate", own_run, "--data", labelled, "--no-references", "--device", "cpu").code == 0
    first, second = json.loads((own_run / "evaluation.json").read_text())
    assert first["scores"] == second["scores"]
    assert set(first["scores"]) == {"trained"}
    assert first["date"] <= second["date"]
    for damaged in ("[{", "{}"):
        (own_run / "evaluation.json").write_text(damaged)
        text = mistake("evaluate", own_run, "--data", "nowhere")  # before anything is read
        assert text == f"{own_run}/evaluation.json is no list of scores: move it away, and evaluate again"
        assert (own_run / "evaluation.json").read_text() == damaged


def test_scores_are_kept_although_nobody_reads_them(labelled, own_run, monkeypatch):
    def gone(report: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("lookalike.cli.evaluate.show", gone)
    lookalike("evaluate", own_run, "--data", labelled, "--no-references")
    assert len(json.loads((own_run / "evaluation.json").read_text())) == 1


def test_one_folder_of_classes_is_split_by_name(own_run, tmp_path):
    for label in ("cat", "dog"):
        write_images(tmp_path / "classes" / label, 20, first=30 * (label == "dog"))
    said = lookalike("evaluate", own_run, "--data", "classes", "--no-references")
    assert said.code == 0, said.err
    told = " ".join(said.err.split())
    assert "no train/ and test/ here: " in told
    assert "of 40 images are for the test, chosen by the hash of their names" in told
    assert "k lowered from 200 to " in told
    train, _, test = said.out.splitlines()[-1].partition(" images")[0].rpartition(", ")[2].partition("/")
    assert int(train) + int(test) == 40


def test_a_folder_that_is_no_run(labelled, tmp_path):
    text = mistake("evaluate", tmp_path, "--data", labelled)
    assert text == f"{tmp_path} is not a run: it has no recipe.yaml; give the folder that pretrain made"
    assert "none is not a run" in mistake("evaluate", "none", "--data", labelled)


def test_a_run_that_has_not_finished(labelled, unfinished):
    text = mistake("evaluate", unfinished, "--data", labelled)
    assert "holds no trained encoder (training has not finished)" in text
    assert f"go on with lookalike pretrain --resume {unfinished}" in text


def test_weights_that_were_tampered_with(labelled, own_run):
    weights = own_run / "encoder.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    text = mistake("evaluate", own_run, "--data", labelled)
    assert text == f"{weights} is not what training wrote: its fingerprint differs; restore the file"
    weights.write_bytes(data[:-100])
    assert "is no whole safetensors file" in mistake("evaluate", own_run, "--data", labelled)


def test_weights_of_another_network(labelled, own_run):
    recipe = own_run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("resnet18_quarter", "resnet18_half"))
    text = mistake("evaluate", own_run, "--data", labelled)
    assert f"{own_run}/encoder.safetensors does not fit {recipe}" in text


@pytest.mark.parametrize("lost", ["encoder.json", "recipe.yaml"])
def test_a_run_that_lost_a_file(labelled, own_run, lost):
    (own_run / lost).unlink()
    assert lost in mistake("evaluate", own_run, "--data", labelled)


@pytest.mark.parametrize("text", ["{", "[]", '{"role": "encoder"}'])
def test_a_card_that_was_tampered_with(labelled, own_run, text):
    (own_run / "encoder.json").write_text(text)
    said = mistake("evaluate", own_run, "--data", labelled)
    assert said.startswith(f"{own_run}/encoder.json is ")
    assert "restore it" in said


def test_labels_that_are_missing(own_run, photos):
    text = mistake("evaluate", own_run, "--data", photos)
    assert text.startswith("labels missing: ")
    assert "lie in no class folder" in text


def test_one_half_alone(own_run, labelled, tmp_path):
    shutil.copytree(labelled / "train", tmp_path / "half" / "train")
    text = mistake("evaluate", own_run, "--data", "half")
    assert text == "half has train/ but no test/: add it, or give one folder with a folder for each class"


def test_too_many_unreadable_images(own_run, labelled, tmp_path):
    shutil.copytree(labelled, tmp_path / "labelled")
    for path in sorted(Path("labelled/test/cat").iterdir())[:3]:
        path.write_bytes(b"no image")
    text = mistake("evaluate", own_run, "--data", "labelled", "--no-references")
    assert "3 of 12 images (25.00%) cannot be read, more than the 0.10% allowed" in text
    said = lookalike("evaluate", own_run, "--data", "labelled", "--no-references", "--max-bad", "0.5")
    assert "24/9 images" in said.out.splitlines()[-1]


def test_an_unknown_protocol_or_device(own_run, labelled):
    text = mistake("evaluate", own_run, "--data", labelled, "--protocol", "knn,liner")
    known = "knn, linear, few, retrieval, finetune, linear_sgd, copy, disc21, segments, propagation"
    assert text == f"there is no protocol 'liner': known are {known}"
    assert "it is auto, cpu, cuda or cuda:N" in mistake("evaluate", own_run, "--data", labelled, "--device", "tpu")


def test_data_that_are_not_named(own_run):
    assert mistake("evaluate", own_run).startswith("missing option '--data'")
    assert "none does not exist" in mistake("evaluate", own_run, "--data", "none")
