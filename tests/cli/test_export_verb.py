"""lookalike export: files and the lines that load them; what is wrong is one sentence, and nothing is written."""

import errno
import os
import sys
from pathlib import Path

import pytest
import torch
from command import lookalike, mistake

from lookalike.api import Run
from lookalike.data import open_source


@pytest.fixture(scope="module")
def exported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file for timm, and what the verb said."""
    out = tmp_path_factory.mktemp("there") / "a.safetensors"
    said = lookalike("export", finished, "--to", "timm", "--out", out)
    assert said.code == 0, said.err
    return out, said.out


@pytest.fixture
def disk_is_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)


def test_the_verb_tells_the_files_the_comparison_and_how_to_load_them(exported, finished):
    out, said = exported
    first, second, third, *code = said.splitlines()
    assert first == f"wrote {out}, {out}.md, {out.with_suffix('.config.json')}"
    assert second == "compared with the run on 16 generated images: features differ by 0 at most"
    assert third.startswith("load it like this. timm builds resnet18 otherwise")
    encoder = Run(finished).encoder
    names: dict = {"pixels": torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)}
    with torch.no_grad():
        exec("\n".join(line.removeprefix("    ") for line in code), names)
        assert torch.equal(names["features"], encoder(names["pixels"]))


def test_without_out_the_file_lies_in_the_run_which_stays_finished(own_run):
    said = lookalike("export", own_run, "--to", "timm")
    assert said.code == 0, said.err
    assert sorted(path.name for path in (own_run / "export").iterdir()) == [
        "encoder.timm.config.json",
        "encoder.timm.safetensors",
        "encoder.timm.safetensors.md",
    ]
    assert Run(own_run).folder.finished()
    assert lookalike("export", own_run, "--to", "safetensors").code == 0
    again = mistake("export", own_run, "--to", "safetensors")
    assert again.startswith(f"{own_run}/export/encoder.safetensors is there already: add --force to replace it")
    assert lookalike("export", own_run, "--to", "safetensors", "--force").code == 0


def test_it_is_compared_on_images_of_the_user(finished, photos):
    said = lookalike("export", finished, "--to", "timm", "--out", "a.safetensors", "--data", photos)
    assert said.code == 0, said.err
    assert "on 16 images: features differ" in said.out
    few = Path("few")
    few.mkdir()
    for number in range(3):
        (few / f"{number}.png").write_bytes((photos / f"{number:03}.png").read_bytes() if number else b"no image")
    assert len(open_source(few)) == 3
    said = lookalike("export", finished, "--to", "timm", "--out", "b.safetensors", "--data", few)
    assert "on 2 images: features differ" in said.out
    for path in few.iterdir():
        path.write_bytes(b"no image")
    text = mistake("export", finished, "--to", "timm", "--out", "c.safetensors", "--data", few)
    assert text == "none of the first 16 images of few can be read: name other images with --data"


def test_runs_that_cannot_be_exported(finished, unfinished, own_run):
    assert mistake("export", "nowhere", "--to", "timm").startswith("nowhere is not a run: it has no recipe.yaml")
    text = mistake("export", unfinished, "--to", "timm")
    assert "holds no trained encoder (training has not finished): go on with lookalike pretrain --resume" in text
    text = mistake("export", finished, "--to", "timm", "--role", "key", "--out", "a.safetensors")
    assert text == f"{finished} holds no trained key (it has encoder): name one of these as --role"


def test_targets_that_do_not_exist(finished):
    text = mistake("export", finished, "--to", "onx", "--out", "a.onnx")
    assert text.startswith("there is no export to 'onx'; the nearest is 'onnx', all: safetensors, timm, torch")
    assert "the nearest is 'onnx'" in mistake("export", finished, "--to", "ONNX")
    text = mistake("export", finished, "--to", "torchvision", "--out", "a.safetensors")
    assert text.startswith("torchvision builds no resnet18_quarter with these names of weights: use --to timm")
    text = mistake("export", finished, "--to", "torch", "--pixels", "int8", "--out", "a.pt2")
    assert text == "there are no pixels 'int8': give uint8, or float in [0, 1]"
    assert "missing option" in mistake("export", finished)


def test_places_that_cannot_be_written(exported, finished, own_run, disk_is_read_only):
    out, _ = exported
    before = out.read_bytes()
    assert mistake("export", finished, "--to", "timm", "--out", out) == (
        f"{out} is there already: add --force to replace it, or choose another --out"
    )
    text = mistake("export", finished, "--to", "timm", "--out", "lost/a.safetensors")
    assert text == "there is no folder lost for --out lost/a.safetensors: make it, or choose another"
    text = mistake("export", finished, "--to", "timm", "--out", "a.bin")
    assert text.startswith("--out a.bin does not end in .safetensors, as files for timm do")
    text = mistake("export", own_run, "--to", "timm", "--out", own_run / "encoder.safetensors", "--force")
    assert "would lie among the files of the run itself: omit --out" in text
    text = mistake("export", finished, "--to", "timm", "--out", out, "--force")
    assert "Read-only file system; write to another folder" in text
    assert out.read_bytes() == before
    assert list(Path().iterdir()) == [own_run.relative_to(Path.cwd())]  # nothing was left behind


def test_packages_that_are_missing(finished, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    text = mistake("export", finished, "--to", "onnx", "--out", "a.onnx")
    assert text == "ONNX needs the package onnxruntime: pip install 'lookalike[export]'"
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    text = mistake("export", finished, "--to", "timm", "--out", "a.safetensors", "--push", "me/photos")
    assert text == "--push needs the package huggingface_hub: pip install 'lookalike[hub]'"
    text = mistake("export", finished, "--to", "timm", "--out", "a.safetensors", "--push", "photos")
    assert text == "--push takes owner/name of a model on the Hub, and 'photos' was given"
    assert not Path("a.safetensors").exists()
