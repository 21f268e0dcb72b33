"""The tables of README, from their result files: python benchmarks/tables.py [quality|probes|methods]"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
NAMES = {"simclr": "SimCLR", "moco": "MoCo v2", "byol": "BYOL", "sce": "SCE"}
REFERENCES = ("random weights", "raw pixels")
COLUMNS = ("k=200", "k=20")
PROBES = {  # the score's name in the file: the head of its column
    "linear": "linear",
    "few 1% of labels": "1 % of labels",
    "few 10% of labels": "10 % of labels",
    "finetune": "fine-tuned",
    "mAP": "mAP",
    "recall@1": "recall@1",
}


def table(path: Path) -> list[str]:
    """Lines of Markdown: a row for each method, then the references; percent, mean and deviation over seeds."""
    methods = json.loads(path.read_text())["methods"]
    lines = ["| | learning rate | k = 200 | k = 20 |", "|---|---|---|---|"]
    for method, name in NAMES.items():
        if method in methods:
            found = methods[method]
            lines.append(f"| {name} | {found['rate']:g} | {' | '.join(cells(found['test']['trained'], COLUMNS))} |")
    (first, *_) = methods.values()
    for name in REFERENCES:
        lines.append(f"| {name} | | {' | '.join(cells(first['test'][name], COLUMNS))} |")
    return lines


def probes(path: Path) -> list[str]:
    """Lines of Markdown: the probes of the same encoders and references."""
    scores = json.loads(path.read_text())["scores"]
    lines = [f"| | {' | '.join(PROBES.values())} |", "|---|" + "---|" * len(PROBES)]
    for key, name in (NAMES | dict(zip(REFERENCES, REFERENCES, strict=True))).items():
        lines.append(f"| {name} | {' | '.join(cells(scores[key], PROBES))} |")
    return lines


def cells(scores: dict[str, dict[str, float]], columns: Iterable[str]) -> list[str]:
    """Mean ± deviation, or the number alone where nothing is random; empty where a probe does not apply."""
    rows = [scores.get(column) for column in columns]
    return ["" if row is None else f"{row['mean']:.1f}" + (f" ± {row['sd']:.1f}" if row["sd"] else "") for row in rows]


if __name__ == "__main__":
    kind = sys.argv[1] if len(sys.argv) > 1 else "quality"
    newest = max(RESULTS.glob(f"{kind}-2*.json"))
    print("\n".join({"quality": table, "probes": probes}[kind](newest)))
