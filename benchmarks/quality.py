"""The small bench: every method with one encoder and budget; rate by held-out k-NN, then seeds, k-NN on the test set.

    python benchmarks/quality.py IMAGES OUT [--methods simclr,byol] [--rates 0.003,0.002] [--seeds 0] [--result methods]

IMAGES holds train/<class>/*.jpg with at least 11,000 images and test/<class>/*.jpg with 10,000. Each run is a process
of its own through the shell verbs; what is in OUT is not run again: the bench may be stopped and taken up at any time,
and fewer rates or seeds than bench.toml names may be asked for: the result file says which were tried. Writes
benchmarks/results/quality-<date>.json, or another name with --result: one entry per run, and a summary per method;
methods that are not asked for stay as the last such file has them, with the revision of each run. With --on-record what
that file holds of a method asked for is not run again either, though OUT is gone: for methods and recipes that are
still what they were.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from lookalike.api.folder import RunFolder
from lookalike.recipes import METHODS
from machine import RESULTS, facts, methods_of

Key = tuple[float, int]  # rate, seed
HERE = Path(__file__).parent
BENCH = tomllib.loads((HERE / "bench.toml").read_text())


def split(images: Path, out: Path) -> None:
    """OUT/train, OUT/probe/{train,test} (held out), OUT/final/{train,test}: links to the first files of each class."""
    per = {name: BENCH["data"][name] // 10 for name in ("train", "held_out", "test")}
    for folder in sorted((images / "train").iterdir()):
        files = sorted(folder.iterdir())
        if len(files) < per["train"] + per["held_out"]:
            raise SystemExit(f"{folder} holds {len(files)} images: {per['train'] + per['held_out']} are needed")
        held = files[per["train"] : per["train"] + per["held_out"]]
        for place in ("train", "probe/train", "final/train"):
            link(files[: per["train"]], out / place / folder.name)
        link(held, out / "probe/test" / folder.name)
        link(sorted((images / "test" / folder.name).iterdir())[: per["test"]], out / "final/test" / folder.name)


def link(files: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        with contextlib.suppress(FileExistsError):  # another bench may be doing the same
            (folder / file.name).symlink_to(file.resolve())


def shell(*words: str) -> int:
    """Runs lookalike with these words; the most memory it held, in megabytes."""
    command = [sys.executable, "-m", "lookalike", *words]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{said.read()}")
    return usage.ru_maxrss // 1024


def once(method: str, rate: float, seed: int, out: Path) -> dict:
    """Trains unless OUT has this run; its entry with time, speed, memory and held-out score."""
    folder = out / "runs" / f"{method}-{rate:g}-{seed}"
    entry = folder / "entry.json"
    if entry.exists():
        return json.loads(entry.read_text())
    start = time.perf_counter()
    resume = ["--resume", str(folder)] if (folder / "recipe.yaml").exists() else []
    fresh = [str(out / "train"), "--recipe", f"{method}_bench", "--out", str(folder), "--seed", str(seed)]
    fresh += ["--labels", "folders"] if METHODS[method].facts.unlabeled else []  # SupCon alone learns from them
    megabytes = shell("pretrain", *(resume or [*fresh, f"optimizer.rate={rate:g}"]))
    seconds = time.perf_counter() - start
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    speeds = [row["images_per_second"] for row in rows if "images_per_second" in row]
    health = [row for row in rows if row.get("probe") and "spread" in row]
    found = {
        "method": method,
        "rate": rate,
        "seed": seed,
        "seconds": round(seconds, 1) if not resume else None,
        "images_per_second": round(statistics.median(speeds), 1),
        "data_wait": round(statistics.mean(row["wait"] for row in rows if "wait" in row), 4),
        "peak_megabytes": megabytes,
        "loss": next(row["loss"] for row in reversed(rows) if "loss" in row),
        "health": {name: health[-1][name] for name in ("spread", "rank", "cosine")} if health else None,
        "held_out": scores(folder, out / "probe", references=False)["trained"],
    }
    entry.write_text(json.dumps(found, indent=1))
    print(
        f"{method} rate {rate:g} seed {seed}: held-out {found['held_out'][0]['value']:.3f}, {seconds:.0f} s", flush=True
    )
    return found


def scores(folder: Path, data: Path, references: bool) -> dict:
    """The scores of a run on labelled images, by the verb: k-NN; with references the linear probe too.

    Of two networks the first by name counts, as for `RunFolder.shown`: the key network of QK Iteration.
    """
    words = ["--protocol", "knn,linear"] if references else ["--no-references"]
    role = RunFolder(folder).roles()[:1] or ["encoder"]
    shell("evaluate", str(folder), "--data", str(data), "--role", *role, *words)
    return json.loads((folder / "evaluation.json").read_text())[-1]["scores"]


def final(run: dict, out: Path) -> dict:
    """The test-set scores of a run, once."""
    folder = out / "runs" / f"{run['method']}-{run['rate']:g}-{run['seed']}"
    entry = folder / "final.json"
    if not entry.exists() or "linear" not in entry.read_text():
        entry.write_text(json.dumps(scores(folder, out / "final", references=True), indent=1))
    return json.loads(entry.read_text())


def title(score: dict) -> str:
    """A score's protocol in a word: k=20, linear."""
    return f"k={score['k']}" if score["name"] == "knn" else score["name"]


def titled(scored: dict[str, list[dict]]) -> dict[str, dict[str, float]]:
    """Values by model and protocol."""
    return {model: {title(one): one["value"] for one in found} for model, found in scored.items()}


def summary(runs: list[dict], model: str) -> dict[str, dict[str, float]]:
    """Mean and standard deviation over seeds of k-NN for each k, and of the linear probe."""
    result = {}
    for name in runs[0]["test"][model]:
        values = [100 * run["test"][model][name] for run in runs]
        spread = round(statistics.stdev(values), 2) if len(values) > 1 else None
        result[name] = {"mean": round(statistics.mean(values), 2), "sd": spread}
    return result


def bench(
    method: str, rates: list[float], seeds: list[int], out: Path, known: Mapping[Key, dict] | None = None
) -> dict:
    """The choice of the rate and the chosen runs; known: runs on record, by rate and seed."""
    known = known or {}
    trials = [known.get((rate, 0)) or with_revision(once(method, rate, 0, out), out) for rate in rates]
    rate = max(trials, key=lambda trial: trial["held_out"][0]["value"])["rate"]
    runs = [known.get((rate, seed), {}) for seed in seeds]
    for place, seed in enumerate(seeds):
        if "test" not in runs[place]:
            run = with_revision(once(method, rate, seed, out), out)
            runs[place] = run | {"test": titled(final(run, out))}
    models = {model: summary(runs, model) for model in ("trained", "random weights", "raw pixels")}
    return {
        "method": method,
        "rate": rate,
        "test": models,
        "runs": runs,
        "trials": [untested(trial) for trial in trials],
    }


def untested(run: dict) -> dict:
    """The run without its test scores, which choose nothing."""
    return {name: value for name, value in run.items() if name != "test"}


def with_revision(run: dict, out: Path) -> dict:
    """The run with the commit it was made at."""
    manifest = out / "runs" / f"{run['method']}-{run['rate']:g}-{run['seed']}" / "manifest.json"
    return run | {"revision": json.loads(manifest.read_text())["git"]}


def on_record(found: dict) -> dict[Key, dict]:
    """The runs of a method in a result file, by rate and seed, with test scores where it has them."""
    return {(run["rate"], run["seed"]): run for run in found.get("trials", []) + found.get("runs", [])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--methods", default=",".join(BENCH["methods"]["names"]))
    parser.add_argument("--rates", default=",".join(map(str, BENCH["bench"]["rates"])))
    parser.add_argument("--seeds", default=",".join(map(str, BENCH["bench"]["seeds"])))
    parser.add_argument("--result", default="quality")
    parser.add_argument("--on-record", action="store_true")
    asked = parser.parse_args()
    rates, seeds = [float(rate) for rate in asked.rates.split(",")], [int(seed) for seed in asked.seeds.split(",")]
    split(asked.images, asked.out)
    results = RESULTS / f"{asked.result}-{datetime.now(UTC).date()}.json"
    done: dict = {
        "machine": facts(),
        "command": "python benchmarks/quality.py IMAGES OUT",
        "note": "Times are a measurement only where nothing else ran beside them; of a resumed run they are null.",
    }
    done |= {"bench": BENCH, "methods": {}}
    for method in asked.methods.split(","):
        known = on_record(methods_of(asked.result).get(method, {})) if asked.on_record else {}
        found = bench(method, rates, seeds, asked.out, known)
        methods = methods_of(asked.result) | {method: found}  # read again: another bench may run beside
        results.write_text(json.dumps({**done, "methods": methods}, indent=1) + "\n")
        print(method, "rate", found["rate"], json.dumps(found["test"]), flush=True)


if __name__ == "__main__":
    main()
