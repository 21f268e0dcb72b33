"""Images with masks: numbers as the file holds them, both layouts, and every kind of damage."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike.data import Unreadable, masked_folder, numbers

MASK = np.array([[0, 1, 2], [255, 2, 0]], np.uint8)


def save(path: Path, mask: np.ndarray = MASK, mode: str = "P") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    if mode == "P":
        image.putpalette([(91 * entry) % 256 for entry in range(768)])
    image.save(path)
    return path


def pictures(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.full((2, 3, 3), len(name), np.uint8)).save(folder / name)


def test_numbers_are_entries_of_a_palette_or_gray_values_and_no_colors(tmp_path):
    for mode in ("P", "L"):
        assert numbers(save(tmp_path / f"{mode}.png", mode=mode)).tolist() == MASK.tolist()
    Image.fromarray(MASK > 0).save(tmp_path / "bits.png")
    assert numbers(tmp_path / "bits.png").tolist() == (MASK > 0).tolist()
    pictures(tmp_path, "color.png")
    with pytest.raises(Unreadable, match="its pixels are RGB, not numbers: save the mask as a palette"):
        numbers(tmp_path / "color.png")
    (tmp_path / "none.png").write_bytes(b"no image")
    with pytest.raises(Unreadable, match="its content is not JPEG"):
        numbers(tmp_path / "none.png")
    with pytest.raises(Unreadable, match="are more than the 5 allowed"):
        numbers(tmp_path / "P.png", max_pixels=5)


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    for half, names in (("train", ("a.jpg", "b.png")), ("val", ("c.jpg",))):
        pictures(tmp_path / half / "images", *names)
        for name in names:
            save(tmp_path / half / "masks" / f"{name[0]}.png")
    return tmp_path


def test_a_sample_is_the_pixels_and_the_mask(halves):
    found = masked_folder(halves)
    assert [found.train.name(i) for i in range(len(found.train))] == ["a.jpg", "b.png"]
    sample = found.train.read(1)
    assert torch.equal(sample[:3], torch.full((3, 2, 3), 5, dtype=torch.uint8))
    assert sample[3].tolist() == MASK.tolist()
    assert found.val.size(0) == (2, 3)
    before = found.train.identity()
    save(halves / "train" / "masks" / "a.png", np.random.default_rng(0).integers(0, 9, (40, 50), dtype=np.uint8))
    assert found.train.identity() != before
    gray = masked_folder(halves, channels=1).train.read(1)
    assert gray.tolist() == [[[5] * 3] * 2, MASK.tolist()]


def test_test_stands_for_val(halves):
    (halves / "val").rename(halves / "test")
    assert masked_folder(halves).val.name(0) == "c.jpg"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    pictures(tmp_path / "JPEGImages", "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    for name in "abc":
        save(tmp_path / "SegmentationClass" / f"{name}.png")
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("c\nb \n")
    (lists / "val.txt").write_text("a\n")
    return tmp_path


def test_the_lists_of_pascal_voc_choose_in_their_order(voc):
    found = masked_folder(voc)
    assert [found.train.name(i) for i in range(2)] == ["c.jpg", "b.jpg"]
    assert len(found.train) == 2
    assert found.val.mask(0).tolist() == MASK.tolist()


def test_what_is_missing_is_named(voc, halves):
    lists = voc / "ImageSets" / "Segmentation"
    (lists / "val.txt").write_text("a\nd\n")
    with pytest.raises(ValueError, match=r"^d.jpg has no mask .*d.png \(1 of 2 images have none\): add the masks"):
        masked_folder(voc)
    (lists / "val.txt").write_text("a\nx\ny\n")
    with pytest.raises(ValueError, match=r"val.txt names 'x', and JPEGImages/ has no such image \(2 are missing\)"):
        masked_folder(voc)
    (lists / "val.txt").unlink()
    with pytest.raises(ValueError, match=r"and no list ImageSets/Segmentation/val.txt: write the names"):
        masked_folder(voc)


@pytest.mark.parametrize("part", ["train/images", "val/masks"])
def test_a_part_that_is_missing_is_named(halves, part):
    (halves / part).rename(halves / "elsewhere")
    with pytest.raises(ValueError, match=f"holds no images with masks, it lacks {part}/: give a folder with"):
        masked_folder(halves)


def test_a_mask_of_another_size_is_no_mask(halves):
    save(halves / "val" / "masks" / "c.png", MASK.T.copy())
    with pytest.raises(ValueError, match=r"c.jpg has 3 x 2 pixels, and its mask .*c.png has 2 x 3: make a mask of"):
        masked_folder(halves).val.read(0)


def test_a_gray_mask_of_few_bits_is_refused(tmp_path):
    """Pillow would read its 1 as 17."""
    rows = zlib.compress(bytes([0, 0x12]))  # a row of the numbers 1 and 2, 4 bits each
    header = struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0)
    file = tmp_path / "mask.png"
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    parts = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(Unreadable, match="fewer than 8 bits"):
        numbers(file)
