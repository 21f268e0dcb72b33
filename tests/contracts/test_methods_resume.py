"""Every method, stopped hard and resumed, equals its unbroken run to the bit: weights, queue, optimizer, losses."""

import json
from collections.abc import Sequence
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch
from PIL import Image

from contracts.small_world import Death, Killed
from lookalike import recipes
from lookalike.api.assembly import Job, assemble
from lookalike.api.folder import RunFolder
from lookalike.data import open_source
from lookalike.functional import random
from lookalike.recipes import build_encoder, load
from lookalike.training.checkpoint import Checkpoints
from lookalike.training.loop import train
from lookalike.training.progress import Line
from methods.records import records

METHODS = recipes.METHODS
SMALL = [
    "views.size=16",
    "batch=8",
    "epochs=4",
    "saving.log_every=1",
    "saving.every=3",
    "runtime.channels_last=false",
    "runtime.compile=false",
    "runtime.threads=1",
    "optimizer.warmup=1",
]
NARROW = {  # more changes to <method>_small, where a method needs them
    "moco": ["method.queue=24", "backbone.statistics=split:4"],
    "byol": ["method.predictor.hidden=32", "method.predictor.out=16"],
    "ascl": ["method.queue=24", "backbone.statistics=split:4"],
    "mochi": ["method.queue=24", "method.warmup=1.5", "method.skip_own=true", "backbone.statistics=split:4"],
    "ressl": ["method.queue=24", "backbone.statistics=split:4"],
    "sce": ["method.queue=24", "backbone.momentum_statistics=split:4"],
    "dino": ["method.prototypes=12", "method.teacher_temperature={start: 0.03, end: 0.04, epochs: 2}"],
    "relicv2": ["method.others=3", "method.small_views=[small/1]", "views.small=1", "views.masked=0.3"],
    "revisiting": [
        *("method.queue=24", "method.neighbors=3", "method.warmup=1.5", "backbone.statistics=split:4"),
        *("method.small_views=[small/1]", "views.small=1", "views.small_size=10"),
    ],
    "swav": ["method.prototypes=12", "method.queue=24", "method.queue_epoch=0.5", "method.frozen_steps=5"],
    "moco_v3": ["method.predictor.hidden=32", "method.predictor.out=16"],
    "nnclr": ["method.queue=24", "method.predictor.hidden=32", "method.predictor.out=16"],
    "simsiam": ["method.predictor.hidden=32", "method.predictor.out=16"],
    "interclr": [
        "method.queue=24",
        "method.clusters={count: 5, smallest: 6, recenter: 3}",
        "backbone.statistics=split:4",
    ],
    "pic": ["method.window=32", "method.shift=16", "method.recent=20", "method.classes.sampled=true"],
    **{method: list(record.narrow) for method, record in records().items()},
}
PER_EPOCH, STEPS = 8, 24  # 64 images in batches of 8; every death below leaves more than half of them to go
SHORT = ["epochs=3"]
# after the first step, within an epoch, the last of an epoch, the first of the next, and one drawn by lot
DEATHS = [1, 7, PER_EPOCH, PER_EPOCH + 1, 2 + int(torch.randint(9, (), generator=random.generator("death")))]
JOINED = ("sce", "instance_classifier")  # by default: with a queue, and with weights whose rows are dealt


def write_images(folder: Path) -> Path:
    """Sixty-four small images of noise, the same every time."""
    folder.mkdir()
    for number in range(64):
        pixels = torch.randint(256, (20, 24, 3), generator=random.generator("image", number), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
    rows = "".join(f"{number}.png,{number % 3}\n" for number in range(64))
    (folder.parent / "labels.csv").write_text("name,label\n" + rows)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "images")


def go(
    method: str,
    images: Path,
    folder: Path,
    *,
    precision: str = "bf16",
    workers: int = 0,
    die_after: int | None = None,
    more: Sequence[str] = (),
):
    """Trains from where the folder stands; the last checkpoint's tensors and the losses by step."""
    overrides = [*SMALL, *NARROW.get(method, []), f"runtime.precision={precision}", f"runtime.workers={workers}", *more]
    recipe = load(f"{method}_bench", [*overrides, "method.projector.hidden=32", "method.projector.out=16"])
    labels = (
        str(images.parent / "labels.csv") if METHODS[method].facts.unlabeled else None
    )  # for those that learn from them
    job = Job(folder=RunFolder(folder), recipe=recipe, source=open_source(str(images)), label_spec=labels)
    if not RunFolder(folder).begun():
        RunFolder(folder).begin(recipe, dict.fromkeys(("data", "images", "identity", "init", "labels", "versions")))
    with Line(quiet=True) as line:
        train(assemble(job, recipe, torch.device("cpu"), line, stop=Death(die_after)), recipe.epochs)
    checkpoint = Checkpoints(folder).load()
    assert checkpoint is not None
    return checkpoint.tensors, losses_of(folder)


def losses_of(folder: Path) -> dict[int, float]:
    """The loss of each step that the run in the folder has on record."""
    rows = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


@pytest.fixture(scope="module")
def unbroken(images: Path, tmp_path_factory: pytest.TempPathFactory):
    return cache(lambda method: go(method, images, tmp_path_factory.mktemp(method) / "run", more=SHORT))


def stops() -> list:
    """Every method with every stop and number of workers; by default MoCo's stops once each, and one of each other."""
    cases = []
    for number, method in enumerate(METHODS):
        for place, (after, workers) in enumerate(product(DEATHS, (0, 2))):
            quick = place % 4 in (0, 3) if method == "moco" else place == 3 * number % 10
            others = 2 - workers
            if quick and method != "moco":
                workers, others = min(workers, 1), min(others, 1)  # each takes seconds to begin
            cases.append(pytest.param(method, after, workers, others, marks=[] if quick else pytest.mark.slow))
    return cases


@pytest.mark.parametrize(("method", "after", "workers", "others"), stops())
def test_stopped_hard_and_resumed(
    method: str, after: int, workers: int, others: int, images: Path, tmp_path: Path, unbroken
) -> None:
    with pytest.raises(Killed):
        go(method, images, tmp_path / "run", workers=workers, die_after=after, more=SHORT)
    tensors, losses = go(method, images, tmp_path / "run", workers=others, more=SHORT)  # other workers than before
    expected, expected_losses = unbroken(method)
    assert len(losses) == STEPS
    assert losses == expected_losses
    assert tensors.keys() == expected.keys()
    assert any(name.startswith("optimizer/") for name in tensors)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, expected[name]), name


def test_patches_that_never_learn_are_those_of_the_start_after_a_resume(images: Path, tmp_path: Path) -> None:
    more = ["backbone.name=vit_tiny_patch16_224", "backbone.stem=imagenet", "backbone.fixed_patches=true", "epochs=1"]
    with pytest.raises(Killed):
        go("moco_v3", images, tmp_path / "run", die_after=5, more=more)
    tensors, losses = go("moco_v3", images, tmp_path / "run", more=more)
    expected, expected_losses = go("moco_v3", images, tmp_path / "whole", more=more)
    assert losses == expected_losses
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())
    recipe = load("moco_v3_bench", [*SMALL, *more])
    start = build_encoder(recipe.backbone, channels=3, size=16, seed=recipe.seed).state_dict()
    for fixed in ("body.pos_embed", "body.patch_embed.proj.weight", "body.patch_embed.proj.bias"):
        found = [tensor for name, tensor in tensors.items() if name.endswith(fixed)]
        assert len(found) == 2  # of the encoder and its momentum encoder, and nothing of an optimizer
        assert all(torch.equal(tensor, start[fixed]) for tensor in found)
    learned = [tensor for name, tensor in tensors.items() if name.endswith("encoder.body.blocks.0.mlp.fc1.weight")]
    assert not any(torch.equal(tensor, start["body.blocks.0.mlp.fc1.weight"]) for tensor in learned)


@pytest.mark.parametrize("method", [m if m in JOINED else pytest.param(m, marks=pytest.mark.slow) for m in METHODS])
def test_saved_with_one_process_resumed_with_two(method: str, images: Path, tmp_path: Path, gloo) -> None:
    _, expected = go(method, images, tmp_path / "whole", precision="fp64", more=SHORT)
    with pytest.raises(Killed):
        go(method, images, tmp_path / "run", precision="fp64", die_after=9, more=SHORT)
    for _, losses in gloo.run(2, go_fp64, method, images, tmp_path / "run"):
        assert len(losses) == STEPS
        assert losses == pytest.approx(expected, abs=1e-9)


def go_fp64(method: str, images: Path, folder: Path):
    return go(method, images, folder, precision="fp64", more=SHORT)
