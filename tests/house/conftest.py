"""A run that documentation is held against."""

import sys
from pathlib import Path

import pytest
from sources import REPOSITORY

sys.path[:0] = [str(REPOSITORY / "tests" / folder) for folder in ("cli", "data")]

from command import lookalike, write_images  # noqa: E402


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/sce-1 of 20 photos beside it, finished after 8 steps. Not to be changed."""
    root = tmp_path_factory.mktemp("finished")
    write_images(root / "photos", 20)
    run = root / "runs" / "sce-1"
    said = lookalike("pretrain", root / "photos", "--recipe", "sce_small_smoke", "epochs=8", "--out", run)
    assert said.code == 0, said.err
    return run
