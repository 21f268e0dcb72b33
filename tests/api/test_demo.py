"""The demo: digits on the disk, a picture of neighbors, and the story told again from a run that is there."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike.api import demo as tell
from lookalike.api import pretrain
from lookalike.api.demo import write_digits
from lookalike.api.picture import Rows, draw
from lookalike.cli import main
from lookalike.data import labelled
from lookalike.recipes import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("demo") / "digits")


def test_digits_are_split_by_class_and_the_same_each_time(folder, tmp_path):
    halves = labelled(folder, channels=1)
    assert (len(halves.train), len(halves.test), len(halves.classes)) == (1433, 364, 10)
    shares = torch.bincount(halves.test.labels) / torch.bincount(halves.train.labels)
    assert ((shares > 0.24) & (shares < 0.27)).all()
    again = write_digits(tmp_path)
    assert all(path.read_bytes() == (again / path.relative_to(folder)).read_bytes() for path in folder.rglob("*.png"))
    assert halves.train.read(0).shape == (1, 32, 32)
    assert halves.train.read(0).float().std() > 40  # ink and paper


def test_the_recipe_is_for_gray_signs():
    recipe = load("demo")
    assert recipe.data.channels == 1
    assert recipe.views.kind == "digits"


def test_the_story_of_a_run_that_is_there(folder, capsys):
    run = folder.parent / "run"
    pretrain(folder / "train", recipe="demo", out=run, overrides=["epochs=1", "views.size=8"])
    assert main(["demo", "--out", str(folder.parent)]) == 0
    said = capsys.readouterr()
    assert f"{run} has finished" in said.err
    lines = said.out.splitlines()
    assert lines[-1].startswith("knn ")
    assert "1433/364 images, 1 epoch, seed 0" in lines[-1]
    assert [line.split(":")[0] for line in lines[-4:-1]] == ["next"] * 3
    with Image.open(folder.parent / "neighbors.png") as picture:
        assert picture.width > picture.height > 500
    before, after = re.findall(r"(\d+) (?:show the digit that was asked for before|after it)", said.out)
    assert 0 <= int(before) <= 48
    assert 0 <= int(after) <= 48
    assert all(f" {name} " in said.out for name in ("trained", "random weights", "raw pixels"))


def test_neighbors_of_another_class_are_framed(tmp_path):
    paper = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    rows = paper[:, None].repeat(1, 3, 1, 1, 1)
    same = torch.ones(2, 3, dtype=torch.bool)
    draw(tmp_path / "right.png", Rows(paper, rows, same), Rows(paper, rows, same))
    wrong = same.clone()
    wrong[0, 1] = False
    draw(tmp_path / "wrong.png", Rows(paper, rows, wrong), Rows(paper, rows, same))
    assert red(tmp_path / "right.png") == 0
    framed = red(tmp_path / "wrong.png")
    wrong[1] = False
    draw(tmp_path / "wrong.png", Rows(paper, rows, wrong), Rows(paper, rows, same))
    assert 3.9 * framed < red(tmp_path / "wrong.png") < 4.1 * framed


@pytest.mark.parametrize("missing", ["sklearn", "matplotlib"])
def test_what_is_missing_is_named_before_anything_is_written(tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError, match=rf"the demo needs {missing}: pip install 'lookalike\[demo\]'"):
        tell(tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


def red(path: Path) -> int:
    """Pixels that are clearly red."""
    with Image.open(path) as picture:
        colors = np.asarray(picture.convert("RGB")).astype(int)
    return int(((colors[..., 0] - colors[..., 1] > 80) & (colors[..., 0] - colors[..., 2] > 80)).sum())
