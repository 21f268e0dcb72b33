"""Probes of the small bench's encoders: linear, few labels, retrieval and fine-tuning, beside what costs nothing.

    pip install -e '.[demo]'
    python benchmarks/probes.py IMAGES OUT [--methods simclr,byol] [--epochs 5]

IMAGES and OUT are those of quality.py, whose runs in OUT are examined: each method's learning rate with its seeds, on
the 10,000 training and the 10,000 test images. Beside them raw pixels, and random weights with the same seeds.
Fine-tuning takes --epochs epochs; otherwise each protocol is that of `lookalike evaluate` (docs/evaluation.md). The
linear probe is checked against scikit-learn's LogisticRegression with the same penalty on the same features, and k-NN
against a plain loop in NumPy on 500 test images. What is in OUT is not run again. Writes
benchmarks/results/probes-<date>.json.
"""

import argparse
import json
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lookalike.api.folder import RunFolder
from lookalike.api.models import Scored, models
from lookalike.api.prepared import Prepared
from lookalike.api.protocols import PROBES, Exam, tuned
from lookalike.data import labelled
from lookalike.evaluation import FINETUNE, PROTOCOLS, Score, knn
from lookalike.training.progress import Line
from machine import save
from quality import BENCH, split

FREE = ("knn", "linear", "few", "retrieval")  # of features that are extracted once
LOOPED = 500  # test images of the loop in NumPy


def chosen(out: Path, method: str) -> list[Path]:
    """The runs at the learning rate that was best on held-out images, one for each seed."""
    rates = BENCH["bench"]["rates"]
    trials = [json.loads((out / "runs" / f"{method}-{rate:g}-0" / "entry.json").read_text()) for rate in rates]
    rate = max(trials, key=lambda trial: trial["held_out"][0]["value"])["rate"]
    return [out / "runs" / f"{method}-{rate:g}-{seed}" for seed in BENCH["bench"]["seeds"]]


def examined(model: Scored, sets: Sequence[Prepared], classes: int, line: Line, epochs: int) -> dict:
    """All scores of a model by a short name, in percent, and how far they are from other people's code."""
    train, test = sets
    exam = Exam(model=model, train=train, test=test, classes=classes, device=torch.device("cpu"), line=line)
    scores = [score for name in FREE for score in PROBES[name](exam)]
    if model.learns:
        scores.append(tuned(exam, "finetune", replace(FINETUNE, epochs=epochs)))
    found = {key: value for score in scores for key, value in named(score).items()}
    return found | {"checks": {"linear less scikit-learn": beside(exam, scores), **looped(exam)}}


def named(score: Score) -> dict[str, float]:
    settings = score.protocol.settings
    for key, text in (("k", "k={}"), ("share", "{:.0%} of labels")):
        if key in settings:
            return {f"{score.name} {text.format(settings[key])}": 100 * score.value}
    recall = {f"recall@{k}": 100 * float(score.found[f"recall@{k}"]) for k in (1, 10) if score.name == "mAP"}
    return {score.name: 100 * score.value, **recall}


def beside(exam: Exam, scores: Sequence[Score]) -> float:
    """Points of accuracy by which the linear probe is ahead of scikit-learn's."""
    train_rows, train_labels, test_rows, test_labels = (part.double().numpy() for part in exam.rows)
    (own,) = (score for score in scores if score.name == "linear")
    scaler = StandardScaler().fit(train_rows)
    fitted = LogisticRegression(C=1 / (float(own.found["penalty"]) * len(train_rows)), max_iter=2000, tol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an unfinished fit is no reference
        fitted.fit(scaler.transform(train_rows), train_labels)
    return 100 * (own.value - fitted.score(scaler.transform(test_rows), test_labels))


def looped(exam: Exam) -> dict[str, int]:
    """For each k-NN protocol, on how many of LOOPED images a plain loop answers otherwise."""
    train_rows, train_labels, test_rows, test_labels = exam.rows
    memory = train_rows.double().numpy() / np.linalg.norm(train_rows.double().numpy(), axis=1, keepdims=True)
    found = {}
    for k, temperature in PROTOCOLS:
        hits = knn(train_rows, train_labels, test_rows[:LOOPED], test_labels[:LOOPED], k=k, temperature=temperature)
        other = 0
        for row, label, hit in zip(test_rows[:LOOPED].double().numpy(), test_labels[:LOOPED], hits.hits, strict=True):
            similarity = memory @ (row / np.linalg.norm(row))
            votes = np.zeros(exam.classes)
            for place in np.argsort(-similarity, kind="stable")[:k]:
                votes[int(train_labels[place])] += np.exp(similarity[place] / temperature)
            other += bool(votes.argmax() == int(label)) != bool(hit)
        found[f"knn k={k} unlike the loop"] = other
    return found


def once(name: str, model: Scored, sets: Sequence[Prepared], classes: int, line: Line, out: Path, epochs: int) -> dict:
    """What OUT has of a model, or its examination now."""
    entry = out / "probes" / f"{name}.json"
    if not entry.exists():
        entry.parent.mkdir(exist_ok=True)
        entry.write_text(json.dumps(examined(model, sets, classes, line, epochs), indent=1))
        print(name, entry.read_text().replace("\n", ""), flush=True)
    return json.loads(entry.read_text())


def summary(rows: Sequence[dict]) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation over seeds of each score."""
    return {
        name: {
            "mean": round(statistics.mean(row[name] for row in rows), 2),
            "sd": round(statistics.stdev(row[name] for row in rows), 2) if len(rows) > 1 else None,
        }
        for name in rows[0]
        if name != "checks"
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--methods", default=",".join(BENCH["methods"]["names"]))
    parser.add_argument("--epochs", type=int, default=5)
    asked = parser.parse_args()
    split(asked.images, asked.out)
    halves = labelled(asked.out / "final")
    rows: dict[str, list[dict]] = {}
    with Line(quiet=True) as line:
        sets = [Prepared(source, line, 0.0) for source in (halves.train, halves.test)]
        for method in asked.methods.split(","):
            for run in chosen(asked.out, method):
                for model in models(RunFolder(run), references=True, others=()):
                    label = {"trained": method}.get(model.name, model.name)
                    entry = f"{label}-{'' if model.name == 'raw pixels' else model.seed}".rstrip("-")
                    seen = once(entry, model, sets, len(halves.classes), line, asked.out, asked.epochs)
                    rows.setdefault(label, []).append({"model": entry, **seen})
    for label in ("random weights", "raw pixels"):  # the same for each method
        rows[label] = list({row["model"]: row for row in rows[label]}.values())
    for found in rows.values():
        for row in found:
            row.pop("model")
    body = {"bench": BENCH, "tuned_epochs": asked.epochs, "scores": {name: summary(r) for name, r in rows.items()}}
    print(f"written: {save('probes', body | {'runs': rows})}")


if __name__ == "__main__":
    main()
