"""Tiny images and runs; every test runs in a folder of its own."""

import shutil
from pathlib import Path

import pytest
from command import TINY, lookalike, write_images


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 images, flat. Not to be changed."""
    return write_images(tmp_path_factory.mktemp("data") / "photos", 64)


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and test/ with two classes each. Not to be changed."""
    root = tmp_path_factory.mktemp("labelled")
    for first, (half, count) in ((0, ("train", 12)), (100, ("test", 6))):
        for label in ("cat", "dog"):
            write_images(root / half / label, count, first + 50 * (label == "dog"))
    return root


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A run that has ended. Not to be changed: see `own_run`."""
    run = tmp_path_factory.mktemp("runs") / "simclr-1"
    said = lookalike("pretrain", photos, *TINY, "--out", run, "saving.every=2", "saving.keep=3")
    assert said.code == 0, said.err
    return run


@pytest.fixture
def own_run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def unfinished(own_run: Path) -> Path:
    """A copy of the run as if it had been stopped after step 6 of 8."""
    for path in own_run.glob("encoder.*"):
        path.unlink()
    shutil.rmtree(own_run / "checkpoints" / "step-00000008")
    (own_run / "checkpoints" / "latest").write_text("step-00000006\n")
    return own_run


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run folders without --out land in the test's own folder."""
    monkeypatch.chdir(tmp_path)
