"""The data set as `prepare` sees it: refused where it is not what the run began with."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from timm.layers import DropPath
from torch import nn

from contracts.small_world import Draws
from lookalike.data import Folder, cached
from lookalike.methods.method import Phase
from lookalike.training.corpus import WholeDataSet, training_mode
from lookalike.training.runtime import Runtime
from lookalike.training.streams import Streams
from lookalike.training.timeline import timeline


class Means(nn.Module):
    """The mean of each channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float().mean((2, 3))


def whole(source, identity: str) -> WholeDataSet:
    plan = [Phase(name="key/1", epochs=1.0, trains=(), reads=("view",))]
    (stretch,) = timeline(plan, size=4, batch=2)
    return WholeDataSet(Streams(source=source, views=Draws(), batch=2, identity=identity), stretch, Runtime())


def test_batch_statistics_skip_no_residual_branch_and_leave_the_global_generator_alone() -> None:
    encoder = nn.Sequential(Means(), DropPath(0.5), nn.BatchNorm1d(3))
    pixels = torch.randint(256, (6, 3, 4, 4), dtype=torch.uint8)
    before = torch.get_rng_state()
    with training_mode(encoder):
        rows = encoder(pixels)
    means = pixels.float().mean((2, 3))
    expected = (means - means.mean(0)) / (means.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(rows, expected)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(part.training for part in encoder.modules())


def test_images_that_changed_since_the_start_are_refused_by_the_name_of_the_phase(tmp_path: Path) -> None:
    for number in range(4):
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(tmp_path / f"{number}.png")
    source = Folder(tmp_path)
    in_memory, identity = cached(source), source.identity()
    ((index, rows),) = whole(source, identity).encode(Means(), "view")
    assert index.tolist() == [0, 1, 2, 3]
    assert rows[:, 0].tolist() == sorted(rows[:, 0].tolist())
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes() + b"\0")
    with pytest.raises(ValueError, match=r"changed before phase 'key/1': names or sizes of the 4 files"):
        list(whole(source, identity).encode(Means(), "view"))
    (tmp_path / "1.png").unlink()
    with pytest.raises(
        ValueError, match=r"before phase 'key/1': gone are 1 of the 4 files, the first .*1\.png; restore"
    ):
        list(whole(source, identity).encode(Means(), "view"))
    assert list(whole(in_memory, identity).encode(Means(), "view"))  # what is in memory has not changed
