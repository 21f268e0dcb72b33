"""How cost grows: time per image with the number of images, memory with queue and batch, memory over 10,000 steps.

    python benchmarks/growth.py [--seconds 10]

Each point is a process of its own and about 60 steps: the quarter-width ResNet-18 on 32 pixels of noise, SimCLR (MoCo
where a queue grows) at batch 128; decoding and the start are apart. The leak test trains at 8 pixels and reads resident
memory and open files as it goes. Writes benchmarks/results/growth-<date>.json and .png.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from machine import RESULTS, save

IMAGES = [1_000, 3_000, 10_000, 30_000, 60_000]
QUEUES = [1_024, 4_096, 16_384, 65_536, 262_144]
BATCHES = [32, 64, 128, 256, 512]
LEAK_STEPS, READ_EVERY = 10_000, 250
PLAIN = ("runtime={device: cpu, precision: bf16, channels_last: true, compile: false, workers: 0}", "epochs=1e6")


def noise(images: int, size: int) -> torch.utils.data.Dataset:
    """Decoded images, as a data set in memory."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 3, size, size), generator=generator, dtype=torch.uint8)

    class Noise(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return images

        def __getitem__(self, index: int) -> torch.Tensor:
            return pixels[index]

    return Noise()


class Clock:
    """Ends training when the time or the steps are over; the first steps, which also warm up, are not timed."""

    def __init__(self, seconds: float, steps: int) -> None:
        self.seconds, self.most, self.steps, self.start, self.read = (
            seconds,
            steps,
            0,
            0.0,
            list[tuple[int, int, int]](),
        )

    def __call__(self) -> bool:
        self.steps += 1
        now = time.perf_counter()
        self.start = now if self.steps == 3 else self.start
        self.took = now - self.start
        if self.steps % READ_EVERY == 0:
            self.read.append((self.steps, resident(), len(os.listdir("/proc/self/fd"))))
        return self.steps >= self.most or (self.steps > 3 and self.took >= self.seconds)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def point(recipe: str, overrides: list[str], images: int, seconds: float, steps: int, size: int = 32) -> dict:
    """Trains as said, in this process."""
    from lookalike.api.assembly import Job, assemble, settle
    from lookalike.data import open_source
    from lookalike.recipes import load
    from lookalike.training.loop import Stopped, train
    from lookalike.training.progress import Line

    start = time.perf_counter()
    settled, source, clock = load(recipe, [*PLAIN, *overrides]), open_source(noise(images, size)), Clock(seconds, steps)
    with Line(quiet=True) as line, suppress(Stopped):
        job, device = Job(folder=None, recipe=settled, source=source), torch.device("cpu")
        cast = assemble(job, settle(job, device, line), device, line, stop=clock)
        ready = time.perf_counter() - start
        train(cast, settled.epochs)
    return {
        "microseconds_per_image": 1e6 * clock.took / (clock.steps - 3) / settled.batch,
        "start_seconds": ready,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "steps": clock.steps,
        "read": clock.read,
    }


def apart(*words: object) -> dict:
    """`point` in a process of its own."""
    code = f"import json, growth; print(json.dumps(growth.point(*{words!r})))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def measured(seconds: float) -> dict:
    rows: dict[str, list[dict]] = {"images": [], "queue": [], "batch": []}
    for count in IMAGES:
        rows["images"].append({"images": count, **apart("simclr_bench", [], count, seconds, 10**6)})
        print(rows["images"][-1], flush=True)
    for queue in QUEUES:  # the queue takes at most half of the images
        words = [f"method.queue={queue}", "method.symmetric=false"]
        rows["queue"].append({"queue": queue, **apart("moco_bench", words, 2 * max(QUEUES), 0, 8, 4)})
        print(rows["queue"][-1], flush=True)
    for batch in BATCHES:
        rows["batch"].append({"batch": batch, **apart("simclr_bench", [f"batch={batch}"], 10_000, 0, 8)})
        print(rows["batch"][-1], flush=True)
    return rows


def leak() -> dict:
    """Bytes a step by a straight line through the second half of the readings; open files at both ends."""
    words = [
        "runtime.threads=1",
        "views.size=8",
        "batch=8",
        "method.projector.hidden=16",
        "method.projector.out=16",
        "method.queue=64",
    ]
    read = apart("moco_bench", [*words, "backbone.statistics=global"], 256, 10**6, LEAK_STEPS, 8)["read"]
    half = np.array(read[len(read) // 2 :], dtype=float)
    slope = float(np.polyfit(half[:, 0], half[:, 1], 1)[0])
    return {"steps": LEAK_STEPS, "bytes_per_step": slope, "open_files": [read[0][2], read[-1][2]], "read": read}


def draw(rows: dict, leaked: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6.5), layout="constrained")
    plots = (
        (axes[0, 0], "images", "microseconds_per_image", "images", "microseconds per image"),
        (axes[0, 1], "queue", "peak_megabytes", "rows of the queue", "peak memory, MB"),
        (axes[1, 0], "batch", "peak_megabytes", "images per batch", "peak memory, MB"),
    )
    for axis, name, value, across, up in plots:
        places, heights = [row[name] for row in rows[name]], [row[value] for row in rows[name]]
        axis.plot(places, heights, "o-")
        axis.set(xlabel=across, ylabel=up, xscale="log", ylim=(0, 1.15 * max(heights)))
        axis.set_xticks(places, [f"{place:,}" for place in places])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    resident_megabytes = [r[1] / 2**20 for r in leaked["read"]]
    axes[1, 1].plot([r[0] for r in leaked["read"]], resident_megabytes)
    axes[1, 1].set(xlabel="step", ylabel="resident memory, MB", ylim=(0, 1.15 * max(resident_megabytes)))
    axes[1, 1].set_title(f"{leaked['bytes_per_step']:.0f} bytes a step", fontsize=10)
    axes[1, 1].grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each number of images")
    asked = parser.parse_args()
    rows, leaked = measured(asked.seconds), leak()
    print({name: value for name, value in leaked.items() if name != "read"})
    path = save("growth", {**rows, "leak": leaked})
    draw(rows, leaked, RESULTS / f"{path.stem}.png")
    print(f"written: {path} and {path.stem}.png")


if __name__ == "__main__":
    main()
