"""The examples of docs/data.md run: in a folder that holds what they name, with a recipe that takes a second."""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sources import REPOSITORY
from typer.main import get_command

import lookalike
from lookalike.cli.shell import application

sys.path[:0] = [str(REPOSITORY / "tests" / folder) for folder in ("cli", "data")]

from command import lookalike as command  # noqa: E402
from command import write_images  # noqa: E402
from tars import write_tar  # noqa: E402

GUIDE = (REPOSITORY / "docs" / "data.md").read_text()
TINY = ("--recipe", "simclr_small_smoke")
FAR = ("hf:", "https://")  # needs the network: only understood


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.+?)^```", GUIDE, re.MULTILINE | re.DOTALL)


LINES = [line for block in blocks("bash") for line in block.splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples name: photos/, list.txt, photos.tar, shards/, uris.txt, saved/."""
    import fsspec

    root = tmp_path_factory.mktemp("guide")
    photos = sorted(write_images(root / "photos", 20).iterdir())
    (root / "list.txt").write_text("".join(f"photos/{photo.name}\n" for photo in photos))
    write_tar(root / "photos.tar", {f"./{photo.name}": photo.read_bytes() for photo in photos})
    store = fsspec.filesystem("memory")
    for number in range(2):
        half = photos[number::2]
        contents = {photo.name: photo.read_bytes() for photo in half}
        contents |= {f"{photo.stem}.cls": b"%d" % (int(photo.stem) % 3) for photo in half}
        shard = write_tar(root / "shards" / f"s-{number:04}.tar", contents)
        store.pipe(f"/bucket/{shard.name}", shard.read_bytes())
    (root / "uris.txt").write_text("".join(f"{photo.as_uri()}\n" for photo in photos))
    return root


@pytest.fixture(scope="module")
def saved(place: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the package datasets: pip install 'lookalike[hub]'")
    datasets.disable_progress_bars()
    photos = sorted((place / "photos").iterdir())
    columns = {
        "image": [{"bytes": photo.read_bytes(), "path": None} for photo in photos],
        "label": [number % 2 for number in range(len(photos))],
    }
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"]))
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(place / "saved")


@pytest.mark.parametrize("line", LINES)
def test_a_shell_line_runs(line, place, request, monkeypatch):
    words = shlex.split(line)
    assert words[:2] == ["lookalike", "pretrain"]
    if any(word.startswith(FAR) for word in words):
        get_command(application()).commands["pretrain"].make_context("pretrain", words[2:]).close()
        return
    if "saved/" in words:
        request.getfixturevalue("saved")
    monkeypatch.chdir(place)
    short = ("--out", f"labeled-{LINES.index(line)}") if "--labels" in words else ("--dry-run",)
    said = command(*words[1:], *TINY, *short)
    assert said.code == 0, said.err


@pytest.mark.parametrize("example", blocks("python"), ids=lambda block: block.split("\n\n")[-1].splitlines()[0])
def test_a_python_example_runs(example, place, request, monkeypatch, tmp_path, capsys):
    if "saved/" in example:
        request.getfixturevalue("saved")
    monkeypatch.chdir(place)
    monkeypatch.setattr(lookalike, "pretrain", quick(lookalike.pretrain), raising=False)
    exec(example, {})


def quick(pretrain: Callable) -> Callable:
    """pretrain with the smallest recipe, whatever else is asked for."""

    def called(data: Any, **options: Any) -> Any:
        return pretrain(data, recipe="simclr_small_smoke", **options)

    return called


def test_every_kind_of_data_has_an_example():
    targets = re.findall(r"^\| \[.+?\]\(#(.+?)\)", GUIDE, re.MULTILINE)
    headings = re.findall(r"^## ([^\n]+)\n(.+?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    sections = {title.lower().replace(" ", "-"): text for title, text in headings}
    assert len(targets) == 6
    assert [target for target in targets if "```" not in sections[target]] == []
