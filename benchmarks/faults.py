"""The fault suite with its full counts (python benchmarks/faults.py).

Runs tests/faults, long counts included, and writes benchmarks/results/faults-<date>.json: for each group of cases how
many were tried and how many came out as they must, and for each test file how many tests passed.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as Xml

from machine import save

ROOT = pathlib.Path(__file__).resolve().parents[1]
GROUPS = {
    4: "SIGKILL at random moments of a run that saves every step",
    5: "SIGKILL at each call of a save that reaches the disk",
    6: "refusals of the disk at each call",
    7: "flipped bits",
    8: "truncated, lengthened, exchanged and stale files",
    9: "hostile pickles",
    10: "malformed and mutated safetensors",
    11: "odd images x {skip, stop}",
    12: "damaged JPEG and PNG",
    13: "NaN and infinity on two processes",
    20: "misused recipes",
}


def suite(folder: pathlib.Path) -> tuple[int, list[dict], dict[str, dict[str, int]]]:
    """Exit code of pytest, the lines that tests left, outcomes by test file."""
    counts, report = folder / "counts.jsonl", folder / "report.xml"
    counts.touch()
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", "tests/faults", f"--junitxml={report}"]
    code = subprocess.run(command, cwd=ROOT, check=False, env={**os.environ, "FAULT_COUNTS": str(counts)}).returncode
    outcomes: dict[str, dict[str, int]] = collections.defaultdict(lambda: collections.Counter())
    for case in Xml.parse(report).iter("testcase"):
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcomes[case.get("classname", "").rpartition(".")[2]][next(iter(kinds), "passed")] += 1
    return code, [json.loads(line) for line in counts.read_text().splitlines()], outcomes


def gathered(lines: list[dict]) -> list[dict]:
    """One entry a group and what was done; equal ones are added up."""
    found: dict[tuple[int, str], dict] = {}
    for line in lines:
        entry = found.setdefault((line["group"], line["what"]), {**line, "cases": 0, "right": 0})
        entry["cases"] += line["cases"]
        entry["right"] += line["right"]
        entry |= {name: max(entry[name], value) for name, value in line.items() if name in ("seconds", "megabytes")}
    return [found[key] for key in sorted(found)]


def main() -> None:
    start = time.time()
    with tempfile.TemporaryDirectory() as folder:
        code, lines, outcomes = suite(pathlib.Path(folder))
    entries = gathered(lines)
    total = {
        str(group): {
            "what": what,
            "cases": sum(entry["cases"] for entry in entries if entry["group"] == group),
            "right": sum(entry["right"] for entry in entries if entry["group"] == group),
        }
        for group, what in GROUPS.items()
    }
    for group, row in total.items():
        print(f"{group:>3} {row['what']:60} {row['right']:7,} of {row['cases']:7,}")
    body = {"groups": total, "parts": entries, "tests": outcomes, "pytest": code, "minutes": (time.time() - start) / 60}
    print(f"written: {save('faults', body)}")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
