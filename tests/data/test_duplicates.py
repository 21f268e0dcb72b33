"""Exact duplicates are found in memory and among files, and nothing else is taken for one."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from lookalike.data import Files, Folder, cached, duplicates, merged
from lookalike.functional import random


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine images of noise, large enough to differ after their beginnings; one has two copies, one has one."""
    place = tmp_path / "photos"
    place.mkdir()
    for number in range(6):
        pixels = torch.randint(256, (40, 50, 3), generator=random.generator("image", number), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(place / f"{number}.png")
    for source, copy in (("1", "6"), ("1", "7"), ("4", "8")):
        shutil.copy(place / f"{source}.png", place / f"{copy}.png")
    return place


@pytest.mark.parametrize("in_memory", [False, True])
def test_copies_are_grouped(in_memory: bool, folder: Path) -> None:
    source = Folder(folder)
    assert duplicates(cached(source) if in_memory else source) == [[1, 6, 7], [4, 8]]


@pytest.mark.parametrize("in_memory", [False, True])
def test_equal_beginnings_are_no_copies(in_memory: bool, folder: Path) -> None:
    """Two images that differ in their last pixel alone; uncompressed, so that their files do too."""
    pixels = torch.randint(256, (40, 50, 3), dtype=torch.uint8)
    for name in ("a.bmp", "b.bmp"):
        Image.fromarray(pixels.numpy()).save(folder / name)
        pixels[0, -1, -1] = pixels[0, -1, -1] ^ 1  # BMP begins with the last row
        pixels[-1, -1, -1] = pixels[-1, -1, -1] ^ (name == "b.bmp")
    source = Folder(folder)
    assert duplicates(cached(source) if in_memory else source) == [[1, 6, 7], [4, 8]]


@pytest.mark.parametrize("in_memory", [False, True])
def test_unreadable_files_are_left_out(in_memory: bool, folder: Path) -> None:
    for name in ("x.png", "y.png"):
        (folder / name).symlink_to(folder / "nowhere")
    source = Folder(folder)
    assert duplicates(cached(source) if in_memory else source) == [[1, 6, 7], [4, 8]]


def test_merged_files_are_the_first_of_each_picture_with_their_labels(folder: Path) -> None:
    (folder / "notes.txt").touch()
    source = Folder(folder)
    source.labels, source.scaled_to = torch.arange(9), 40
    found = merged(source, duplicates(source))
    assert found.names == ["0.png", "1.png", "2.png", "3.png", "4.png", "5.png"]
    assert found.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert duplicates(found) == []
    assert (found.scaled_to, dict(found.ignored)) == (40, {".txt": 1})
    assert found.identity() == Files(folder, found.names).identity()
    assert len(source) == 9


def test_progress_counts_every_image_once(folder: Path) -> None:
    (folder / "x.png").write_bytes(b"of a length of its own")
    heard = list[tuple[int, int]]()
    duplicates(Folder(folder), on_progress=lambda done, total: heard.append((done, total)))
    assert heard[-1] == (10, 10)
    assert heard == sorted(set(heard))
