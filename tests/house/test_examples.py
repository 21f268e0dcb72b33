"""Every command and every block of Python in the documentation runs, on tiny images and with tiny recipes."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import lookalike as command
from command import write_images
from examples import DOCUMENTS, PYTHON, SHELL, SMALL, Block, blocks, miniature, only_understood, runnable, small
from sources import REPOSITORY
from tars import write_tar
from torch.distributed.run import parse_args
from typer.main import get_command

import lookalike
from lookalike.cli.shell import application

PAGES = [page for page in DOCUMENTS if runnable(page)]
MOST = 12  # blocks of the whole documentation that are not run


@pytest.fixture(scope="session")
def template(finished_run: Path) -> Path:
    """What the examples name: photos/, album/, labelled/, runs/sce-1, list.txt, photos.tar, shards/, uris.txt."""
    import fsspec

    root = finished_run.parents[1]
    photos = sorted((root / "photos").iterdir())
    write_images(root / "album", 56, 600)
    for place, first in (("train/cat", 100), ("train/dog", 200), ("test/cat", 300), ("test/dog", 400)):
        write_images(root / "labelled" / place, 8, first)
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


@pytest.fixture
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the template, as the working folder."""
    shutil.copytree(template, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_the_examples_of_a_page_run(page, place, monkeypatch, capsys):
    shown = runnable(page)
    if any("saved/" in block.text for block in shown):
        save_rows(place)
    for verb in ("pretrain", "dry_run", "profile"):
        monkeypatch.setattr(lookalike, verb, quick(getattr(lookalike, verb)), raising=False)
    names: dict[str, Any] = {}
    for block in shown:
        if block.language == PYTHON:
            exec(compile(block.text, f"{page.name}: {block.text[:60]!r}", "exec"), names)
        else:
            run_lines(block)


def run_lines(block: Block) -> None:
    """Runs the commands of a block in this process; of torchrun the options are parsed, and one process runs."""
    for line in block.lines():
        words = behind_torchrun(line) if line[0] == "torchrun" else line
        assert words[0] == "lookalike", f"{line} is not run here: mark its block <!-- not run: REASON -->"
        verb, *arguments = words[1:] or ["--help"]
        if only_understood([verb, *arguments]):
            get_command(application()).commands[verb].make_context(verb, arguments).close()
            continue
        said = command(*small([verb, *arguments]))
        assert said.code == 0, (line, said.err)


def behind_torchrun(line: list[str]) -> list[str]:
    """The command that torchrun would start, as its own parser sees it."""
    found = parse_args(line[1:])
    assert found.module, line
    return [found.training_script, *found.training_script_args]


def quick(verb: Callable) -> Callable:
    """A verb that trains, with the smallest recipe of its kind, whatever else is asked for."""

    def called(data: Any, **options: Any) -> Any:
        recipe = miniature(options.pop("recipe", None), options.get("method"))
        given = {key: value for key, value in options.items() if key not in ("backbone", "epochs", "batch")}
        changes = [*given.pop("overrides", ()), *(f"{key}={value}" for key, value in SMALL.items())]
        return verb(data, recipe=recipe, overrides=changes, **given)

    return called


def save_rows(root: Path) -> None:
    """saved/: the photos as a data set of the Hub, with two labels."""
    datasets = pytest.importorskip("datasets", reason="needs the package datasets: pip install 'lookalike[hub]'")
    datasets.disable_progress_bars()
    photos = sorted((root / "photos").iterdir())
    columns = {
        "image": [{"bytes": photo.read_bytes(), "path": None} for photo in photos],
        "label": [number % 2 for number in range(len(photos))],
    }
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"]))
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(root / "saved")


def test_what_is_not_run_says_why():
    shown = [(page.name, block) for page in DOCUMENTS for block in blocks(page.read_text())]
    left = [(page, block.text, block.reason) for page, block in shown if block.reason is not None]
    assert [(page, text) for page, text, reason in left if len(reason.split()) < 2] == []
    assert len(left) <= MOST
    known = {*SHELL, PYTHON, "said", "text", "yaml", "json", "csv"}
    assert [(page, block.text) for page, block in shown if block.language not in known] == []


def test_every_kind_of_data_has_an_example():
    guide = (REPOSITORY / "docs" / "data.md").read_text()
    targets = re.findall(r"^\| \[.+?\]\(#(.+?)\)", guide, re.MULTILINE)
    headings = re.findall(r"^## ([^\n]+)\n(.+?)(?=^## |\Z)", guide, re.MULTILINE | re.DOTALL)
    sections = {title.lower().replace(" ", "-"): text for title, text in headings}
    assert len(targets) == 6
    assert [target for target in targets if "```" not in sections[target]] == []


def test_blocks_are_found_with_their_reason():
    page = "```bash\na \\\n  b  # c\n```\n\n<!-- not run: too dear -->\n```console\n$ d\nout\n```\n```\nx\n```\n"
    first, second, third = blocks(page)
    assert (first.lines(), first.reason) == ([["a", "b"]], None)
    assert (second.lines(), second.reason) == ([["d"]], "too dear")
    assert (third.language, third.reason) == ("", None)


def test_a_command_is_made_small_once_it_is_right():
    words = small(["pretrain", "photos/", "--recipe", "sce_imagenet", "batch=512"])
    assert words[:5] == ["pretrain", "photos/", "batch=512", "--recipe", "sce_imagenet_smoke"]
    assert words[5:] == [f"{key}={value}" for key, value in SMALL.items()]
    assert small(["pretrain", "photos/", "--method", "byol"])[4:6] == ["--recipe", "byol_small_smoke"]
    with pytest.raises(ValueError, match=r"the nearest is 'method\.temperature'"):
        small(["pretrain", "photos/", "--recipe", "sce_imagenet", "method.temprature=1"])
