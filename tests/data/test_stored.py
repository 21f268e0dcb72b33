"""Decoded pixels in a file: the same as decoding gives, decoded once, and never half."""

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike.data import Cached, Files, Folder, Unreadable, cached, stored


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six photos of different sizes, one of them broken."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (20 + number, 30 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.png")
    (photos / "3.png").write_bytes((photos / "3.png").read_bytes()[:200])
    return photos


class Counting(Folder):
    """A folder that counts how often images are decoded, and fails from a number on."""

    def __init__(self, path: Path, failing: int = 10**6) -> None:
        super().__init__(path)
        self.reads, self.failing = 0, failing

    def read(self, index):
        self.reads += 1
        assert self.reads < self.failing
        return super().read(index)


def equal(one: Cached, other: Cached) -> bool:
    readable = [i for i in range(len(one)) if i not in one.failures]
    assert one.failures.keys() == other.failures.keys()
    return all(torch.equal(one.read(i), other.read(i)) for i in readable)


def test_pixels_are_those_of_decoding_and_are_decoded_once(folder: Path, tmp_path: Path) -> None:
    heard = list[tuple[int, int]]()
    source = Counting(folder)
    first = stored(source, tmp_path / "store", on_progress=lambda *done: heard.append(done))
    assert source.reads == 6 + 6 + 1  # for the name, to decode, and the broken one again
    reference = cached(Folder(folder))
    assert isinstance(reference, Cached)
    assert equal(first, reference)
    assert heard[-1] == (6, 6)
    notes = list[str]()
    source = Counting(folder)
    again = stored(source, tmp_path / "store", say=notes.append)
    assert source.reads == 6 + 1
    assert equal(again, reference)
    assert len(notes) == 1
    with pytest.raises(Unreadable, match="truncated"):
        again.read(3)
    assert len(list((tmp_path / "store").iterdir())) == 2  # nothing half-written is left


def test_a_file_that_is_changed_or_mended_is_decoded_anew(folder: Path, tmp_path: Path) -> None:
    stored(Folder(folder), tmp_path / "store")
    data = (folder / "0.png").read_bytes()
    pixels = np.random.default_rng(9).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "0.png")
    (folder / "0.png").write_bytes((folder / "0.png").read_bytes()[: len(data)].ljust(len(data), b"\0"))
    new = stored(Folder(folder), tmp_path / "store")
    assert torch.equal(new.read(0), torch.from_numpy(pixels).permute(2, 0, 1))


def test_an_image_that_could_not_be_read_for_a_while_is_decoded_once_it_can(folder: Path, tmp_path: Path) -> None:
    class Offline(Folder):
        def read(self, index):
            if index == 5:
                raise Unreadable("5.png", "the network is down")
            return super().read(index)

    class Stamped(Offline):  # the name of a store looks at images: what failed while decoding is what is meant here
        def read(self, index):
            self.reads = getattr(self, "reads", 0) + 1
            return Folder.read(self, index) if self.reads <= 6 else super().read(index)

    assert stored(Stamped(folder), tmp_path / "store").failures.keys() == {3, 5}
    assert stored(Folder(folder), tmp_path / "store").failures.keys() == {3}


def test_what_a_killed_process_left_is_swept_and_what_another_writes_is_not(folder: Path, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl", reason="locks are of Unix")
    stored(Folder(folder), tmp_path / "store")
    (index,) = (tmp_path / "store").glob("*.json")
    left, busy = (index.with_suffix(f".pixels.{name}.part") for name in ("left", "busy"))
    left.touch()
    index.unlink()
    with busy.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        stored(Folder(folder), tmp_path / "store")
    assert busy.exists()
    assert not left.exists()


def test_other_images_channels_or_scale_have_files_of_their_own(folder: Path, tmp_path: Path) -> None:
    stored(Folder(folder), tmp_path / "store")
    assert stored(Folder(folder, channels=1), tmp_path / "store").read(0).shape == (1, 20, 30)
    small = Folder(folder)
    small.scaled_to = 8
    stored(small, tmp_path / "store")
    assert len(stored(Files(str(folder), ["0.png", "1.png"]), tmp_path / "store")) == 2
    assert len(list((tmp_path / "store").iterdir())) == 8


@pytest.mark.parametrize("harm", ["cut pixels", "lost pixels", "cut index", "another index"])
def test_a_damaged_store_is_filled_anew(folder: Path, tmp_path: Path, harm: str) -> None:
    place = tmp_path / "store"
    stored(Folder(folder), place)
    (pixels,), (index,) = place.glob("*.pixels"), place.glob("*.json")
    if harm == "cut pixels":
        pixels.write_bytes(pixels.read_bytes()[:-1])
    elif harm == "lost pixels":
        pixels.unlink()
    elif harm == "cut index":
        index.write_bytes(index.read_bytes()[:-1])
    else:
        stored(Files(str(folder), ["0.png"]), tmp_path / "other")
        (other,) = (tmp_path / "other").glob("*.json")
        shutil.copy(other, index)
    reference = cached(Folder(folder))
    assert isinstance(reference, Cached)
    assert equal(stored(Folder(folder), place), reference)


def test_no_room_is_said_before_anything_is_decoded(folder: Path, tmp_path: Path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000, 1000, 0))
    with pytest.raises(
        ValueError, match=r"cannot be kept in .*store \(it has 0.0 GB free, and .* are needed\): choose"
    ):
        stored(Counting(folder, failing=7), tmp_path / "store")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="choose another folder"):
        stored(Folder(folder), tmp_path / "file" / "store")


def test_what_fails_while_decoding_leaves_no_file(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        stored(Counting(folder, failing=9), tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []
