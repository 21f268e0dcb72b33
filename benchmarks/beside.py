"""The small bench beside lightly: the same images, network, widths of heads, optimizer, schedule and judge for both.

    pip install lightly
    python benchmarks/beside.py IMAGES OUT [--methods swav,dcl] [--rates 0.003] [--seeds 0] [--only check,quality,speed]

IMAGES and OUT are those of quality.py, whose newest result files have our runs: they are read, and not made. lightly's
methods are those of peer_methods.py in a plain torch loop. Both choose among learning rates by the same held-out
images; the chosen runs are scored by k-NN and the linear probe, by the code of `lookalike evaluate`. What is in OUT is
not run again, nor with --on-record what the newest result file holds of lightly's.

    check     the loss on the same random rows beside ours, and whether it falls in the first steps
    quality   trials and chosen runs; lightly computes in bf16 and channels_last, as we do, which saves time
    speed     images per second, taking turns in one process, with as many threads as torch is given: lightly in fp32,
              its default, and in bf16, with the loader's default of no workers and with two; images are decoded before

SwAV and DINO are timed as they are after their first epochs, when prototypes learn.
Writes benchmarks/results/beside-<date>.json; what an earlier part wrote stays.
"""

import argparse
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from lookalike.api.assembly import Job, assemble, settle
from lookalike.api.models import Scored
from lookalike.api.prepared import Prepared
from lookalike.api.protocols import PROBES, Exam
from lookalike.data import labelled, open_source
from lookalike.modules import Encoder
from lookalike.recipes import load
from lookalike.training.loop import Stopped, train
from lookalike.training.progress import Line
from machine import methods_of, revision, save
from peer_losses import compared
from peer_methods import METHODS, Moment, Peer
from peers import Rate, Until, cycle_over, paired, rate, tensor
from quality import BENCH, Key, on_record, split, title, untested

RATES, SEEDS = BENCH["bench"]["rates"], [0]
BATCH, EPOCHS, WARMUP = (BENCH["bench"][name] for name in ("batch", "epochs", "warmup"))
SETTLED = {  # our recipes as they are after their first epochs, for the speed; lightly begins in the epoch LATER
    "swav": ["method.frozen_steps=0"],
    "dino": ["method.frozen_epochs=0"],
}
LATER = 3
Percent = dict[str, float]


class Set(torch.utils.data.Dataset):
    """Decoded images and a transform."""

    def __init__(self, images: list[Image.Image], transform: Callable) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.transform(self.images[index])


def optimizer(model: Peer, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW of the bench, which decays what has two dimensions or more; groups know whether their rate is steady."""
    parts: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parts.setdefault((name.partition(".")[0] in model.steady, parameter.ndim >= 2), []).append(parameter)
    decay = BENCH["bench"]["weight_decay"]
    groups = [
        {"params": params, "steady": steady, "weight_decay": decay * decays}
        for (steady, decays), params in parts.items()
    ]
    return torch.optim.AdamW(groups, lr=learning_rate)


def steps(
    method: str,
    images: list[Image.Image],
    learning_rate: float,
    seed: int,
    precision: str,
    *,
    workers: int = 0,
    epoch: int = 0,
) -> Iterator[tuple[Peer, Tensor]]:
    """lightly's method and its loss after each step of the bench, from an epoch on."""
    torch.manual_seed(seed)
    model, half = METHODS[method](), precision == "bf16"
    if half:
        model.to(memory_format=model.layout)
    loader = torch.utils.data.DataLoader(
        Set(images, model.transform),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    update, batches = optimizer(model, learning_rate), cycle_over(loader)
    total, first = EPOCHS * len(loader), WARMUP * len(loader)
    for step in range(epoch * len(loader), total):
        part = (step + 1) / first if step < first else (1 + math.cos(math.pi * (step - first) / (total - first))) / 2
        for group in update.param_groups:
            group["lr"] = learning_rate * (1 if group["steady"] else part)
        at, views = Moment(step, total, len(loader)), next(batches)
        model.begin(at)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            rows = model(*(x.contiguous(memory_format=model.layout) if half else x for x in views))
        loss = model.loss(*(x.float() for x in rows))
        update.zero_grad()
        loss.backward()
        model.limit(at)
        update.step()
        yield model, loss.detach()


def once(method: str, learning_rate: float, seed: int, out: Path) -> dict:
    """lightly's run and its held-out score, unless OUT has it."""
    folder = place(method, learning_rate, seed, out)
    entry = folder / "entry.json"
    if entry.exists():
        return json.loads(entry.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    ((model, loss),) = deque(steps(method, pil(out), learning_rate, seed, "bf16"), maxlen=1)
    seconds = time.perf_counter() - start
    encoder = model.judged.eval()
    save_file({name: x.contiguous() for name, x in encoder.state_dict().items()}, folder / "encoder.safetensors")
    found = {
        "rate": learning_rate,
        "seed": seed,
        "seconds": round(seconds, 1),
        "loss": float(loss),
        "held_out": scores(encoder, out / "probe", ["knn"]),
        "revision": revision(),
    }
    entry.write_text(json.dumps(found))
    print("lightly", method, found, flush=True)
    return found


def place(method: str, learning_rate: float, seed: int, out: Path) -> Path:
    return out / "beside" / f"{method}-{learning_rate:g}-{seed}"


def final(method: str, run: dict, out: Path) -> dict:
    """lightly's run with its test scores, computed once."""
    folder = place(method, run["rate"], run["seed"], out)
    entry = folder / "final.json"
    if not entry.exists():
        encoder = METHODS[method]().judged
        encoder.load_state_dict(load_file(folder / "encoder.safetensors"))
        entry.write_text(json.dumps(scores(encoder.eval(), out / "final", ["knn", "linear"])))
    return run | {"test": json.loads(entry.read_text())}


def scores(encoder: Encoder, data: Path, protocols: list[str]) -> Percent:
    """In percent, by the code that judges our runs."""
    halves = labelled(data)
    with Line(quiet=True) as line:
        train_images, test_images = (Prepared(half, line, 0.0) for half in (halves.train, halves.test))
        exam = Exam(
            model=Scored(name="trained", module=encoder, size=32),
            train=train_images,
            test=test_images,
            classes=len(halves.classes),
            device=torch.device("cpu"),
            line=line,
        )
        return percent([score.as_dict() for name in protocols for score in PROBES[name](exam)])


def percent(found: list[dict]) -> Percent:
    return {title(one): round(100 * one["value"], 2) for one in found}


def ours(method: str, rates: list[float]) -> tuple[list[dict], list[dict]]:
    """Our trials at these rates and our runs at the best of them, in percent; nothing where none is on record."""
    found = methods_of("quality").get(method) or methods_of("methods").get(method) or {}
    runs = [in_percent(run) for run in on_record(found).values() if run["rate"] in rates]
    trials = [untested(run) for run in runs if run["seed"] == 0]
    chosen = best(trials)["rate"] if trials else None
    return trials, [run for run in runs if run["rate"] == chosen and "test" in run]


def in_percent(run: dict) -> dict:
    kept = {name: run[name] for name in ("method", "rate", "seed", "seconds", "loss", "revision")}
    kept["held_out"] = percent(run["held_out"])
    if "test" in run:
        kept["test"] = {name: round(100 * value, 2) for name, value in run["test"]["trained"].items()}
    return kept


def best(trials: list[dict]) -> dict:
    return max(trials, key=lambda one: one["held_out"]["k=200"])


def quality(method: str, rates: list[float], seeds: list[int], out: Path, known: Mapping[Key, dict]) -> dict:
    """Trials of the learning rates, and the runs at the chosen ones; known: lightly's that are not run again."""
    trials = [known.get((learning_rate, 0)) or once(method, learning_rate, 0, out) for learning_rate in rates]
    chosen = best(trials)["rate"]
    runs = [known.get((chosen, seed), {}) for seed in seeds]
    runs = [
        run if "test" in run else final(method, once(method, chosen, seed, out), out)
        for run, seed in zip(runs, seeds, strict=True)
    ]
    mine = ours(method, rates)
    tried = {"lightly": [untested(trial) for trial in trials], "lookalike": mine[0]}
    found = {"trials": tried, "chosen": {"lightly": runs, "lookalike": mine[1]}}
    print(method, {who: [(run["rate"], run["test"]) for run in each] for who, each in found["chosen"].items()})
    return found


def recorded(method: str) -> dict[Key, dict]:
    """lightly's runs in the newest result file, by rate and seed."""
    found = methods_of("beside").get(method, {}).get("quality")
    return on_record({"trials": found["trials"]["lightly"], "runs": found["chosen"]["lightly"]}) if found else {}


def check(method: str, out: Path) -> dict:
    """The loss on random rows beside ours, and in the first epochs on a few images, in bf16 at the rate 0.003."""
    images, few = pil(out), 4 * BATCH  # an epoch is four steps
    images = images[:: max(1, len(images) // few)][:few]  # of all classes
    losses = [float(loss) for _, loss in islice(steps(method, images, 3e-3, 0, "bf16"), 16)]
    found = {"on the same rows": compared(method), "first steps": losses, "falls": sum(losses[-4:]) < sum(losses[:4])}
    print(method, found, flush=True)
    return found


def our_rate(method: str, images: list[Tensor]) -> Rate:
    """Images per second of our loop on the recipe of the bench."""
    recipe, source = load(f"{method}_bench", ["epochs=1000", *SETTLED.get(method, [])]), open_source(images)

    def measure(seconds: float) -> float:
        with Line(quiet=True) as line:
            job, device = Job(folder=None, recipe=recipe, source=source), torch.device("cpu")
            whole, clock = settle(job, device, line), Until(seconds)
            with suppress(Stopped):
                train(assemble(job, whole, device, line, stop=clock), whole.epochs)
        return whole.batch * clock.steps / clock.took

    return measure


def their_rate(method: str, images: list[Image.Image], precision: str, workers: int) -> Rate:
    running: list[Iterator[tuple[Peer, Tensor]]] = []

    def step() -> int:
        if not running:  # its workers start with the first step, which is not counted
            running.append(steps(method, images, 2e-3, 0, precision, workers=workers, epoch=LATER))
        next(running[0])
        return BATCH

    return rate(step)


def speed(method: str, out: Path, asked: argparse.Namespace) -> dict:
    """Images per second of both, by lightly's precision and number of workers."""
    pictures, found = pil(out), {"threads": torch.get_num_threads()}
    pixels = [tensor(image) for image in pictures]
    for precision in asked.precisions.split(","):
        for workers in map(int, asked.workers.split(",")):
            rates = our_rate(method, pixels), their_rate(method, pictures, precision, workers)
            row = paired(*rates, asked.seconds, asked.rounds)
            case = f"lightly {precision}, {workers} workers"
            found[case] = row | {"share of wall time": 1 / row["ratio"]}
            print(method, case, found[case], flush=True)
    return found


def pil(out: Path) -> list[Image.Image]:
    return [Image.open(file).convert("RGB") for file in sorted((out / "train").glob("*/*"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--rates", default=",".join(map(str, RATES)))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--on-record", action="store_true")
    parser.add_argument("--only", default="check,quality,speed")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the speed, for each library, case and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--workers", default="0,2")
    asked = parser.parse_args()
    split(asked.images, asked.out)
    rates, seeds = [float(one) for one in asked.rates.split(",")], [int(one) for one in asked.seeds.split(",")]
    parts: dict[str, Callable[[str], dict]] = {
        "check": lambda method: check(method, asked.out),
        "quality": lambda method: quality(method, rates, seeds, asked.out, recorded(method) if asked.on_record else {}),
        "speed": lambda method: speed(method, asked.out, asked),
    }
    for method in asked.methods.split(","):
        for part in asked.only.split(","):
            print(f"written: {keep(method, part, parts[part](method))}", flush=True)


def keep(method: str, part: str, found: dict) -> Path:
    """The results file, with what was found about a method beside what the last one held."""
    methods = methods_of("beside")
    methods[method] = methods.get(method, {}) | {part: found}
    return save("beside", {"bench": BENCH, "lightly": version("lightly"), "methods": methods})


if __name__ == "__main__":
    main()
