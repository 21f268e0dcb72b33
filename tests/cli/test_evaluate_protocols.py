"""Protocols of lookalike evaluate on a tiny run: shared features, references by name, and whether it was worth it."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from command import lookalike, mistake

from lookalike.api import evaluate
from lookalike.api.folder import RunFolder
from lookalike.api.prepared import Prepared
from lookalike.data import labelled as open_labelled
from lookalike.evaluation import LINEAR, Course, few, fit, linear, retrieval
from lookalike.evaluation.features import extract
from lookalike.training.progress import Line
from lookalike.transforms import Views, eval_chain


def features(run: Path, labelled: Path) -> tuple[torch.Tensor, ...]:
    """Training rows, labels, test rows, labels: extracted here, image by image."""
    encoder, parts = RunFolder(run).encoder(), []
    for half in (halves := open_labelled(labelled)).train, halves.test:
        views = Views({"center": eval_chain(16)})
        index = torch.arange(len(half))
        images = [half.read(i) for i in range(len(half))]
        pixels = views.render(images, views.draw(index, seed=0, epoch=(0, 0)))["center"]
        parts += [extract(encoder, [(index, pixels)]).rows, half.labels]
    return tuple(parts)


def test_every_protocol_equals_the_probe_on_features_extracted_here(own_run, labelled):
    report = evaluate(own_run, labelled, protocols="linear,few,retrieval", references=False)
    train, train_labels, test, test_labels = rows = features(own_run, labelled)
    one, small, large, ranked = report.scores["trained"]
    assert one.value == linear(*rows).accuracy
    assert one.found["penalty"] == linear(*rows).penalty
    for score, share in ((small, 0.01), (large, 0.1)):
        kept = [few(train_labels, share, seed) for seed in range(3)]
        values = [linear(train[k], train_labels[k], test, test_labels).accuracy for k in kept]
        assert score.value == pytest.approx(sum(values) / 3)
        assert score.found["spread"] == pytest.approx(float(torch.tensor(values).std()))
        assert (score.protocol.settings["share"], score.protocol.n_train) == (share, len(kept[0]))
    assert ranked.name == "mAP"
    found = retrieval(test, test_labels, train, train_labels)
    assert ranked.value == pytest.approx(found.mean_precision)
    assert ranked.found["recall@5"] == found.recall[5]
    assert fit(train, train_labels, 2, one.found["penalty"]).predict(test).eq(test_labels).double().mean() == one.value


def test_a_share_of_less_than_one_label_is_said_to_be_more(own_run, labelled):
    per_class = Counter(open_labelled(labelled).train.labels.tolist())
    assert set(per_class.values()) <= set(range(5, 50))  # 1 % is less than half a label, 10 % is not
    said = lookalike("evaluate", own_run, "--data", labelled, "--protocol", "few", "--no-references")
    assert said.code == 0, said.err
    notes = [line for line in (said.out + said.err).splitlines() if "keeps one label" in line]
    least, total, kept = min(per_class.values()), sum(per_class.values()), len(per_class)
    assert notes == [
        f"few 1 %: a class of {least} images keeps one label, which is more: {kept} of {total} labels are used"
    ]


def test_the_card_says_whether_it_was_worth_it_and_what_it_cost(own_run, labelled):
    said = lookalike("evaluate", own_run, "--data", labelled, "--protocol", "linear,knn,few,retrieval")
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    verdicts = [line for line in lines if re.fullmatch(r".+: (not )?(worth it|clear): .+ points \(.+\) over r.+", line)]
    assert [line.partition(":")[0] for line in verdicts] == ["linear", "knn", "knn", "few 1 %", "few 10 %", "mAP"]
    assert any(re.fullmatch(r"it cost [\d.e-]+ hours of training", line) for line in lines)
    assert lines[-1].startswith("linear ")
    (place,) = (number for number, line in enumerate(lines) if line.startswith("few (share=0.01, "))
    assert [line.split()[0] for line in lines[place + 1 : place + 4]] == ["random", "raw", "trained"]
    row = r"  trained +[\d.]+ %  95 %: [\d.]+ to [\d.]+ +spread=[\d.e-]+"
    assert re.fullmatch(row, lines[place + 3].rstrip())  # in one line of 80 characters
    assert "penalty=" in lines[-1]
    (entry,) = json.loads((own_run / "evaluation.json").read_text())
    first, reference = entry["worth"][0], entry["worth"][0]["reference"]
    ahead = entry["scores"]["trained"][0]["value"] - entry["scores"][reference][0]["value"]
    assert first["gain"] == pytest.approx(ahead)
    assert first["interval"][0] <= first["gain"] <= first["interval"][1]


def test_hours_are_those_of_the_steps(own_run):
    rows = [json.loads(line) for line in (own_run / "metrics.jsonl").read_text().splitlines()]
    speeds = [row["images_per_second"] for row in rows if "images_per_second" in row]
    steps = [row["step"] for row in rows if "images_per_second" in row]
    spent = sum(16 * (b - a) / speed for a, b, speed in zip([0, *steps], steps, speeds, strict=False))
    assert RunFolder(own_run).hours() == pytest.approx(spent / 3600)
    (own_run / "metrics.jsonl").write_text("{")
    assert RunFolder(own_run).hours() is None


def test_references_are_named_runs_and_files(own_run, labelled, tmp_path):
    twin = shutil.copytree(own_run, tmp_path / "twin")
    said = lookalike(
        *("evaluate", own_run, "--data", labelled, "--no-references"),
        *("--reference", "twin", "--reference", "twin/encoder.safetensors"),
    )
    assert said.code == 0, said.err
    (entry,) = json.loads((own_run / "evaluation.json").read_text())
    assert list(entry["scores"]) == ["trained", "twin", "twin/encoder.safetensors"]
    values = {name: [score["value"] for score in scores] for name, scores in entry["scores"].items()}
    assert values["trained"] == values["twin"] == values["twin/encoder.safetensors"]
    assert "not clear: +0.0 points (0.0 to 0.0) over twin" in said.out
    assert twin.is_dir()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet18", "the reference 'resnet18' is no run, no FILE.safetensors and no timm:NAME: name one"),
        (
            "timm:resnet18.a1_in2k",
            "timm has no weights named 'resnet18.a1_in2k': the nearest names are resnet18.a1_in1k",
        ),
        ("timm:resnet17.a1_in1k", "unknown backbone 'resnet17'"),
        ("none.safetensors", "there is no weights file none.safetensors"),
    ],
)
def test_references_that_are_not_there(own_run, labelled, spec, message):
    assert message in mistake("evaluate", own_run, "--data", labelled, "--reference", spec)


def test_a_reference_given_twice(own_run, labelled):
    text = mistake("evaluate", own_run, "--data", labelled, "--reference", "a", "--reference", "a")
    assert text == "the reference a is given twice: name it once"


def test_tuning_carries_its_course_and_is_not_for_raw_pixels(own_run, labelled, monkeypatch):
    short = Course(rate=30.0, epochs=2, batch=256)  # MoCo's has 100 epochs
    monkeypatch.setitem(LINEAR, "moco", short)
    report = evaluate(own_run, labelled, protocols="finetune,linear_sgd")
    assert [score.name for score in report.scores["raw pixels"]] == ["linear_sgd"]
    for name in ("trained", "random weights"):
        tuned, head = report.scores[name]
        assert tuned.protocol.settings == {"tuned_epochs": 20, "rate": 0.03, "batch": 128, "probe_seed": 0}
        assert head.protocol.settings == {"tuned_epochs": 2, "rate": 30.0, "batch": 256, "probe_seed": 0}
    first, second = report.worth
    assert (first.probe, first.reference) == ("finetune", "random weights")
    assert (second.probe, second.reference in ("random weights", "raw pixels")) == ("linear_sgd", True)


def test_an_unreadable_image_is_in_no_probe(own_run, labelled, tmp_path):
    shutil.copytree(labelled, tmp_path / "damaged")
    for half in ("train", "test"):
        min((tmp_path / "damaged" / half / "cat").iterdir()).write_bytes(b"no image")
    report = evaluate(own_run, "damaged", protocols="linear,finetune", references=False, max_bad=0.5)
    for score in report.scores["trained"]:
        assert (score.protocol.n_train, score.protocol.n_test) == (23, 11)


def test_views_of_an_epoch_are_each_image_once_in_even_batches(labelled):
    with Line(quiet=True) as line:
        part = Prepared(open_labelled(labelled).train, line, 0.0)
    first, again, second = (list(part.drawn(16, batch=23, seed=0, epoch=e)) for e in (0, 0, 1))
    assert [len(index) for index, _ in first] == [12, 12]
    for epoch in (first, second):
        assert torch.cat([index for index, _ in epoch]).sort().values.tolist() == list(range(24))
    assert all(torch.equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True))
    assert not torch.equal(first[0][0], second[0][0])
