"""The tables and sentences of README and docs that say what the small bench found, from their result files.

    python benchmarks/tables.py             what would change
    python benchmarks/tables.py --write     README, docs/methods/README.md, "Our numbers" on each method's page, studies

The newest file of each kind counts. A table is found by its first line, a page's sentence by its first words.
"""

import argparse
import json
import re
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path

import studies
from lookalike.recipes import METHODS
from machine import newest

REPOSITORY = Path(__file__).resolve().parents[1]
README, INDEX = REPOSITORY / "README.md", REPOSITORY / "docs" / "methods" / "README.md"
NAMES = {"simclr": "SimCLR", "moco": "MoCo v2", "byol": "BYOL", "sce": "SCE"}
REFERENCES = ("random weights", "raw pixels")
COLUMNS = ("k=200", "k=20")
JUDGED = (*COLUMNS, "linear")
PROBES = {  # the score's name in the file: the head of its column
    "linear": "linear",
    "few 1% of labels": "1 % of labels",
    "few 10% of labels": "10 % of labels",
    "finetune": "fine-tuned",
    "mAP": "mAP",
    "recall@1": "recall@1",
}
LIGHTLY, SIDES = "beside lightly", ("lookalike", "lightly")
COUNTS = {1: "one seed", 2: "two seeds", 3: "three seeds", 4: "four seeds", 5: "five seeds"}
Scores = Mapping[str, Mapping[str, float]]


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


def beyond(path: Path) -> list[str]:
    """Lines of Markdown: what README's table of three seeds does not hold, in the order of METHODS."""
    methods = json.loads(path.read_text())["methods"]
    lines = ["| | learning rate | k = 200 | k = 20 | linear |", "|---|---|---|---|---|"]
    for method in METHODS:
        if method in methods and method not in NAMES:
            found = methods[method]
            scores = " | ".join(cells(found["test"]["trained"], JUDGED))
            lines.append(f"| [{name_of(method)}](docs/methods/{method}.md) | {tried(found)} | {scores} |")
    return lines


def every(methods: Path, quality: Path, probed: Path) -> list[str]:
    """Lines of Markdown: all methods in the order of METHODS with scores, health, speed and memory; then references.

    Of a method in both files the entry with three seeds counts; its linear probe is in the third file.
    """
    seeded, linear = json.loads(quality.read_text())["methods"], json.loads(probed.read_text())["scores"]
    found = json.loads(methods.read_text())["methods"] | seeded
    heads = ("", "learning rate", "seeds", "k = 200", "k = 20", "linear", "rank", "images/s", "seconds", "MB")
    lines = [f"| {' | '.join(heads)} |".replace("|  |", "| |"), "|---" * len(heads) + "|"]
    for method in (name for name in METHODS if name in found):
        entry = found[method]
        scores = linear.get(method, {}) | entry["test"]["trained"] if method in seeded else entry["test"]["trained"]
        row = [f"[{name_of(method)}]({method}.md)", tried(entry), str(len(entry["runs"])), *cells(scores, JUDGED)]
        lines.append(f"| {' | '.join(row + costs(entry['runs']))} |")
    (first, *_) = seeded.values()
    for name in REFERENCES:
        scores = cells(linear[name] | first["test"][name], JUDGED)
        lines.append(f"| {name} | | | {' | '.join(scores)} | | | | |")
    return lines


def against(path: Path) -> list[str]:
    """Lines of Markdown: our chosen runs and lightly's, means over seeds; and our share of its wall time in a case."""
    methods = json.loads(path.read_text())["methods"]
    cases = list(dict.fromkeys(case for found in methods.values() for case in found.get("speed", {}) if "," in case))
    judged = [f"{side}: {column}" for side in SIDES for column in ("rate", "k = 200", "k = 20", "linear")]
    lines = [f"| {LIGHTLY} | {' | '.join(judged + cases)} |", "|---" * (1 + len(judged + cases)) + "|"]
    for method in (name for name in METHODS if name in methods):
        chosen, speed = methods[method].get("quality", {}).get("chosen", {}), methods[method].get("speed", {})
        row = [cell for side in SIDES for cell in mean_of(chosen.get(side, []))]
        row += [f"{speed[case]['share of wall time']:.2f}" if case in speed else "" for case in cases]
        lines.append(f"| [{name_of(method)}]({method}.md) | {' | '.join(row)} |")
    return lines


def speeds(path: Path) -> list[str]:
    """Lines of Markdown: what both libraries do in a second, the ratio, and its range over the pairs of one run."""
    lines = ["| per second, side by side | lookalike | lightly | ratio |", "|---|---|---|---|"]
    for case, row in json.loads(path.read_text())["cases"].items():
        if isinstance(row, dict):  # the others are rates of the bare network
            rates = " | ".join(f"{row[side]:,.0f}" for side in SIDES)
            low, high = min(row["pairs"]), max(row["pairs"])
            lines.append(f"| {case} | {rates} | {row['ratio']:.2f} ({low:.2f} to {high:.2f}) |")
    return lines


def mean_of(runs: list[dict]) -> list[str]:
    """Learning rate and scores; empty cells where there was no run."""
    if not runs:
        return [""] * (1 + len(JUDGED))
    judged = [[run["test"][name] for run in runs if name in run["test"]] for name in JUDGED]
    return [f"{runs[0]['rate']:g}", *(f"{statistics.mean(scores):.1f}" if scores else "" for scores in judged)]


def costs(runs: list[dict]) -> list[str]:
    """Rank of the projections, images per second and seconds, medians of the runs that have them; most memory in MB."""
    ranks = [run["health"]["rank"] for run in runs if run["health"]]
    speeds = [run["images_per_second"] for run in runs if run["images_per_second"]]
    seconds = [run["seconds"] for run in runs if run["seconds"]]
    shown = [
        f"{statistics.median(values):{form}}" if values else ""
        for values, form in ((ranks, ".1f"), (speeds, ",.0f"), (seconds, ",.0f"))
    ]
    return [*shown, f"{max(run['peak_megabytes'] for run in runs):,}"]


def tried(found: Mapping) -> str:
    """The learning rate, and among how many it was chosen."""
    return f"{found['rate']:g}, " + ("one trial" if len(found["trials"]) == 1 else f"of {len(found['trials'])}")


def numbers(method: str, found: Mapping, path: Path) -> str:
    """What the page of a method says under "Our numbers" of the small bench: scores of the file at `path`."""
    rates = sorted(trial["rate"] for trial in found["trials"])
    among = f"the best of {', '.join(f'{rate:g}' for rate in rates)}"
    chosen = "beside which no other was tried" if len(rates) == 1 else among
    shown = dict(zip(JUDGED, cells(found["test"]["trained"], JUDGED), strict=True))
    linear = f", linear probe {shown['linear']} %" if shown["linear"] else ""
    seeds = COUNTS[len(found["runs"])]
    return (
        f"Small bench, recipe `{method}_bench`, {seeds}, learning rate {found['rate']:g}, {chosen}: "
        f"k-NN on the test images {shown['k=200']} % (k = 200) and {shown['k=20']} % (k = 20){linear}; "
        f"`{path.relative_to(REPOSITORY)}`."
    )


def cells(scores: Scores, columns: Iterable[str]) -> list[str]:
    """Mean ± deviation, or the number alone where nothing is random; empty where a probe does not apply."""
    rows = [scores.get(column) for column in columns]
    return ["" if row is None else f"{row['mean']:.1f}" + (f" ± {row['sd']:.1f}" if row["sd"] else "") for row in rows]


def name_of(method: str) -> str:
    """The head of the method's page."""
    return NAMES.get(method) or page_of(method).read_text().partition("\n")[0].removeprefix("# ")


def page_of(method: str) -> Path:
    return REPOSITORY / "docs" / "methods" / f"{method}.md"


STUDIES = (
    (page_of("instance_classifier"), studies.CLASSES, studies.classes, "classes"),
    (page_of("instance_classifier"), studies.COURSES, studies.courses, "classes"),
    (REPOSITORY / "docs" / "guides" / "copy-detection.md", studies.COPIES, studies.copies, "copies"),
)


def documents() -> dict[Path, str]:
    """Each document with its tables and sentences as the result files have them, the files' names included."""
    quality, probed, methods, peers = (newest(kind) for kind in ("quality", "probes", "methods", "peers"))
    texts = {README: README.read_text(), INDEX: INDEX.read_text()}
    for lines in (table(quality), probes(probed), beyond(methods), speeds(peers)):
        texts[README] = with_table(texts[README], lines)
    texts[INDEX] = with_table(texts[INDEX], every(methods, quality, probed))
    files = [quality, probed, methods, peers]
    if f"| {LIGHTLY} |" in texts[INDEX]:  # a place for it is made with its first numbers
        files.append(newest("beside"))
        texts[INDEX] = with_table(texts[INDEX], against(files[-1]), begin=f"| {LIGHTLY} |")
    texts = {path: with_files(text, files) for path, text in texts.items()}
    for path in (methods, quality):  # three seeds come last: they count
        for method, found in json.loads(path.read_text())["methods"].items():
            page = page_of(method)
            texts[page] = with_numbers(texts.get(page, page.read_text()), method, numbers(method, found, path))
    for page, begin, lines, kind in STUDIES:
        text = texts.get(page, page.read_text())
        if f"| {begin} |" in text:  # a place for it is made with its first numbers
            texts[page] = with_table(with_files(text, [newest(kind)]), lines(newest(kind)), begin=f"| {begin} |")
    return texts


def with_table(text: str, lines: list[str], begin: str = "") -> str:
    """The text with these lines in place of the table with the same first line, or of the one that begins so.

    Raises ValueError unless there is one.
    """
    first = rf"{re.escape(begin)}.*" if begin else re.escape(lines[0])
    pattern = re.compile(rf"^{first}\n(\|.*\n)*", re.MULTILINE)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"no place, or several, for the table {begin or lines[0]!r}: write its first line once")
    return pattern.sub(lambda _: "\n".join(lines) + "\n", text)


def with_files(text: str, paths: Iterable[Path]) -> str:
    """The text with these files in place of those of their kinds."""
    for path in paths:
        text = re.sub(rf"(?<=benchmarks/results/){path.name.partition('-')[0]}-[\d-]+\.json", path.name, text)
    return text


def with_numbers(page: str, method: str, sentence: str) -> str:
    """The page with the sentence in place of an earlier one, or of "None yet." or "No quality yet."; others stay."""
    head, heading, rest = page.partition("## Our numbers\n")
    old = rf"None yet\.|No quality yet\.|Small bench, recipe `{method}_bench`,.*?`benchmarks/results/[\w.-]+`\."
    rest, count = re.subn(old, lambda _: sentence, rest, count=1)
    if not count:
        raise ValueError(f'the page of {method} has no place for its numbers: write "None yet." under Our numbers')
    return head + heading + rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    for path, text in documents().items():
        if text != path.read_text():
            print(("written: " if asked.write else "would change: ") + str(path.relative_to(REPOSITORY)))
            if asked.write:
                path.write_text(text)


if __name__ == "__main__":
    main()
