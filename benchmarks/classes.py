"""The instance classifier with and without raw-feature weights and smoothing, beside PIC, MoCo v2 and SimCLR.

    python benchmarks/classes.py IMAGES OUT [--variants "without smoothing"] [--seeds 0]

IMAGES and OUT as in quality.py, whose runs are taken over where they are; what is in OUT is not run again, and fewer
variants or seeds may run beside one another: what is asked in full writes benchmarks/results/classes-<date>.json.
Settings and metric: classes.toml.
"""

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

from machine import save
from quality import BENCH, bench, once, scores, shell, split, summary, titled

PLAN = tomllib.loads((Path(__file__).parent / "classes.toml").read_text())
METHOD = "instance_classifier"


def chosen(out: Path) -> float:
    """The rate of the method as it is, by the rule of the small bench."""
    tried = {rate: once(METHOD, rate, 0, out)["held_out"][0]["value"] for rate in BENCH["bench"]["rates"]}
    return max(tried, key=lambda rate: tried[rate])


def variant(name: str, rate: float, seed: int, out: Path) -> dict[str, Any]:
    """A run of the variant: k-NN on the test images, and its course over the epochs."""
    run = out / "classes" / f"{'-'.join(name.split())}-{rate:g}-{seed}"
    if not (run / "final.json").exists():
        fresh = [str(out / "train"), "--recipe", f"{METHOD}_bench", "--out", str(run), "--seed", str(seed)]
        fresh += [*PLAN["watched"], f"optimizer.rate={rate:g}", *PLAN["variants"][name]]
        shell("pretrain", *(["--resume", str(run)] if (run / "recipe.yaml").exists() else fresh))
        (run / "final.json").write_text(json.dumps(scores(run, out / "final", references=False), indent=1))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = max(row["step"] for row in rows)
    course = [[round(BENCH["bench"]["epochs"] * r["step"] / steps, 1), round(r["knn"], 4)] for r in rows if "knn" in r]
    found = json.loads((run / "final.json").read_text())
    print(name, seed, [one["value"] for one in found["trained"]], flush=True)
    revision = json.loads((run / "manifest.json").read_text())["git"]
    return {"seed": seed, "rate": rate, "course": course, "revision": revision, "test": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--variants", default=",".join(PLAN["variants"]))
    parser.add_argument("--seeds", default=",".join(map(str, BENCH["bench"]["seeds"])))
    asked = parser.parse_args()
    split(asked.images, asked.out)
    names, seeds = asked.variants.split(","), [int(seed) for seed in asked.seeds.split(",")]
    rate = chosen(asked.out)
    runs = {name: [variant(name, rate, seed, asked.out) for seed in seeds] for name in names}
    if names != list(PLAN["variants"]) or seeds != BENCH["bench"]["seeds"]:
        return
    rates = BENCH["bench"]["rates"]
    beside = {method: bench(method, rates, seeds, asked.out) for method in PLAN["beside"]}
    body = {
        "plan": PLAN,
        "bench": BENCH,
        "rate": rate,
        "summary": {
            name: summary([{"test": titled(run["test"])} for run in of], "trained") for name, of in runs.items()
        }
        | {method: found["test"]["trained"] for method, found in beside.items()},
        "references": {name: beside["simclr"]["test"][name] for name in ("random weights", "raw pixels")},
        "runs": runs,
        "beside": beside,
    }
    print(save("classes", body))
    print(json.dumps(body["summary"], indent=1))


if __name__ == "__main__":
    main()
