"""Side by side with lightly, in one run: views, decoding, and training of a ResNet-18 at 32 pixels.

    pip install lightly
    python benchmarks/peers.py [--seconds 8] [--rounds 3] [--only views,train]

Views of both end as normalized floats. Both libraries take turns, `rounds` times; a ratio is that of the medians, and
the spread of the pairs stands beside it. "bare" is forward and backward of the same network without views or loss: what
the hardware gives at most. Views and decoding use one thread, training all of them.
Writes benchmarks/results/peers-<date>.json.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lookalike.api.assembly import Job, assemble, settle
from lookalike.data import decode, open_source
from lookalike.modules import Encoder, backbone
from lookalike.recipes import load
from lookalike.training.loop import Stopped, train
from lookalike.training.progress import Line
from lookalike.transforms import Views, simclr
from machine import save

try:
    import lightly
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
except ImportError:
    raise SystemExit("lightly is not installed: pip install lightly") from None

Work = Callable[[], int]  # does a piece of work, and says how many images or views it was
Rate = Callable[[float], float]  # pieces per second, measured for so many seconds


def photo(number: int, height: int, width: int) -> Image.Image:
    """Noise of amplitude 1 / f^1.5 in each channel: as a JPEG it takes about 45 KiB at 375 x 500, as photographs do."""
    generator = np.random.default_rng(number)
    noise = np.fft.rfft2(generator.normal(size=(3, height, width)))
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.maximum(np.hypot(rows, columns), 1 / max(height, width))
    smooth = np.fft.irfft2(noise / frequency**1.5, s=(height, width))
    low, high = np.percentile(smooth, [1, 99])
    levels = np.clip((smooth - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    return Image.fromarray(levels.transpose(1, 2, 0))


def jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def rate(work: Work) -> Rate:
    """Pieces per second, the first call left out."""

    def measure(seconds: float) -> float:
        work()
        done, start = 0, time.perf_counter()
        while (took := time.perf_counter() - start) < seconds:
            done += work()
        return done / took

    return measure


def paired(ours: Rate, theirs: Rate, seconds: float, rounds: int) -> dict[str, object]:
    """Rates of both, taking turns."""
    rows = [(ours(seconds), theirs(seconds)) for _ in range(rounds)]
    mine, others = zip(*rows, strict=True)
    ratios = [a / b for a, b in rows]
    return {
        "lookalike": statistics.median(mine),
        "lightly": statistics.median(others),
        "ratio": statistics.median(mine) / statistics.median(others),
        "pairs": [min(ratios), max(ratios)],
    }


def view_work(size: int, images: list[Image.Image], blur: bool, strength: float) -> tuple[Rate, Rate]:
    views, index = Views(simclr(size, strength=strength, blur=blur)), torch.arange(len(images))
    pixels, epochs = [tensor(image) for image in images], iter(range(10**9))
    encoder = network()
    theirs = SimCLRTransform(input_size=size, cj_strength=strength, gaussian_blur=0.5 if blur else 0.0)

    def mine() -> int:
        drawn = views.render(pixels, views.draw(index, seed=0, epoch=(0, next(epochs))))
        return sum(normalized(encoder, x) for x in drawn.values())

    def peer() -> int:
        return sum(len(theirs(image)) for image in images)

    return rate(mine), rate(peer)


def normalized(encoder: Encoder, pixels: Tensor) -> int:
    """How many images: they become normalized floats, as our encoder makes them first and lightly's transform last.

    A few at a time, as they lie in the cache.
    """
    scale, shift = 1 / (255 * encoder.std), encoder.mean / encoder.std
    parts = [part.float().mul_(scale).sub_(shift) for part in pixels.split(max(1, 200_000 // pixels[0].numel()))]
    return sum(map(len, parts))


def decode_work(files: list[bytes]) -> tuple[Rate, Rate]:
    """From the bytes of a file to two views at 224 pixels."""
    views, index, epochs = Views(simclr(224)), torch.arange(len(files)), iter(range(10**9))
    encoder = network()
    theirs = SimCLRTransform(input_size=224)

    def mine() -> int:
        images = [decode(file) for file in files]
        for x in views.render(images, views.draw(index, seed=0, epoch=(0, next(epochs)))).values():
            normalized(encoder, x)
        return len(files)

    def peer() -> int:
        for file in files:
            theirs(Image.open(io.BytesIO(file)).convert("RGB"))
        return len(files)

    return rate(mine), rate(peer)


def our_training(images: list[Tensor], batch: int, precision: str) -> Rate:
    """The library's own loop on the recipe of SimCLR for small images: steps until the time is over."""
    changes = [f"batch={batch}", f"runtime.precision={precision}", "epochs=1e6", "optimizer.warmup=0"]
    recipe = load("simclr_small", [*changes, "backbone.name=resnet18", "views.size=32", "runtime.compile=false"])
    source = open_source(images)

    def steps(seconds: float) -> float:
        with Line(quiet=True) as line:
            job = Job(folder=None, recipe=recipe, source=source)
            whole = settle(job, torch.device("cpu"), line)
            clock = Until(seconds)
            with suppress(Stopped):
                train(assemble(job, whole, torch.device("cpu"), line, stop=clock), whole.epochs)
        return batch * clock.steps / clock.took

    return steps


class Until:
    """Stops training when the time is over, the first step left out."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.start, self.steps, self.took = seconds, 0.0, -1, 0.0

    def __call__(self) -> bool:
        self.steps += 1
        if self.steps == 0:
            self.start = time.perf_counter()
        self.took = time.perf_counter() - self.start
        return self.took >= self.seconds


def their_training(images: list[Image.Image], batch: int) -> Rate:
    """lightly's SimCLR example: its transform and head, a torch loader, fp32."""
    transform = SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0.0)

    class Set(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> list[Tensor]:
            return transform(images[index])

    loader = torch.utils.data.DataLoader(Set(), batch_size=batch, shuffle=True, drop_last=True)
    batches: Iterator[list[Tensor]] = cycle_over(loader)
    net, projector, criterion = network().body, SimCLRProjectionHead(512, 512, 128), NTXentLoss(temperature=0.5)
    optimizer = torch.optim.AdamW([*net.parameters(), *projector.parameters()], lr=3e-3, weight_decay=0.05)

    def step() -> int:
        one, two = next(batches)
        loss = criterion(projector(net(one)), projector(net(two)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return batch

    return rate(step)


def bare(batch: int, precision: str) -> Rate:
    """Forward and backward of both views' pixels, nothing else."""
    net = network().to(memory_format=torch.channels_last)
    x = torch.rand(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)

    def step() -> int:
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                total = net(x).float().square().mean()
            total.backward()
        return batch

    return rate(step)


def network() -> Encoder:
    torch.manual_seed(0)
    return backbone("resnet18", stem="small")


def cycle_over(loader: torch.utils.data.DataLoader) -> Iterator[list[Tensor]]:
    for _ in cycle([None]):
        yield from loader


def measured(asked: argparse.Namespace, threads: int) -> dict[str, object]:
    results: dict[str, object] = {}

    def pair(name: str, rates: tuple[Rate, Rate]) -> None:
        results[name] = row = paired(*rates, asked.seconds, asked.rounds)
        print(f"{name:32} {row['lookalike']:10,.1f} {row['lightly']:10,.1f}   {row['ratio']:.2f} x", flush=True)

    small, large = [photo(n, 32, 32) for n in range(512)], [photo(n, 375, 500) for n in range(24)]
    if "views" in asked.only:
        torch.set_num_threads(1)
        pair("views 32 px, no blur", view_work(32, small, blur=False, strength=0.5))
        pair("views 224 px", view_work(224, large, blur=True, strength=1.0))
        pair("JPEG to two views 224 px", decode_work([jpeg(image) for image in large]))
    if "train" in asked.only:
        torch.set_num_threads(threads)
        pixels = [tensor(image) for image in small]
        for precision in ("auto", "fp32"):
            pair(f"training {precision}", (our_training(pixels, 64, precision), their_training(small, 64)))
        for precision in ("bf16", "fp32"):
            results[f"bare {precision}"] = top = bare(64, precision)(asked.seconds)
            print(f"bare {precision:27} {top:10,.1f}", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="per library, case and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="views,train")
    asked = parser.parse_args()
    threads = torch.get_num_threads()
    print(f"{'per second':32} {'lookalike':>10} {'lightly':>10}")
    body = {"unit": "views or images per second", "lightly": lightly.__version__, "threads of training": threads}
    print(f"written: {save('peers', {**body, 'cases': measured(asked, threads)})}")


if __name__ == "__main__":
    main()
