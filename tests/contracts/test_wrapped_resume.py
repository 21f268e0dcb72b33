"""Methods with rotation and curation keep the contract: resumed to the bit, and untouched where nothing is asked."""

from pathlib import Path

import pytest
import torch

from contracts.small_world import Killed
from contracts.test_methods_resume import NARROW, SMALL, go, write_images
from lookalike.functional import random
from lookalike.methods.method import Batch
from lookalike.recipes import METHODS, RecipeError, asked_for, build_encoder, build_method, load
from methods.fixtures import Redraws, progress

ROTATION = "with.rotation={weight: 0.5}"
VIEWS = "with.curation={criterion: worst, threshold: 0.3, tries: 2}"
IMAGES = "with.curation={threshold: 0.3, tries: 2, redraw: images, pairs: true, warmup: 0.5}"
CASES = {"simclr": IMAGES, "moco": IMAGES, "byol": VIEWS, "swav": VIEWS}
SLOW = ("simclr", "byol")
SHORT = "epochs=1.5"  # twelve steps of eight images


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "images")


@pytest.mark.parametrize("method", [pytest.param(m, marks=[pytest.mark.slow] if m in SLOW else []) for m in CASES])
def test_stopped_hard_and_resumed(method: str, images: Path, tmp_path: Path) -> None:
    more = [SHORT, ROTATION, CASES[method]]
    expected, losses = go(method, images, tmp_path / "whole", more=more)
    with pytest.raises(Killed):
        go(method, images, tmp_path / "run", workers=2, die_after=8, more=more)
    tensors, resumed = go(method, images, tmp_path / "run", more=more)
    assert resumed == losses
    assert len(losses) == 12
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, expected[name]), name
    judged, accepted = expected["method/counts"].tolist()
    assert judged > accepted > 0
    assert (int(expected["method/cursor"]) > 0) == (CASES[method] == IMAGES)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["moco", "swav"])
def test_saved_with_one_process_resumed_with_two(method: str, images: Path, tmp_path: Path, gloo) -> None:
    _, expected = go_wrapped(method, images, tmp_path / "whole")
    with pytest.raises(Killed):
        go_wrapped(method, images, tmp_path / "run", die_after=5)
    for _, losses in gloo.run(2, go_wrapped, method, images, tmp_path / "run"):
        assert losses == pytest.approx(expected, abs=1e-9)


def go_wrapped(method: str, images: Path, folder: Path, die_after: int | None = None):
    return go(method, images, folder, precision="fp64", die_after=die_after, more=["epochs=1", ROTATION, CASES[method]])


def test_what_asks_for_nothing_trains_as_the_method_alone(images: Path, tmp_path: Path) -> None:
    """A weight of 0 and no threshold: the same losses, weights, queue and optimizer, to the bit."""
    nothing = ["with.rotation={weight: 0}", "with.curation={threshold: null}"]
    tensors, losses = go("moco", images, tmp_path / "alone", more=["epochs=1"])
    found, same = go("moco", images, tmp_path / "wrapped", more=["epochs=1", *nothing])
    assert same == losses
    renamed = {name.replace("method.method.", ""): tensor for name, tensor in found.items()}
    for name, tensor in tensors.items():
        assert torch.equal(renamed[name], tensor), name
    extra = renamed.keys() - tensors.keys()
    assert all("tasks.rotation" in name or name in ("method/cursor", "method/counts") for name in extra)


def test_a_pair_of_networks_takes_no_tasks() -> None:
    recipe = load("qk_iteration_bench", [*SMALL, *asked_for("rotation")])
    with pytest.raises(RecipeError, match="QKIteration has no 'encoder' among query, key, bank: leave the task out"):
        build_method(recipe, build_encoder(recipe.backbone, channels=3, size=16, seed=0), 64, lambda note: None)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "qk_iteration"])
def test_every_method_takes_a_step_with_rotation(method: str) -> None:
    overrides = [*SMALL, *NARROW.get(method, []), "method.projector.hidden=32", "method.projector.out=16"]
    recipe = load(f"{method}_bench", [*overrides, *asked_for("rotation")])
    encoder = build_encoder(recipe.backbone, channels=3, size=16, seed=0)
    wrapped = build_method(recipe, encoder, 64, lambda note: None)
    (reads,) = {phase.reads for phase in wrapped.plan(4.0)}
    generator, rows = random.generator("step"), torch.arange(8)
    pixels = torch.randint(256, (len(reads), 8, 3, 16, 16), generator=generator, dtype=torch.uint8)
    moment = progress(updated=True, rate=0.1)
    wrapped.before_update(moment)
    step = wrapped(
        Batch(
            views=dict(zip(reads, pixels, strict=True)),
            index=rows,
            position=rows,
            progress=moment,
            redraw=Redraws(),
            labels=rows % 3,
        )
    )
    step.loss.backward()
    wrapped.after_update(moment, {name: kept.detach() for name, kept in step.keep.items()})
    assert 0 <= step.metrics["rotation_accuracy"] <= 1
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in wrapped.tasks.parameters())
    assert torch.isfinite(step.loss)
