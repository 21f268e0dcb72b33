"""The tables of two comparisons, from their result files: instance classes and copies; tables.py places them."""

import json
import statistics
from pathlib import Path

CLASSES, COURSES = "instance classes", "k-NN in percent after epoch"  # the first words of each table
BESIDE = {"pic": "PIC", "moco": "MoCo v2", "simclr": "SimCLR"}
COPIES = "uAP and recall at precision 90 in percent"
MEASURES = ("uAP raw", "recall@P90 raw", "uAP normalized", "recall@P90 normalized")
PLACES = {"cifar10": "CIFAR-10", "started": "CIFAR-10, from SimCLR's backbone", "photos": "photos"}
SIDES = {"qk": "QK Iteration", "simclr": "SimCLR"}


def classes(path: Path) -> list[str]:
    """Lines of Markdown: the variants of the instance classifier, its neighbors, and what learns nothing."""
    found = json.loads(path.read_text())
    lines = [f"| {CLASSES} | k = 200 | k = 20 |", "|---|---|---|"]
    for name, scores in (found["summary"] | found["references"]).items():
        shown = [cell(scores[column]) for column in ("k=200", "k=20")]
        lines.append(f"| {BESIDE.get(name, name.replace('_', ' '))} | {' | '.join(shown)} |")
    return lines


def courses(path: Path) -> list[str]:
    """Lines of Markdown: k-NN of some training images against others every two epochs, means over the seeds."""
    runs = json.loads(path.read_text())["runs"]
    (first, *_) = runs.values()
    epochs = [f"{epoch:g}" for epoch, _ in first[0]["course"]]
    lines = [f"| {COURSES} | {' | '.join(epochs)} |", "|---" * (1 + len(epochs)) + "|"]
    for name, of in runs.items():
        values = zip(*([100 * value for _, value in run["course"]] for run in of), strict=True)
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(f'{statistics.mean(row):.1f}' for row in values)} |")
    return lines


def copies(path: Path) -> list[str]:
    """Lines of Markdown: what was trained, means and deviations over seeds; then what learns nothing; then trials."""
    found = json.loads(path.read_text())
    lines = [f"| {COPIES} | {' | '.join(MEASURES)} |", "|---" * (1 + len(MEASURES)) + "|"]
    for key, scores in found["summary"].items():
        lines.append(f"| {title(key)} | {' | '.join(cell(scores[measure]) for measure in MEASURES)} |")
    for place, models in found["cheap"].items():
        if place in PLACES:
            lines += [line(f"{PLACES[place]}: {name}", columns) for name, columns in models.items()]
    lines += [line(f"one seed, {name}", entry["scores"]["trained"]) for name, entry in found["trials"].items()]
    return lines


def title(key: str) -> str:
    """ "cifar10 qk, query network on both sides": the place, the method, the way."""
    place, _, rest = key.partition(" ")
    method, _, way = rest.partition(", ")
    if place == "base":
        return "CIFAR-10: SimCLR, the backbone that others go on from"
    return f"{PLACES[place]}: {SIDES[method]}" + (f", {way}" if way else "")


def line(name: str, columns: list[dict]) -> str:
    """A row of one run: raw cosines, then SSCD's normalization."""
    values = [column[measure] for column in columns[:2] for measure in ("uAP", "recall@P90")]
    return f"| {name} | {' | '.join('0' if isinstance(v, str) else f'{100 * v:.1f}' for v in values)} |"


def cell(score: dict) -> str:
    return f"{score['mean']:.1f}" + (f" ± {score['sd']:.1f}" if score["sd"] else "")
