"""Edited copies found by QK Iteration and by SimCLR, its rival with negatives of the batch alone, at equal passes.

    python benchmarks/copies.py CIFAR PHOTOS OUT [--part PART]

CIFAR holds images in any folders (all 60,000 of CIFAR-10), PHOTOS photographs. Benchmarks are built in OUT, each run
is a process of its own, and what is in OUT is not done again: parts (qk, simclr, photos, started, trials, cheap) may
run beside one another, and the last word is --part report. Settings, seeds and metric: copies.toml. Writes
benchmarks/results/copies-<date>.json.
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
BOTH, ALONE = "query network on both sides", "backbone alone"  # beside the run: neither chooses a rate
RAW, NORMALIZED = 0, 1  # columns of a score table: cosines as they are, and SSCD's normalization


def benchmark(name: str, images: Path, out: Path) -> Path:
    """OUT/<name>, built unless it is there."""
    plan = PLAN[name]
    numbers = {key: plan[key] for key in ("seed", "copies", "side", "near")}
    return build_copy_benchmark(images, out / name, sizes=CopySizes(**plan["sizes"]), **numbers)


def trained(data: str, method: str, rate: float, seed: int, out: Path, trial: str = "") -> Path:
    """The run of these settings, made or taken up or there already. data: that of a section of copies.toml.

    Those of "started" go on from the backbone of "base", SimCLR's run of fewer epochs.
    """
    place = "cifar10" if data in ("started", "base") else data
    name = "-".join([data, method, f"{rate:g}", str(seed), *trial.split()])
    run = out / "runs" / name.replace(",", "")
    if (run / "seconds.json").exists():
        return run
    own = PLAN["started"]["base"] if data == "base" else PLAN[data][method]
    more = PLAN["started_trials" if data == "started" else "trials"][trial] if trial else []
    settings = [*PLAN["network"]["settings"], *PLAN[place]["settings"], *own, f"optimizer.rate={rate:g}", *more]
    fresh = [
        str(out / place / "training"),
        "--recipe",
        METHODS[method],
        "--out",
        str(run),
        "--seed",
        str(seed),
        *settings,
    ]
    if data == "started":
        first, _ = chosen("simclr", "cifar10", out)
        fresh += ["--init", str(trained("base", "simclr", first, seed, out))]
    resume = ["--resume", str(run)] if (run / "recipe.yaml").exists() else []
    start = time.perf_counter()
    shell("pretrain", *(resume or fresh))
    (run / "seconds.json").write_text(json.dumps(None if resume else round(time.perf_counter() - start, 1)))
    return run


def judged(place: Path, run: Path, *, cheap: bool = False) -> dict[str, Any]:
    """Scores of a run on a benchmark by the name of what was scored, kept beside the run; with those of CHEAP."""
    file, folder = run / f"{place.name}{'-cheap' if cheap else ''}.json", RunFolder(run)
    models = models_of_copies(folder, references=True, others=()) if cheap else in_other_ways(of_run("trained", folder))
    if not file.exists() or {model.name for model in models} - json.loads(file.read_text())["scores"].keys():
        quiet, cpu = Line(quiet=True), torch.device("cpu")
        found = copies(copy_folder(place), models, protocol="copy", device=cpu, max_bad=0.001, line=quiet)
        scores = {name: [row(score) for score in rows] for name, rows in found.scores.items()}
        edits = [[edit.family, edit.strength, edit.pairs, round(edit.uap, 4)] for edit in found.edits]
        file.write_text(json.dumps({"scores": scores, "edits": edits}, indent=1))
    return json.loads(file.read_text())


def in_other_ways(model: Sides) -> list[Sides]:
    """The run; then a shared network without its head, or of two networks that for queries on both sides."""
    if model.query is not model.reference:
        return [model, Sides(name=BOTH, query=model.query, reference=model.query, size=model.size)]
    assert isinstance(model.query, Descriptor)
    encoder = model.query.backbone
    return [model, Sides(name=ALONE, query=encoder, reference=encoder, size=model.size)]


def row(score: Any) -> dict[str, Any]:
    """One column of one model."""
    settings = score.protocol.settings
    form = {"normalization": settings["normalization"], "whitening": settings["whitening"], "dim": settings["dim"]}
    return {**form, "uAP": score.value, "interval": list(score.interval), **score.found}


def chosen(method: str, data: str, out: Path) -> tuple[float, dict[str, float]]:
    """The rate whose run of seed 0 has the best raw uAP on copies of its training images; and that of each rate.

    Photos take the rate of cifar10. The benchmarks are there already.
    """
    data, found = "cifar10" if data == "photos" else data, {}
    for rate in PLAN["network"]["rates"]:
        run = trained(data, method, rate, 0, out)
        found[rate] = judged(out / "choice", run)["scores"]["trained"][RAW]["uAP"]
        print(f"{data} {method} rate {rate:g}: uAP on copies of training images {found[rate]:.4f}", flush=True)
    return max(found, key=lambda rate: found[rate]), {f"{rate:g}": value for rate, value in found.items()}


def entry(place: Path, run: Path) -> dict[str, Any]:
    """A run's scores, and what made it."""
    recipe, manifest = RunFolder(run).recipe(), RunFolder(run).manifest()
    found = judged(place, run)
    print(run.name, json.dumps(found["scores"]["trained"][RAW]), flush=True)
    passes = {"epochs": recipe.epochs, "rounds": getattr(recipe.method, "rounds", None), "passes": passed(recipe)}
    made = {"seconds": json.loads((run / "seconds.json").read_text()), "revision": manifest["git"]}
    return {"run": run.name, "seed": recipe.seed, **passes, **made, **found, "edits": in_lines(found["edits"])}


def in_lines(edits: Sequence[Any]) -> dict[str, str]:
    """uAP in percent by family of edits, strength after strength, and of how many copies: a line for each family."""
    lines: dict[str, list[str]] = {}
    for family, strength, pairs, uap in edits:
        lines.setdefault(family, []).append(f"{strength or 'all'}: {100 * uap:.1f} of {pairs}")
    return {family: ", ".join(line) for family, line in lines.items()}


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


def main_runs(method: str, data: str, out: Path) -> list[dict[str, Any]]:
    rate, _ = chosen(method, data, out)
    place = out / ("photos" if data == "photos" else "cifar10")
    return [entry(place, trained(data, method, rate, seed, out)) for seed in PLAN["network"]["seeds"]]


def trials(out: Path) -> dict[str, Any]:
    """By "random weights: what was tried" or "started: ..."."""
    found = {}
    for data, section, words in (("cifar10", "trials", "random weights"), ("started", "started_trials", "started")):
        for trial in PLAN[section]:
            method = "simclr" if trial.startswith("simclr") else "qk"
            rate, _ = chosen(method, data, out)
            found[f"{words}: {trial}"] = entry(out / "cifar10", trained(data, method, rate, 0, out, trial))
    return found


def cheap(out: Path) -> dict[str, Any]:
    """What learns nothing, once for each benchmark; and the base of what is started."""
    rate, _ = chosen("qk", "cifar10", out)
    found = {}
    for data in ("cifar10", "photos"):
        scores = judged(out / data, trained(data, "qk", rate, 0, out), cheap=True)["scores"]
        found[data] = {name: scores[name] for name in CHEAP if name in scores}
    first, _ = chosen("simclr", "cifar10", out)
    found["base"] = [entry(out / "cifar10", trained("base", "simclr", first, s, out)) for s in PLAN["network"]["seeds"]]
    return found


def report(out: Path) -> None:
    body: dict[str, Any] = {"plan": PLAN, "rates": {}, "summary": {}, "cheap": cheap(out), "runs": {}}
    body["summary"]["base simclr"] = summary(body["cheap"]["base"])
    for data in ("cifar10", "started", "photos"):
        for method in METHODS:
            rate, tried = chosen(method, data, out)
            entries = main_runs(method, data, out)
            body["rates"][f"{data} {method}"] = {"chosen": rate, "tried": tried}
            body["runs"][f"{data} {method}"] = entries
            body["summary"][f"{data} {method}"] = summary(entries)
            other = ALONE if method == "simclr" else BOTH
            body["summary"][f"{data} {method}, {other}"] = summary(entries, other)
    body["trials"] = trials(out)
    print(save("copies", body))
    print(json.dumps(body["summary"], indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parts = {"qk": ("cifar10",), "simclr": ("cifar10",), "photos": ("photos",), "started": ("started",)}
    parser.add_argument("--part", choices=(*parts, "trials", "cheap", "report"), default="report")
    asked = parser.parse_args()
    training = benchmark("cifar10", asked.cifar, asked.out) / "training"
    benchmark("choice", training, asked.out)
    benchmark("photos", asked.photos, asked.out)
    for data in parts.get(asked.part, ()):
        for method in [asked.part] if asked.part in METHODS else METHODS:
            main_runs(method, data, asked.out)
    if asked.part not in parts:
        {"trials": trials, "cheap": cheap, "report": report}[asked.part](asked.out)


if __name__ == "__main__":
    main()
