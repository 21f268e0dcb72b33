"""The table of the small bench in README, from its result file: python benchmarks/tables.py [FILE]"""

import json
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
NAMES = {"simclr": "SimCLR", "moco": "MoCo v2", "byol": "BYOL", "sce": "SCE"}
COLUMNS = ("k=200", "k=20")


def table(path: Path) -> list[str]:
    """Lines of Markdown: a row for each method, then the references; percent, mean and deviation over seeds."""
    methods = json.loads(path.read_text())["methods"]
    lines = ["| | learning rate | k = 200 | k = 20 |", "|---|---|---|---|"]
    for method, name in NAMES.items():
        if method in methods:
            found = methods[method]
            lines.append(f"| {name} | {found['rate']:g} | {' | '.join(cells(found['test']['trained']))} |")
    (first, *_) = methods.values()
    for name in ("random weights", "raw pixels"):
        lines.append(f"| {name} | | {' | '.join(cells(first['test'][name]))} |")
    return lines


def cells(scores: dict[str, dict[str, float]]) -> list[str]:
    """Mean ± deviation, or the number alone where nothing is random."""
    rows = [scores[column] for column in COLUMNS]
    return [f"{row['mean']:.1f} ± {row['sd']:.1f}" if row["sd"] else f"{row['mean']:.1f}" for row in rows]


if __name__ == "__main__":
    newest = max(RESULTS.glob("quality-*.json"))
    print("\n".join(table(Path(sys.argv[1]) if len(sys.argv) > 1 else newest)))
