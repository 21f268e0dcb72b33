"""Collapse: thirteen ways to spoil training, each to be named within 200 steps, and eleven runs to be left alone.

    python benchmarks/collapse.py            # one thread; writes benchmarks/results/collapse-<date>.json

Each case is a run of 512 made-up patterns of 16 pixels: recipe, views, loop and probes are the library's, the network
is a tiny one. What no recipe can spoil (a stop-gradient, a queue that is never fed) is spoiled in the method. Two of
the thirteen are refused before the first step: a single image, and fewer images than a batch.
"""

import argparse
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lookalike.api import pretrain
from lookalike.api.assembly import Job, assemble
from lookalike.api.closing import recognition
from lookalike.api.folder import RunFolder
from lookalike.api.probes import readings_of
from lookalike.data import open_source
from lookalike.functional import unit
from lookalike.functional.collectives import global_mean
from lookalike.functional.schedules import Constant
from lookalike.methods.byol import BYOL
from lookalike.methods.method import Batch, Method, Progress, Step
from lookalike.methods.moco import MoCo
from lookalike.methods.simclr import SimCLR
from lookalike.modules import Encoder
from lookalike.recipes import build_method, load
from lookalike.training.loop import NonFinite, Stopped, train
from lookalike.training.metrics import Metrics
from lookalike.training.progress import Line
from machine import save

LIMIT, HEALTHY_STEPS, BATCH, IMAGES = 200, 300, 32, 512
TINY = (
    "views.size=12",
    "optimizer.warmup=1",
    "saving.log_every=1",
    "method.projector.hidden=64",
    "method.projector.out=64",
    "runtime={device: cpu, precision: fp32, channels_last: false, compile: false, workers: 0, threads: 1}",
)
SMALLER = {
    "simclr": (),
    "moco": ("method.queue=256", "backbone.statistics=global", "method.symmetric=false"),
    "sce": ("method.queue=256", "backbone.momentum_statistics=same"),
    "byol": ("method.predictor.hidden=64", "method.predictor.out=64"),
}


def small(norm: bool) -> Encoder:
    """Two convolutions, with or without BatchNorm: uint8 pixels to 64 numbers."""
    layers = [nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32) if norm else nn.Identity(), nn.ReLU()]
    layers += [nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64) if norm else nn.Identity(), nn.ReLU()]
    return Encoder(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 64, mean=[0.5] * 3, std=[0.5] * 3)


class BothSides(BYOL):
    """BYOL with the gradient on both sides, and neither predictor nor target."""

    def forward(self, batch: Batch) -> Step:
        h = {view: self.encoder(x) for view, x in batch.views.items()}
        z = {view: self.projector(rows) for view, rows in h.items()}
        one, two = z.values()
        return Step(loss=global_mean((unit(one) - unit(two)).square().sum(1)), features=h, projections=z)


class Unfed(MoCo):
    """MoCo whose queue keeps the random rows that it began with."""

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        return


class Mispaired(SimCLR):
    """SimCLR that takes another image's view for the second one."""

    def forward(self, batch: Batch) -> Step:
        one, two = batch.views
        return super().forward(replace(batch, views={one: batch.views[one], two: batch.views[two].roll(1, 0)}))


class Unchanged(SimCLR):
    """SimCLR that sees the same view twice."""

    def forward(self, batch: Batch) -> Step:
        one, two = batch.views
        return super().forward(replace(batch, views={one: batch.views[one], two: batch.views[one]}))


def both_sides(method: Method) -> Method:
    assert isinstance(method, BYOL)
    return BothSides(method.encoder, method.projector, method.predictor)


def without_predictor(method: Method) -> Method:
    assert isinstance(method, BYOL)
    return BYOL(method.encoder, method.projector, nn.Identity(), momentum=Constant(0.0))


def unfed(method: Method) -> Method:
    assert isinstance(method, MoCo)
    return Unfed(method.encoder, method.projector, method.queue, temperature=method.temperature)


def mispaired(method: Method) -> Method:
    assert isinstance(method, SimCLR)
    return Mispaired(method.encoder, method.projector, temperature=method.temperature)


def unchanged(method: Method) -> Method:
    assert isinstance(method, SimCLR)
    return Unchanged(method.encoder, method.projector, temperature=method.temperature)


def patterns(folder: Path, count: int = IMAGES, first: int = 0) -> None:
    """Waves of two directions in two colors on a third, other ones for each number."""
    y, x = np.mgrid[0:16, 0:16] / 16
    for number in range(first, first + count):
        draw = np.random.default_rng(number)
        ground, *colors = draw.uniform(0, 255, (3, 3))
        pixels = np.broadcast_to(ground, (16, 16, 3))
        for color, turn, phase, pace in zip(
            colors, draw.uniform(0, 2 * np.pi, 2), draw.uniform(0, 6, 2), draw.uniform(6, 30, 2), strict=True
        ):
            wave = np.sin(pace * (x * np.cos(turn) + y * np.sin(turn)) + phase)
            pixels = pixels + (1 + wave[..., None]) / 2 * (color - ground)
        Image.fromarray(np.uint8(np.clip(pixels, 0, 255))).save(folder / f"{number:04}.png")


def copies(folder: Path) -> None:
    """One pattern, again and again."""
    patterns(folder, 1)
    for number in range(1, IMAGES):
        shutil.copyfile(folder / "0000.png", folder / f"{number:04}.png")


def gray(folder: Path) -> None:
    """Images of one color, all the same."""
    for number in range(IMAGES):
        Image.fromarray(np.full((16, 16, 3), 128, dtype=np.uint8)).save(folder / f"{number:04}.png")


@dataclass(frozen=True)
class Case:
    """A run: its method, changes to the recipe, images, what is spoiled; `says`: one of these must be in the alarm."""

    name: str
    method: str
    says: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    images: Callable[[Path], None] = patterns
    spoil: Callable[[Method], Method] = lambda method: method
    norm: bool = True
    batch: int = BATCH


ALIKE, FLAT, UNIFORM = "have collapsed: all images look alike", "to a few dimensions", "The loss stays at"
ABOVE, ZERO, BROKEN_STEPS = "far above", "are told apart without effort", "were NaN or infinite in 3 steps in a row"
BROKEN = (
    # x 100 does not do it: AdamW with momentum keys, like BatchNorm, bears that
    Case("learning rate x 1000", "moco", (ALIKE, UNIFORM, BROKEN_STEPS), ("optimizer.rate=3",), norm=False),
    Case("no stop-gradient", "byol", (ALIKE,), spoil=both_sides),
    Case("neither predictor nor momentum", "byol", (ALIKE,), spoil=without_predictor),
    Case("temperature near 0", "simclr", (ABOVE, BROKEN_STEPS), ("method.temperature=0.0001",)),
    Case("temperature of 100", "simclr", (UNIFORM,), ("method.temperature=100",)),
    Case("images of one color", "simclr", (ALIKE, UNIFORM), images=gray),
    Case("copies of one image", "simclr", (ALIKE, UNIFORM), images=copies),
    Case("one image", "simclr", ("one image is not enough",), images=partial(patterns, count=1)),
    Case("fewer images than a batch", "simclr", ("larger than the 31 images",), images=partial(patterns, count=31)),
    Case("a queue that is never fed", "moco", (ALIKE, ZERO), spoil=unfed),
    Case("weight decay of 100", "moco", (ALIKE, UNIFORM), ("optimizer.weight_decay=100",), norm=False),
    Case("views of different images", "simclr", (UNIFORM,), spoil=mispaired),
    Case("the same view twice", "simclr", (ZERO,), ("method.temperature=0.02",), spoil=unchanged),
)
SGD = "optimizer={kind: sgd, rate: 0.06, momentum: 0.9, warmup: 1}"
HEALTHY = (
    *(Case(f"{m}, seed {s}", m, changes=(f"seed={s}",)) for m in ("simclr", "moco", "byol", "sce") for s in (0, 1)),
    Case("simclr, temperature 0.5, SGD", "simclr", changes=("method.temperature=0.5", SGD)),
    Case("moco, no BatchNorm", "moco", norm=False),
    Case("sce, two thirds relations", "sce", changes=("method.coefficient=0.33",)),
)


@dataclass(frozen=True)
class Outcome:
    """What was said first, after how many steps (None: nothing); readings, first and last; seconds.

    recognized: share of the patterns known by another view, of the trained network and of random weights.
    """

    said: str
    step: int | None
    losses: tuple[float, ...]
    uniform: float | None
    spread: tuple[float, ...]
    recognized: Mapping[str, float]
    seconds: float


def run(case: Case, steps: int, *, to_the_end: bool = False) -> Outcome:
    """Trains at most `steps` steps, until something is named unless `to_the_end`."""
    start = time.perf_counter()
    with TemporaryDirectory(prefix="collapse-") as text:
        images, folder = Path(text) / "images", RunFolder(Path(text) / "run")
        images.mkdir()
        case.images(images)
        length = (f"batch={case.batch}", f"epochs={steps / (IMAGES // case.batch)}")
        asked = (*TINY, *SMALLER[case.method], *length, *case.changes)
        said, step, recognized = "", None, {}
        try:
            if len(list(images.iterdir())) < BATCH:
                pretrain(images, recipe=f"{case.method}_bench", overrides=asked, out=folder.path)
            else:
                recognized = trained(case, images, folder, asked, to_the_end)
        except (ValueError, NonFinite) as error:
            said, step = str(error), 0
        rows = Metrics(folder.metrics).rows()
    step = rows[-1]["step"] if step == 0 and rows else step
    for row in rows:
        if not said and "collapse" in row:
            said, step = row["collapse"], row["step"]
    seen = readings_of(rows)
    ends = (seen[0], seen[-1]) if seen else ()
    losses, spread = tuple(r.loss for r in ends if r.loss is not None), tuple(r.spread for r in ends)
    uniform = seen[-1].uniform if seen else None
    return Outcome(said, step, losses, uniform, spread, recognized, time.perf_counter() - start)


def trained(
    case: Case, images: Path, folder: RunFolder, asked: tuple[str, ...], to_the_end: bool
) -> Mapping[str, float]:
    """What `pretrain` does, with the small network and a spoiled method."""
    recipe, source = load(f"{case.method}_bench", asked), open_source(images)
    folder.begin(recipe, dict.fromkeys(("data", "images", "identity", "init", "labels", "versions")))
    with Line(quiet=True) as line:
        job = Job(folder=folder, recipe=recipe, source=source)
        cast = assemble(job, recipe, torch.device("cpu"), line, lambda: False)
        torch.manual_seed(recipe.seed)
        cast.method = case.spoil(build_method(recipe, small(case.norm), len(source), line.say))
        cast.stop = lambda: not to_the_end and bool(cast.probes[0].named)
        with suppress(Stopped):
            train(cast, recipe.epochs)
        if not to_the_end:
            return {}
        view = cast.method.plan(1.0)[-1].reads[0]
        sides = 2 * [(cast.method.encoder, view)]
        return recognition(sides, cast.streams, seed=0, device=torch.device("cpu"), line=line)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    start, found = time.perf_counter(), {"broken": [], "healthy": []}
    for case in BROKEN:
        outcome = run(case, LIMIT)
        fine = outcome.step is not None and outcome.step <= LIMIT and any(words in outcome.said for words in case.says)
        found["broken"].append({"case": case.name, "method": case.method, "named": fine, **asdict(outcome)})
        print("named" if fine else "MISSED", case.name, outcome.step, outcome.said, flush=True)
    for case in HEALTHY:
        outcome = run(case, HEALTHY_STEPS, to_the_end=True)
        found["healthy"].append(
            {"case": case.name, "method": case.method, "alarm": bool(outcome.said), **asdict(outcome)}
        )
        print("ALARM" if outcome.said else "quiet", case.name, asdict(outcome), flush=True)
    counts = {
        "named": sum(row["named"] for row in found["broken"]),
        "of": len(BROKEN),
        "alarms": sum(row["alarm"] for row in found["healthy"]),
        "in healthy runs": len(HEALTHY),
    }
    print(counts, save("collapse", {"counts": counts, "seconds": time.perf_counter() - start, **found}))


if __name__ == "__main__":
    main()
