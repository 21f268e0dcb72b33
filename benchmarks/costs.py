"""What a step of each method costs beside one of SimCLR: python benchmarks/costs.py [--methods moco,byol] [--steps 12]

Each method trains on <method>_bench (quality.py: one encoder, one batch, each method's own views) on noise of 32 px,
on one thread, taking turns with SimCLR. Times are processor time, which other work on the machine hardly lengthens; the
ratio is that of the medians, its spread that of the turns. Views and the update of weights count; passes over the whole
data set between phases do not. Writes benchmarks/results/costs-<date>.json, and what `lookalike methods` prints.
"""

import argparse
import json
import statistics
import time
from contextlib import suppress
from pathlib import Path

import torch

from lookalike.api.assembly import Job, assemble, settle
from lookalike.data import open_source
from lookalike.functional import random
from lookalike.recipes import METHODS, load
from lookalike.training.loop import Stopped, train
from lookalike.training.progress import Line
from machine import save

PRINTED = Path(__file__).parents[1] / "src" / "lookalike" / "recipes" / "costs.json"
IMAGES, FIRST = 1024, 3  # steps that are not counted: memory is fetched, oneDNN chooses its kernels
BASE = "simclr"


class Steps:
    """Stops training after so many steps; processor seconds of each."""

    def __init__(self, steps: int) -> None:
        self.left, self.start, self.seconds = steps, time.process_time(), []

    def __call__(self) -> bool:
        now = time.process_time()
        self.seconds.append(now - self.start)
        self.start, self.left = now, self.left - 1
        return self.left <= 0


def milliseconds(method: str, images: list[torch.Tensor], steps: int) -> float:
    """The median step of a fresh run."""
    clock, place = Steps(FIRST + steps), torch.device("cpu")
    overrides = ["epochs=1000", "runtime.threads=1"]
    job = Job(folder=None, recipe=load(f"{method}_bench", overrides), source=open_source(images))
    with Line(quiet=True) as line, suppress(Stopped):
        whole = settle(job, place, line)
        train(assemble(job, whole, place, line, stop=clock), whole.epochs)
    return 1000 * statistics.median(clock.seconds[FIRST:])


def beside(method: str, images: list[torch.Tensor], steps: int, turns: int) -> dict:
    pairs = [(milliseconds(method, images, steps), milliseconds(BASE, images, steps)) for _ in range(turns)]
    own, base = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = [one / other for one, other in pairs]
    return {
        "milliseconds": round(own, 1),
        BASE: round(base, 1),
        "ratio": round(own / base, 3),
        "turns": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    generator = random.generator("images")
    images = list(torch.randint(256, (IMAGES, 3, 32, 32), generator=generator, dtype=torch.uint8))
    found: dict[str, dict] = {}
    for method in asked.methods.split(","):
        found[method] = beside(method, images, asked.steps, asked.turns)
        print(method, found[method], flush=True)
    print(f"written: {save('costs', {'steps': asked.steps, 'turns': asked.turns, 'methods': found})}")
    if asked.methods == ",".join(METHODS):
        ratios = {method: round(row["ratio"], 1) for method, row in found.items()}
        PRINTED.write_text(json.dumps(ratios, indent=1) + "\n")


if __name__ == "__main__":
    main()
