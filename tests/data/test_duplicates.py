"""Images that show one picture: equal pixels, nearly equal ones, and chains of these; the first of each counts."""

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike.data import open_source
from lookalike.data.duplicates import NEAR, difference_hash, pictures


def scene(number: int) -> np.ndarray:
    tiles = np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return np.array(Image.fromarray(tiles).resize((96, 72), Image.Resampling.BICUBIC))


def saved(folder, **images: np.ndarray):
    folder.mkdir()
    for name, pixels in images.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return open_source(folder)


def test_a_bit_says_which_of_two_neighbors_is_darker() -> None:
    rows = np.zeros((32, 34), dtype=np.uint8)
    rows[:, 10:20] = 200  # averages of two pixels: columns 5 to 9 of 17 are bright
    hashed = difference_hash(torch.from_numpy(np.repeat(rows[None], 3, axis=0))).view(16, 16)
    expected = torch.full((16, 16), -1.0)
    expected[:, 4] = 1.0  # from dark to bright alone
    assert torch.equal(hashed, expected)
    assert torch.equal(difference_hash(torch.from_numpy(rows[None])).view(16, 16), expected)


def test_the_first_of_equal_and_of_nearly_equal_images_counts(tmp_path) -> None:
    brighter = (scene(1) * 0.8 + 30).astype(np.uint8)
    source = saved(tmp_path / "a", a=scene(0), b=scene(1), c=scene(0), d=brighter, e=scene(2), f=scene(2)[:, ::-1])
    found = pictures(source)
    assert found.first.tolist() == [0, 1, 4, 5]
    assert (found.images, found.unreadable, found.equal, found.near) == (6, 0, 1, 1)
    assert pictures(source, near=-1).first.tolist() == [0, 1, 3, 4, 5]


def test_chains_join_and_groups_equal_those_of_a_slow_search(tmp_path) -> None:
    steps = {f"{step:02}": np.roll(scene(3), step, axis=1) for step in range(12)}
    source = saved(tmp_path / "a", **steps, **{f"z{number}": scene(number) for number in range(10, 20)})
    hashes = [difference_hash(source.read(index)) for index in range(len(source))]
    distance = [[int((one != two).sum()) for two in hashes] for one in hashes]
    assert max(distance[0][:12]) > NEAR  # the ends of the chain differ in more bits than are allowed
    group = list(range(len(hashes)))
    for _ in group:
        for one in range(len(group)):
            for two in range(len(group)):
                if distance[one][two] <= NEAR:
                    group[one] = group[two] = min(group[one], group[two])
    assert pictures(source).first.tolist() == sorted(set(group))
    assert pictures(source).first.tolist()[1:] == list(range(12, 22))


def test_unreadable_images_are_counted_and_progress_is_heard(tmp_path) -> None:
    saved(tmp_path / "a", a=scene(0), b=scene(1), c=scene(2))
    (tmp_path / "a" / "b.png").write_bytes(b"no image")
    heard = list[tuple[int, int]]()
    found = pictures(open_source(tmp_path / "a"), on_progress=lambda done, total: heard.append((done, total)))
    assert (found.first.tolist(), found.unreadable) == ([0, 2], 1)
    assert heard == [(1, 3), (2, 3), (3, 3)]


def test_nothing_readable_is_no_picture(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.png").write_bytes(b"no image")
    assert pictures(open_source(tmp_path / "a")).first.tolist() == []


def test_bits_are_checked(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"from -1 \(equal pixels alone\) to 127, got 128"):
        pictures(saved(tmp_path / "a", a=scene(0)), near=128)
