"""A run that leaves two networks: each role is embedded, exported and scored, and a new run starts from both."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike import pretrain
from lookalike.api import evaluate
from lookalike.api.export import export
from lookalike.api.folder import RunFolder
from lookalike.api.sides import models_of_copies
from lookalike.api.sources import opened
from lookalike.api.start import start_pair
from lookalike.functional import random
from lookalike.modules import Descriptor, backbone, load_weights
from lookalike.recipes import build_encoder, build_method, load, view_size
from lookalike.training.progress import Line

ROLES = ["key", "query"]
TINY = ["epochs=1", "batch=8", "runtime.device=cpu", "views.size=16", "saving.check_space=false"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four images in two classes; one is a copy of another."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(24):
        place = folder / ("dark" if number % 2 else "light")
        place.mkdir(exist_ok=True)
        pixels = torch.randint(256, (16, 16, 3), generator=random.generator("role", number), dtype=torch.uint8)
        Image.fromarray((pixels // (1 + number % 2)).numpy()).save(place / f"{number}.png")
    shutil.copy(folder / "light" / "0.png", folder / "light" / "2.png")
    return folder


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("runs") / "qk"
    return pretrain(images, recipe="qk_iteration_small_smoke", overrides=TINY, out=out)


def test_each_role_has_a_file_and_gives_unit_rows(run) -> None:
    assert RunFolder(run.path).roles() == ROLES
    pixels = torch.randint(256, (3, 3, 16, 16), dtype=torch.uint8)
    query, key = (run.network(role)(pixels) for role in ("query", "key"))
    assert not torch.equal(query, key)
    for rows in (query, key):
        assert rows.shape == (3, 16)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    with pytest.raises(
        ValueError, match=r"holds no trained encoder \(it has key, query\): name one of these as --role"
    ):
        _ = run.encoder
    assert RunFolder(run.path).finished()


def test_the_log_says_what_is_reconstructed_lowered_and_next(run) -> None:
    log = (run.path / "log.txt").read_text()
    assert "qk_iteration: a reconstruction" in log
    assert "20 rounds are more than 1 epochs: lowered to 1" in log
    assert f"exact copies of other images: 1, for instance light{os.sep}2.png of light{os.sep}0.png" in log
    assert "data.merge_duplicates=true takes equal files for one, if that is not wanted" in " ".join(log.split())
    assert "among 24 training images: trained" in log
    assert f"lookalike evaluate {run.path} --data LABELLED --role query" in log


def test_copies_are_merged_where_that_is_asked_for(images: Path, tmp_path: Path, capsys) -> None:
    merge = "data.merge_duplicates=true"
    merged = pretrain(
        images, recipe="qk_iteration_small_smoke", overrides=[*TINY, merge], out=tmp_path / "run", quiet=False
    )
    told = (
        f"exact copies of other images: 1, for instance light{os.sep}2.png of light{os.sep}0.png: merged, each counts"
    )
    assert told in " ".join(capsys.readouterr().err.split())
    log = (merged.path / "log.txt").read_text()
    assert "23 images, run folder" in log
    assert "each counts as another image" not in log
    with Line(quiet=True) as line:
        source = opened(str(images), merged.recipe.data, line)  # as resume opens it
        assert source.identity() == merged.folder.manifest()["identity"]
        with pytest.raises(ValueError, match="merge_duplicates compares files, and these images are none"):
            opened([torch.zeros(3, 8, 8, dtype=torch.uint8)] * 2, merged.recipe.data, line)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_embedded(role: str, run, images: Path, tmp_path: Path) -> None:
    done = run.embed(images, tmp_path / "rows.npy", role=role)
    rows = np.load(done.path)
    first = torch.from_numpy(np.array(Image.open(images / "dark" / "1.png"))).permute(2, 0, 1)
    assert rows.shape == (24, 16)
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(rows[0]), run.network(role)(first[None])[0], atol=1e-5, rtol=0)


def test_a_role_is_exported_with_its_head(run, tmp_path: Path) -> None:
    done = export(run, to="safetensors", out=tmp_path / "query.safetensors", role="query")
    assert "Descriptor(encoder, layers)" in done.code
    space: dict = {"pixels": torch.zeros(2, 3, 16, 16, dtype=torch.uint8)}
    exec(done.code, space)
    assert torch.equal(space["features"], run.network("query")(space["pixels"]))
    with pytest.raises(ValueError, match="timm has no place for the head of the query network: use --to safetensors"):
        export(run, to="timm", out=tmp_path / "t.safetensors", role="query")


def test_an_encoder_takes_the_backbone_of_a_descriptor(run) -> None:
    encoder = backbone("resnet18_quarter", stem="small", image_size=16)
    load_weights(encoder, run.path / "key.safetensors")
    for name, value in run.network("key").encoder.state_dict().items():
        assert torch.equal(value, encoder.state_dict()[name])


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_scored(role: str, run, images: Path) -> None:
    report = evaluate(run.path, images, protocols="knn", role=role, references=False)
    assert report.best.protocol.features == f"{role} descriptor"
    assert 0 <= report.best.value <= 1


def test_copies_are_scored_by_the_descriptors_of_both_roles(run) -> None:
    trained, fresh, pixels, *_ = models_of_copies(RunFolder(run.path), references=True, others=[])
    assert [one.features for one in (trained, fresh, pixels)] == [
        "query and key descriptor",
        "query descriptor",
        "pixels",
    ]
    assert isinstance(trained.query, Descriptor)
    assert trained.query is not trained.reference


def test_both_sides_start_from_a_run_and_one_from_a_file(run, tmp_path: Path) -> None:
    recipe = load(str(run.path / "recipe.yaml"))

    def fresh():
        encoder = build_encoder(recipe.backbone, channels=3, size=view_size(recipe), seed=1)
        return build_method(recipe, encoder, 24, lambda note: None)

    method = fresh()
    start_pair(method, str(run.path))
    for role, network in method.exports().items():
        assert isinstance(network, Descriptor)
        theirs = run.network(role).state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in network.state_dict().items())
    other = load("simclr_small_smoke", TINY)
    encoder = build_encoder(other.backbone, channels=3, size=16, seed=1)
    simclr = build_method(other, encoder, 24, lambda note: None)
    with pytest.raises(ValueError, match=r"holds key, query, and this method learns encoder: start from one of them"):
        start_pair(simclr, str(run.path))
    shutil.copy(run.path / "query.safetensors", tmp_path / "query.safetensors")
    load_weights(encoder, tmp_path / "query.safetensors")
    assert torch.equal(encoder.body.conv1.weight, run.network("query").encoder.body.conv1.weight)


def test_a_new_run_starts_with_both_networks(run, images: Path, tmp_path: Path) -> None:
    """With a rate of next to nothing the weights stay where --init has put them."""
    still = [*TINY, "optimizer.rate=1e-12", "optimizer.weight_decay=0"]
    again = pretrain(
        images, recipe="qk_iteration_small_smoke", overrides=still, out=tmp_path / "run", init=str(run.path)
    )
    for role in ROLES:
        torch.testing.assert_close(again.network(role).head.state_dict(), run.network(role).head.state_dict())
