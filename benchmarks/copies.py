"""Edited copies found by QK Iteration and by SimCLR, its rival with negatives of the batch alone, at equal passes.

    python benchmarks/copies.py CIFAR PHOTOS OUT [--part qk|simclr|trials|photos|cheap|report]

CIFAR holds images in any folders (all 60,000 of CIFAR-10), PHOTOS photographs. Benchmarks are built in OUT, each run
is a process of its own, and what is in OUT is not done again: parts may run beside one another, and the last word is
--part report. Settings, seeds and metric: copies.toml. Writes benchmarks/results/copies-<date>.json.
"""

import argparse
import json
import statistics
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lookalike.api.copies import copies
from lookalike.api.copy_benchmark import CopySizes, build_copy_benchmark
from lookalike.api.folder import RunFolder
from lookalike.api.sides import Sides, models_of_copies, of_run
from lookalike.data import copy_folder
from lookalike.modules import Descriptor
from lookalike.training.progress import Line
from machine import save
from quality import shell

PLAN = tomllib.loads((Path(__file__).parent / "copies.toml").read_text())
METHODS = {"qk": "qk_copy_cifar10", "simclr": "simclr_copy_cifar10"}
CHEAP = ("random weights", "raw pixels", "pHash", "dHash", "color histogram")
RAW, NORMALIZED = 0, 1  # columns of a score table: cosines as they are, and SSCD's normalization


def benchmark(name: str, images: Path, out: Path) -> Path:
    """OUT/<name>, built unless it is there."""
    plan = PLAN[name]
    numbers = {key: plan[key] for key in ("seed", "copies", "side", "near")}
    return build_copy_benchmark(images, out / name, sizes=CopySizes(**plan["sizes"]), **numbers)


def trained(data: str, method: str, rate: float, seed: int, out: Path, trial: str = "") -> Path:
    """The run of these settings, made or taken up or there already."""
    name = "-".join([data, method, f"{rate:g}", str(seed), *trial.split()])
    run = out / "runs" / name.replace(",", "")
    if (run / "seconds.json").exists():
        return run
    start = time.perf_counter()
    settings = [*PLAN["network"]["settings"], *PLAN[data]["settings"], *PLAN[data][method], f"optimizer.rate={rate:g}"]
    fresh = [str(out / data / "training"), "--recipe", METHODS[method], "--out", str(run), "--seed", str(seed)]
    fresh += [*settings, *(PLAN["trials"][trial] if trial else [])]
    resume = ["--resume", str(run)] if (run / "recipe.yaml").exists() else []
    shell("pretrain", *(resume or fresh))
    seconds = round(time.perf_counter() - start, 1)
    (run / "seconds.json").write_text(json.dumps(None if resume else seconds))
    return run


def judged(place: Path, run: Path, *, cheap: bool = False) -> dict[str, Any]:
    """Scores of a run on a benchmark by the name of what was scored, kept beside the run; with those of CHEAP."""
    file = run / f"{place.name}{'-cheap' if cheap else ''}.json"
    if not file.exists():
        folder = RunFolder(run)
        models = models_of_copies(folder, references=True, others=()) if cheap else [of_run("trained", folder)]
        models += [] if cheap else backbone(models[0])
        quiet, cpu = Line(quiet=True), torch.device("cpu")
        found = copies(copy_folder(place), models, protocol="copy", device=cpu, max_bad=0.001, line=quiet)
        scores = {name: [row(score) for score in rows] for name, rows in found.scores.items()}
        edits = [[edit.family, edit.strength, edit.pairs, round(edit.uap, 4)] for edit in found.edits]
        file.write_text(json.dumps({"scores": scores, "edits": edits}, indent=1))
    return json.loads(file.read_text())


def backbone(model: Sides) -> list[Sides]:
    """The rival's encoder without its head, where one network describes queries and references."""
    if model.query is not model.reference or not isinstance(model.query, Descriptor):
        return []
    encoder = model.query.backbone
    return [Sides(name="backbone alone", query=encoder, reference=encoder, size=model.size)]


def row(score: Any) -> dict[str, Any]:
    """One column of one model."""
    settings = score.protocol.settings
    form = {"normalization": settings["normalization"], "whitening": settings["whitening"], "dim": settings["dim"]}
    return {**form, "uAP": score.value, "interval": list(score.interval), **score.found}


def chosen(method: str, images: Path, out: Path) -> tuple[float, dict[str, float]]:
    """The rate whose run of seed 0 has the best raw uAP on copies of its training images; and that of each rate."""
    place = benchmark("choice", benchmark("cifar10", images, out) / "training", out)
    found = {}
    for rate in PLAN["network"]["rates"]:
        run = trained("cifar10", method, rate, 0, out)
        found[rate] = judged(place, run)["scores"]["trained"][RAW]["uAP"]
        print(f"{method} rate {rate:g}: uAP on copies of training images {found[rate]:.4f}", flush=True)
    return max(found, key=lambda rate: found[rate]), {f"{rate:g}": value for rate, value in found.items()}


def entry(place: Path, run: Path) -> dict[str, Any]:
    """A run's scores, and what made it."""
    recipe, manifest = RunFolder(run).recipe(), RunFolder(run).manifest()
    found = judged(place, run)
    print(run.name, json.dumps(found["scores"]["trained"][RAW]), flush=True)
    passes = {"epochs": recipe.epochs, "rounds": getattr(recipe.method, "rounds", None), "passes": passed(recipe)}
    made = {"seconds": json.loads((run / "seconds.json").read_text()), "revision": manifest["git"]}
    return {"run": run.name, "seed": recipe.seed, **passes, **made, **found}


def passed(recipe: Any) -> float:
    """Passes of all images through an encoder, with gradient or without."""
    rounds = getattr(recipe.method, "rounds", None)
    return 2 * recipe.epochs if rounds is None else recipe.epochs + 2 * rounds


def summary(entries: Sequence[dict[str, Any]], model: str = "trained") -> dict[str, dict[str, float | None]]:
    """Mean and deviation over seeds, percent, of raw and normalized uAP and of recall at precision 90."""
    result = {}
    for form, column in (("raw", RAW), ("normalized", NORMALIZED)):
        for what in ("uAP", "recall@P90"):
            values = [100 * number(one["scores"][model][column][what]) for one in entries]
            mean, spread = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None
            result[f"{what} {form}"] = {"mean": round(mean, 2), "sd": None if spread is None else round(spread, 2)}
    return result


def number(value: float | str) -> float:
    """A recall that is never reached is none."""
    return value if isinstance(value, float) else 0.0


def main_runs(method: str, data: str, asked: argparse.Namespace) -> list[dict[str, Any]]:
    rate, _ = chosen(method, asked.cifar, asked.out)
    place = benchmark(data, asked.photos if data == "photos" else asked.cifar, asked.out)
    return [entry(place, trained(data, method, rate, seed, asked.out)) for seed in PLAN["network"]["seeds"]]


def trials(asked: argparse.Namespace) -> dict[str, Any]:
    place, found = benchmark("cifar10", asked.cifar, asked.out), {}
    for trial in PLAN["trials"]:
        method = "simclr" if trial.startswith("simclr") else "qk"
        rate, _ = chosen(method, asked.cifar, asked.out)
        found[trial] = entry(place, trained("cifar10", method, rate, 0, asked.out, trial))
    return found


def cheap(asked: argparse.Namespace) -> dict[str, Any]:
    """What learns nothing, once for each benchmark."""
    found = {}
    for data, images in (("cifar10", asked.cifar), ("photos", asked.photos)):
        rate, _ = chosen("qk", asked.cifar, asked.out)
        place = benchmark(data, images, asked.out)
        scores = judged(place, trained(data, "qk", rate, 0, asked.out), cheap=True)["scores"]
        found[data] = {name: scores[name] for name in CHEAP if name in scores}
    return found


def report(asked: argparse.Namespace) -> None:
    body: dict[str, Any] = {"plan": PLAN, "rates": {}, "summary": {}, "cheap": cheap(asked), "runs": {}}
    for method in METHODS:
        rate, tried = chosen(method, asked.cifar, asked.out)
        body["rates"][method] = {"chosen": rate, "tried": tried}
    for data in ("cifar10", "photos"):
        for method in METHODS:
            entries = main_runs(method, data, asked)
            body["runs"][f"{data} {method}"] = entries
            body["summary"][f"{data} {method}"] = summary(entries)
            if "backbone alone" in entries[0]["scores"]:
                body["summary"][f"{data} {method}, backbone alone"] = summary(entries, "backbone alone")
    body["trials"] = trials(asked)
    print(save("copies", body))
    print(json.dumps(body["summary"], indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", choices=("qk", "simclr", "trials", "photos", "cheap", "report"), default="report")
    asked = parser.parse_args()
    if asked.part in METHODS:
        main_runs(asked.part, "cifar10", asked)
    elif asked.part == "photos":
        for method in METHODS:
            main_runs(method, "photos", asked)
    else:
        {"trials": trials, "cheap": cheap, "report": report}[asked.part](asked)


if __name__ == "__main__":
    main()
