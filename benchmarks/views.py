"""Views per second on one thread, at 32 and 224 pixels: python benchmarks/views.py [--seconds 5]

Prints a table and writes benchmarks/results/views-<date>.json. Each rate is of draw and render together, over whole
batches of random pixels. "cpu" counts the processor time of this process alone, so other work on the machine weighs
less on it than on "best" and "median", which are by the clock.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor

from lookalike.transforms import Chain, Views, byol_pair, moco_v2, sce_weak_strong, simclr
from machine import save


def cases() -> dict[str, tuple[dict[str, Chain], list[Tensor]]]:
    """Name -> (plan, images): CIFAR's size as planes, ImageNet's interleaved, as decoders give them."""
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8, generator=generator)
    large = torch.randint(0, 256, (24, 281, 375, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)
    return {
        "simclr 32 px, no blur": (simclr(32, strength=0.5, blur=False), list(small)),
        "sce weak and strong 32 px": (sce_weak_strong(32), list(small)),
        "simclr 224 px": (simclr(224), list(large)),
        "moco v2 224 px": (moco_v2(224), list(large)),
        "byol pair 224 px": (byol_pair(224), list(large)),
    }


def rates(plan: dict[str, Chain], images: list[Tensor], seconds: float) -> dict[str, float]:
    """Views per second of one batch after another, the first left out."""
    views, index = Views(plan), torch.arange(len(images))
    clock, cpu = [], []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(clock) < 4:
        start, used = time.perf_counter(), time.process_time()
        views.render(images, views.draw(index, seed=0, epoch=(0, len(clock))))
        clock.append(len(plan) * len(images) / (time.perf_counter() - start))
        cpu.append(len(plan) * len(images) / (time.process_time() - used))
    return {
        "best": max(clock[1:]),
        "median": statistics.median(clock[1:]),
        "cpu": statistics.median(cpu[1:]),
        "batches": len(clock) - 1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="per case")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    measured = {}
    for name, (plan, images) in cases().items():
        row = measured[name] = rates(plan, images, seconds)
        print(f"{name:28}" + "".join(f"{key:>10} {row[key]:8,.0f}" for key in ("best", "median", "cpu")))
    print(f"written: {save('views', {'unit': 'views per second', 'cases': measured})}")


if __name__ == "__main__":
    main()
