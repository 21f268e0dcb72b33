"""Shape and type annotations are executed in every test; shared fixtures."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook("lookalike", "beartype.beartype")

import torch  # noqa: E402

from gloo import Gloo  # noqa: E402

torch.set_num_threads(1)  # the tensors of tests are small: threads would only wait for one another

REPOSITORY = Path(__file__).resolve().parents[1]


MOST_WORKERS = 8  # each loads torch, and may start four processes of its own


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many as there are cores for the whole suite; none where paths are named, which is quicker to begin."""
    whole = config.args_source != pytest.Config.ArgsSource.ARGS
    return min(os.cpu_count() or 1, MOST_WORKERS) if whole else 0


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with cifar10_jpeg.npz, photos.zip and clips.zip; the test is skipped where it is absent."""
    folder = Path(os.environ.get("LOOKALIKE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "cifar10_jpeg.npz").exists():
        pytest.skip(f"needs the development images (not found in {folder}; set LOOKALIKE_TEST_DATA)")
    return folder


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def gloo() -> Iterator[Gloo]:
    """Runs a module-level function on several processes: `gloo.run(world, function, *args)`."""
    pool = Gloo()
    yield pool
    pool.close()
