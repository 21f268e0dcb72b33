"""The small bench beside lightly: the same images, network, widths of heads, optimizer, schedule and k-NN for both.

    pip install lightly
    python benchmarks/peer_quality.py IMAGES OUT [--methods simclr,moco,byol] [--seconds 20] [--rounds 3]

IMAGES and OUT are those of quality.py, whose runs in OUT are ours. lightly is its transforms with the parameters of our
views, its heads, losses, memory bank and momentum update, put together as its examples do, in a plain torch loop; MoCo
has eight groups of batch statistics by its SplitBatchNorm, as its CIFAR-10 benchmark has. Both choose from the same
learning rates by the same held-out images. For the scores lightly computes in bf16 and channels_last, as we do, which
saves time. Its speed is measured in fp32, its default, and in bf16, with the loader's default of no workers and with
two, taking turns with ours, with images decoded beforehand. What is in OUT is not run again.
Writes benchmarks/results/peer-quality-<date>.json; what an earlier part of the day wrote stays.
"""

import argparse
import copy
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from lightly.models.batchnorm import SplitBatchNorm
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead, MoCoProjectionHead, SimCLRProjectionHead
from lightly.models.utils import batch_shuffle, batch_unshuffle, deactivate_requires_grad, update_momentum
from lightly.transforms import SimCLRTransform
from lightly.utils.scheduler import cosine_schedule
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from lookalike.api.assembly import Job, assemble, settle
from lookalike.data import Folder, labels, open_source
from lookalike.evaluation import PROTOCOLS, extract, knn
from lookalike.modules import Encoder, backbone
from lookalike.recipes import load
from lookalike.training.loop import Stopped, train
from lookalike.training.progress import Line
from lookalike.transforms import Views, eval_chain
from machine import RESULTS, save
from peers import Rate, Until, cycle_over, paired, rate, tensor
from quality import BENCH, split

RATES = BENCH["bench"]["rates"]
BATCH, EPOCHS = BENCH["bench"]["batch"], BENCH["bench"]["epochs"]
PAIR = SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0.0)
MOCO_PAIR = SimCLRTransform(input_size=32, cj_bright=0.4, cj_contrast=0.4, cj_sat=0.4, cj_hue=0.1, gaussian_blur=0.0)
Loss = Callable[[Tensor, Tensor, float], Tensor]  # of two views, and how much of training is over


class SimCLR(nn.Module):
    transform = PAIR

    def __init__(self) -> None:
        super().__init__()
        self.encoder = network()
        self.projector, self.criterion = SimCLRProjectionHead(128, 256, 128), NTXentLoss(temperature=0.2)

    def forward(self, one: Tensor, two: Tensor, done: float) -> Tensor:
        return self.criterion(*(self.projector(self.encoder.body(x)).float() for x in (one, two)))


class MoCo(nn.Module):
    transform = MOCO_PAIR

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.projector = in_groups(network(), 8), MoCoProjectionHead(128, 256, 128)
        self.slow_encoder, self.slow_projector = copy.deepcopy(self.encoder), copy.deepcopy(self.projector)
        deactivate_requires_grad(self.slow_encoder)
        deactivate_requires_grad(self.slow_projector)
        self.criterion = NTXentLoss(temperature=0.1, memory_bank_size=(4096, 128))

    def forward(self, one: Tensor, two: Tensor, done: float) -> Tensor:
        update_momentum(self.encoder, self.slow_encoder, 0.99)
        update_momentum(self.projector, self.slow_projector, 0.99)
        return self.one_way(one, two) + self.one_way(two, one)

    def one_way(self, query: Tensor, key: Tensor) -> Tensor:
        q = self.projector(self.encoder.body(query)).float()
        with torch.no_grad():
            mixed, order = batch_shuffle(key)
            k = batch_unshuffle(self.slow_projector(self.slow_encoder.body(mixed)).float(), order)
        return self.criterion(q, k)


class BYOL(nn.Module):
    transform = PAIR

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.projector = network(), BYOLProjectionHead(128, 512, 128)
        self.predictor, self.criterion = BYOLPredictionHead(128, 512, 128), NegativeCosineSimilarity()
        self.slow_encoder, self.slow_projector = copy.deepcopy(self.encoder), copy.deepcopy(self.projector)
        deactivate_requires_grad(self.slow_encoder)
        deactivate_requires_grad(self.slow_projector)

    def forward(self, one: Tensor, two: Tensor, done: float) -> Tensor:
        momentum = cosine_schedule(round(1000 * done), 1001, 0.97, 1)
        update_momentum(self.encoder, self.slow_encoder, momentum)
        update_momentum(self.projector, self.slow_projector, momentum)
        p = [self.predictor(self.projector(self.encoder.body(x))).float() for x in (one, two)]
        with torch.no_grad():
            z = [self.slow_projector(self.slow_encoder.body(x)).float() for x in (one, two)]
        return self.criterion(p[0], z[1]) + self.criterion(p[1], z[0])


METHODS: dict[str, type[nn.Module]] = {"simclr": SimCLR, "moco": MoCo, "byol": BYOL}


def network() -> Encoder:
    return backbone("resnet18_quarter", stem="small", zero_init_last=False)


def in_groups(encoder: Encoder, groups: int) -> Encoder:
    """The encoder with lightly's SplitBatchNorm in place of every BatchNorm2d."""
    for name, layer in list(encoder.named_modules()):
        if isinstance(layer, nn.BatchNorm2d):
            encoder.set_submodule(name, SplitBatchNorm(layer.num_features, groups))
    return encoder


class Set(torch.utils.data.Dataset):
    """Decoded images and a transform."""

    def __init__(self, images: list[Image.Image], transform: Callable) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.transform(self.images[index])


def steps(
    method: str, images: list[Image.Image], learning_rate: float, seed: int, precision: str, workers: int = 0
) -> Iterator[nn.Module]:
    """lightly's method after each step of the bench."""
    torch.manual_seed(seed)
    model = METHODS[method]()
    layout = torch.contiguous_format if method == "moco" else torch.channels_last  # SplitBatchNorm refuses the latter
    if precision == "bf16":
        model.to(memory_format=layout)
    loader = torch.utils.data.DataLoader(
        Set(images, model.transform),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    learning = [p for p in model.parameters() if p.requires_grad]
    flat, rest = [p for p in learning if p.ndim < 2], [p for p in learning if p.ndim >= 2]
    groups = [{"params": flat, "weight_decay": 0.0}, {"params": rest}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, weight_decay=BENCH["bench"]["weight_decay"])
    total, first = EPOCHS * len(loader), BENCH["bench"]["warmup"] * len(loader)
    batches = cycle_over(loader)
    for step in range(total):
        part = (step + 1) / first if step < first else (1 + math.cos(math.pi * (step - first) / (total - first))) / 2
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * part
        one, two = next(batches)
        if precision == "bf16":
            one, two = (x.contiguous(memory_format=layout) for x in (one, two))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(one, two, step / total)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield model


def scores(encoder: Encoder, train_folder: Path, test_folder: Path) -> dict[str, float]:
    """k-NN in percent by our protocols, as `lookalike evaluate` computes it."""
    rows = []
    for folder in (train_folder, test_folder):
        source = Folder(folder)
        views, (numbers, _) = Views({"center": eval_chain(32)}), labels(source, "folders")
        batches = (
            (
                index,
                views.render([source.read(i) for i in index.tolist()], views.draw(index, seed=0, epoch=(0, 0)))[
                    "center"
                ],
            )
            for index in torch.arange(len(source)).split(256)
        )
        rows += [extract(encoder, batches).rows, numbers]
    return {f"k={k}": 100 * knn(*rows, k=k, temperature=t).accuracy for k, t in PROTOCOLS}


def once(method: str, learning_rate: float, seed: int, out: Path, images: Callable[[], list[Image.Image]]) -> dict:
    """lightly's run, unless OUT has it."""
    folder = out / "lightly" / f"{method}-{learning_rate:g}-{seed}"
    entry = folder / "entry.json"
    if entry.exists():
        return json.loads(entry.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    (model,) = deque(steps(method, images(), learning_rate, seed, "bf16"), maxlen=1)
    encoder = model.encoder.eval()
    save_file({name: x.contiguous() for name, x in encoder.state_dict().items()}, folder / "encoder.safetensors")
    found = {
        "rate": learning_rate,
        "seed": seed,
        "seconds": round(time.perf_counter() - start),
        "held_out": scores(encoder, out / "probe/train", out / "probe/test"),
        "test": scores(encoder, out / "final/train", out / "final/test"),
    }
    entry.write_text(json.dumps(found))
    print("lightly", method, found, flush=True)
    return found


def ours(method: str, learning_rate: float, seed: int, out: Path) -> dict:
    """The run of quality.py: its held-out and, once it has them, its test scores."""
    folder = out / "runs" / f"{method}-{learning_rate:g}-{seed}"
    held = json.loads((folder / "entry.json").read_text())["held_out"]
    final = folder / "final.json"
    test = json.loads(final.read_text())["trained"] if final.exists() else []

    def percent(found: list[dict]) -> dict[str, float]:
        return {f"k={one['k']}": 100 * one["value"] for one in found}

    return {"rate": learning_rate, "seed": seed, "held_out": percent(held), "test": percent(test)}


def best(trials: list[dict]) -> dict:
    return max(trials, key=lambda one: one["held_out"]["k=200"])


def our_rate(method: str, images: list[Tensor]) -> Rate:
    """Images per second of our loop on the recipe of the bench."""
    recipe, source = load(f"{method}_bench", ["epochs=1000"]), open_source(images)

    def measure(seconds: float) -> float:
        with Line(quiet=True) as line:
            job, place = Job(folder=None, recipe=recipe, source=source), torch.device("cpu")
            whole, clock = settle(job, place, line), Until(seconds)
            with suppress(Stopped):
                train(assemble(job, whole, place, line, stop=clock), whole.epochs)
        return whole.batch * clock.steps / clock.took

    return measure


def their_rate(method: str, images: list[Image.Image], precision: str, workers: int) -> Rate:
    running: list[Iterator[nn.Module]] = []

    def step() -> int:
        if not running:  # its workers start with the first step, which is not counted
            running.append(steps(method, images, 2e-3, 0, precision, workers))
        next(running[0])
        return BATCH

    return rate(step)


def speed(method: str, out: Path, seconds: float, rounds: int) -> dict:
    """Images per second of both, by lightly's precision and number of workers."""
    pictures = pil(out)
    pixels = [tensor(image) for image in pictures]
    found = {}
    for precision in ("fp32", "bf16"):
        for workers in (0, 2):
            row = paired(our_rate(method, pixels), their_rate(method, pictures, precision, workers), seconds, rounds)
            found[f"{precision}, {workers} workers"] = row | {"share of wall time": 1 / row["ratio"]}
            print(method, precision, workers, found[f"{precision}, {workers} workers"], flush=True)
    return found


def pil(out: Path) -> list[Image.Image]:
    return [Image.open(file).convert("RGB") for file in sorted((out / "train").glob("*/*"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="quality,speed")
    asked = parser.parse_args()
    split(asked.images, asked.out)
    for method in asked.methods.split(","):
        found = {}
        if "quality" in asked.only:
            found |= quality(method, [int(seed) for seed in asked.seeds.split(",")], asked.out)
        if "speed" in asked.only:
            found["images per second"] = speed(method, asked.out, asked.seconds, asked.rounds)
        print(f"written: {keep(method, found)}")


def quality(method: str, seeds: list[int], out: Path) -> dict:
    """Trials of the learning rates, and the runs at the chosen ones."""
    images = lambda: pil(out)  # noqa: E731
    trials = [once(method, r, 0, out, images) for r in RATES]
    mine = [ours(method, r, 0, out) for r in RATES]
    theirs = [once(method, best(trials)["rate"], seed, out, images) for seed in seeds]
    chosen = {"lightly": theirs, "lookalike": [ours(method, best(mine)["rate"], seed, out) for seed in seeds]}
    return {"trials": {"lightly": trials, "lookalike": mine}, "chosen": chosen}


def keep(method: str, found: dict) -> Path:
    """The results file, with what was found about a method beside what it held today."""
    path = RESULTS / f"peer-quality-{datetime.now(UTC).date()}.json"
    methods = json.loads(path.read_text())["methods"] if path.exists() else {}
    methods[method] = methods.get(method, {}) | found
    return save("peer-quality", {"bench": BENCH, "lightly": version("lightly"), "methods": methods})


if __name__ == "__main__":
    main()
