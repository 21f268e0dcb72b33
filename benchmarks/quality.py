"""The small bench: every method with one encoder and budget; rate by held-out k-NN, then seeds, k-NN on the test set.

    python benchmarks/quality.py IMAGES OUT [--methods simclr,byol]

IMAGES holds train/<class>/*.jpg with at least 11,000 images and test/<class>/*.jpg with 10,000. Each run is a process
of its own through the shell verbs; what is in OUT is not run again: the bench may be stopped and taken up at any time.
Writes benchmarks/results/quality-<date>.json: one entry per run, and a summary per method.
"""

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
import tomllib
from datetime import date
from pathlib import Path

from machine import facts

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


def shell(*words: str) -> str:
    """Runs lookalike with these words; its standard output."""
    command = [sys.executable, "-m", "lookalike", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def once(method: str, rate: float, seed: int, out: Path) -> dict:
    """Trains unless OUT has this run; its entry with time, speed, memory and held-out score."""
    folder = out / "runs" / f"{method}-{rate:g}-{seed}"
    entry = folder / "entry.json"
    if entry.exists():
        return json.loads(entry.read_text())
    start = time.perf_counter()
    resume = ["--resume", str(folder)] if (folder / "recipe.yaml").exists() else []
    fresh = [str(out / "train"), "--recipe", f"{method}_bench", "--out", str(folder), "--seed", str(seed)]
    shell("pretrain", *(resume or [*fresh, f"optimizer.rate={rate:g}"]))
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
        "peak_megabytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
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
    """The scores of a run on labelled images, by the verb."""
    shell("evaluate", str(folder), "--data", str(data), *([] if references else ["--no-references"]))
    return json.loads((folder / "evaluation.json").read_text())[-1]["scores"]


def final(run: dict, out: Path) -> dict:
    """The test-set scores of a run, once."""
    folder = out / "runs" / f"{run['method']}-{run['rate']:g}-{run['seed']}"
    entry = folder / "final.json"
    if not entry.exists():
        entry.write_text(json.dumps(scores(folder, out / "final", references=True), indent=1))
    return json.loads(entry.read_text())


def summary(finals: list[dict], model: str) -> dict[str, dict[str, float]]:
    """Mean and standard deviation over seeds of each protocol's k-NN."""
    result = {}
    for place in range(len(finals[0][model])):
        values = [100 * scored[model][place]["value"] for scored in finals]
        spread = round(statistics.stdev(values), 2) if len(values) > 1 else None
        result[f"k={finals[0][model][place]['k']}"] = {
            "mean": round(statistics.mean(values), 2),
            "sd": spread,
        }
    return result


def bench(method: str, out: Path) -> dict:
    trials = [once(method, rate, 0, out) for rate in BENCH["bench"]["rates"]]
    rate = max(trials, key=lambda trial: trial["held_out"][0]["value"])["rate"]
    runs = [once(method, rate, seed, out) for seed in BENCH["bench"]["seeds"]]
    finals = [final(run, out) for run in runs]
    models = {model: summary(finals, model) for model in ("trained", "random weights", "raw pixels")}
    for run, scored in zip(runs, finals, strict=True):
        run["test"] = {model: {f"k={one['k']}": one["value"] for one in found} for model, found in scored.items()}
    for run in runs + trials:
        manifest = out / "runs" / f"{run['method']}-{run['rate']:g}-{run['seed']}" / "manifest.json"
        run["revision"] = json.loads(manifest.read_text())["git"]
    return {"method": method, "rate": rate, "test": models, "runs": runs, "trials": trials}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--methods", default=",".join(BENCH["methods"]["names"]))
    asked = parser.parse_args()
    split(asked.images, asked.out)
    results = HERE / "results" / f"quality-{date.today()}.json"
    done: dict = {
        "machine": facts(),
        "command": "python benchmarks/quality.py IMAGES OUT",
        "note": "Times are a measurement only where nothing else ran beside them; of a resumed run they are null.",
    }
    done |= {"bench": BENCH, "methods": {}}
    for method in asked.methods.split(","):
        found = bench(method, asked.out)
        earlier = json.loads(results.read_text())["methods"] if results.exists() else {}  # of a bench that runs beside
        results.write_text(json.dumps({**done, "methods": {**earlier, method: found}}, indent=1) + "\n")
        print(method, "rate", found["rate"], json.dumps(found["test"]), flush=True)


if __name__ == "__main__":
    main()
