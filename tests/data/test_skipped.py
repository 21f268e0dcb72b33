"""Stand-ins for unreadable images, and the ledger that counts them."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import Tensor

from lookalike.data import Cached, Skipped, Skips, TooManyUnreadable, Unreadable, read_or_next, replace_unreadable
from lookalike.functional.order import Shuffle


class Numbers:
    """Image i is full of i, but for the broken ones; `reads` counts how often each was tried."""

    channels, labels, concurrent = 3, None, True

    def __init__(self, size: int, broken: set[int], shapes: int = 1) -> None:
        self.length, self.broken, self.shapes = size, broken, shapes
        self.reads: list[int] = []

    def __len__(self) -> int:
        return self.length

    def read(self, index: int) -> Tensor:
        self.reads.append(index)
        if index in self.broken:
            raise Unreadable(f"/far/{index}.jpg", "image file is truncated")
        return torch.full((3, 2 + index % self.shapes, 2), index % 251, dtype=torch.uint8)

    def name(self, index: int) -> str:
        return f"{index}.jpg"

    def size(self, index: int) -> tuple[int, int]:
        return (2 + index % self.shapes, 2)

    def identity(self) -> str:
        return "numbers"


def slow(broken: set[int], order: list[int], position: int, stride: int) -> tuple[int | None, list[int]]:
    """The same search written as loops over a list of tried positions."""
    tried: list[int] = []
    met: list[int] = []
    place = position % len(order)
    while place not in tried:
        tried.append(place)
        if order[place] not in broken:
            return order[place], met
        met.append(order[place])
        place = (place + stride) % len(order)
    for step in range(1, len(order)):
        place = (position + step) % len(order)
        if place in tried:
            continue
        if order[place] not in broken:
            return order[place], met
        met.append(order[place])
    return None, met


@pytest.mark.parametrize("length", [1, 2, 7, 12])
@pytest.mark.parametrize("stride", [0, 1, 4, 5, 12, 13, 24])
def test_the_stand_in_is_the_first_readable_of_the_stride_then_of_the_rest(length, stride):
    rng = np.random.default_rng(length * 100 + stride)
    for _ in range(20):
        order = rng.permutation(length)
        broken = {int(i) for i in np.flatnonzero(rng.random(length) < rng.random())}
        for position in range(length + 2):
            expected, met = slow(broken, order.tolist(), position, stride)
            source = Numbers(length, broken)
            if expected is None:
                with pytest.raises(TooManyUnreadable, match=f"none of the {length} images can be read"):
                    replace_unreadable(source, torch.from_numpy(order), position, stride)
                assert sorted(source.reads) == list(range(length))  # each tried, none twice
                continue
            found = replace_unreadable(source, torch.from_numpy(order), position, stride)
            assert found.index == expected
            assert (found.pixels == expected).all()
            assert [s.index for s in found.skipped] == met
            assert found.skipped == [Skipped(i, f"{i}.jpg", "image file is truncated") for i in met]


def test_a_good_sample_costs_one_read_of_a_long_order():
    source = Numbers(2_000_000, set())
    replace_unreadable(source, torch.arange(2_000_000), 1_999_999, 256)
    assert source.reads == [1_999_999]


def test_no_other_sample_of_any_batch_changes():
    size, batch = 96, 16
    order = Shuffle().indices(seed=1, phase=0, round=0, size=size)
    broken = {int(order[3]), int(order[19]), int(order[95])}
    for start in range(0, size, batch):
        place = torch.arange(start, start + batch)
        whole, index, skipped = read_or_next(Numbers(size, set()), order, place, stride=batch)
        hurt, index_hurt, skipped_hurt = read_or_next(Numbers(size, broken), order, place, stride=batch)
        lost = torch.tensor([int(i) in broken for i in order[place]])
        assert skipped == []
        assert torch.equal(index, order[place])
        assert torch.equal(index_hurt[~lost], index[~lost])
        assert torch.equal(hurt[~lost], whole[~lost])
        assert not set(index_hurt.tolist()) & broken
        assert {s.index for s in skipped_hurt} >= set(order[place][lost].tolist())
    # 3 and 19 are the same slot of the first two batches: both give way to that of the third
    _, index, skipped = read_or_next(Numbers(size, broken), order, torch.tensor([3, 19, 95]), stride=batch)
    assert index.tolist() == order[[35, 35, 15]].tolist()
    assert [s.index for s in skipped] == order[[3, 19, 19, 95]].tolist()


def test_ranks_and_batches_together_read_what_one_process_reads():
    order = Shuffle().indices(seed=2, phase=1, round=5, size=40)
    broken = set(range(0, 40, 3))
    _, whole, _ = read_or_next(Numbers(40, broken), order, torch.arange(16), stride=16)
    for world in (2, 3):
        parts = [
            read_or_next(Numbers(40, broken), order, torch.arange(r, 16, world), stride=16)[1] for r in range(world)
        ]
        for r, part in enumerate(parts):
            assert torch.equal(part, whole[r::world])


def test_mixed_sizes_come_as_a_list_and_places_wrap_around():
    images, index, _ = read_or_next(Numbers(5, {1}, shapes=3), torch.arange(5), torch.tensor([5, 6, 2]), stride=1)
    assert index.tolist() == [0, 2, 2]
    assert [tuple(image.shape) for image in images] == [(3, 2, 2), (3, 4, 2), (3, 4, 2)]


def test_a_cache_gives_the_same_batches():
    for broken in (set(), {4, 5}):
        source = Numbers(30, broken)
        sizes = torch.full((30, 2), 2)
        buffer = torch.arange(30, dtype=torch.uint8).repeat_interleave(12)
        cache = Cached(
            source, buffer, sizes, {i: Unreadable(f"/far/{i}.jpg", "image file is truncated") for i in broken}
        )
        order, place = torch.randperm(30), torch.arange(30)
        for a, b in zip(
            read_or_next(source, order, place, stride=8), read_or_next(cache, order, place, stride=8), strict=True
        ):
            assert torch.equal(a, b) if isinstance(a, Tensor) else a == b


def records(*index: int) -> list[Skipped]:
    return [Skipped(i, f"dir/{i}.jpg", "the file is empty") for i in index]


def test_the_ledger_writes_each_image_once(tmp_path):
    path = tmp_path / "skipped.jsonl"
    skips = Skips(path, 10_000)
    assert not path.exists()
    skips.add(records(3, 3, 5))
    skips.add(records(5, 8))
    skips.add([])
    assert len(skips) == 3
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [{"index": i, "name": f"dir/{i}.jpg", "reason": "the file is empty"} for i in (3, 5, 8)]


def test_a_later_start_goes_on_with_the_file_and_counts_anew(tmp_path):
    path = tmp_path / "skipped.jsonl"
    Skips(path, 10_000).add(records(1, 2))
    path.write_text(path.read_text() + '{"index": 7, "na')  # killed while writing
    skips = Skips(path, 10_000)
    assert len(skips) == 0
    skips.add(records(2, 7, 9))
    assert len(skips) == 3
    lines = path.read_text().splitlines()
    assert lines[2] == '{"index": 7, "na'
    assert [json.loads(line)["index"] for line in lines[:2] + lines[3:]] == [1, 2, 7, 9]


def test_odd_names_survive_in_the_file(tmp_path):
    path = tmp_path / "skipped.jsonl"
    names = ["new\nline.jpg", "北京.jpg", "\udcff.jpg", '"quoted".jpg']
    Skips(path, 10**6).add([Skipped(i, name, "why") for i, name in enumerate(names)])
    assert [json.loads(line)["name"] for line in path.read_text().splitlines()] == names
    again = Skips(path, 10**6)
    again.add([Skipped(i, name, "why") for i, name in enumerate(names)])
    assert len(path.read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("size", "allowed", "bound"),
    [(10, 0.001, 1), (999, 0.001, 1), (1999, 0.001, 1), (2000, 0.001, 2), (100, 0.29, 29), (10, 0.0, 0), (10, 1.0, 10)],
)
def test_the_bound(size, allowed, bound):
    skips = Skips(None, size, allowed=allowed)
    skips.add(records(*range(bound)))
    if bound < size:
        with pytest.raises(TooManyUnreadable):
            skips.add(records(bound))


def test_too_many_is_a_sentence_with_a_way_out(tmp_path):
    path = tmp_path / "skipped.jsonl"
    skips = Skips(path, 2_000)
    with pytest.raises(TooManyUnreadable) as caught:
        skips.add(records(*range(37)))
    assert str(caught.value) == (
        "37 of 2,000 images (1.85%) cannot be read, more than the 0.10% allowed; the first: "
        "dir/0.jpg (the file is empty), dir/1.jpg (the file is empty), dir/2.jpg (the file is empty): "
        "repair or remove them "
        f"(all are listed in {path}), or allow more with --max-bad 0.05"
    )
    assert len(path.read_text().splitlines()) == 37  # written before it is said
    skips.add(records(5))  # nothing new: whoever went on is not stopped again
    assert str(copy.copy(caught.value)) == str(caught.value)


@pytest.mark.parametrize("allowed", [-0.1, 1.1, float("nan")])
def test_a_fraction_is_a_fraction(allowed):
    with pytest.raises(ValueError, match="give a number from 0 to 1"):
        Skips(None, 10, allowed=allowed)


def test_all_unreadable_is_a_sentence():
    with pytest.raises(TooManyUnreadable) as caught:
        read_or_next(Numbers(3, {0, 1, 2}), torch.arange(3), torch.tensor([0]), stride=2)
    assert str(caught.value) == (
        "none of the 3 images can be read; "
        "the first: 0.jpg (image file is truncated), 2.jpg (image file is truncated), "
        "1.jpg (image file is truncated): check the folder and its disk"
    )
