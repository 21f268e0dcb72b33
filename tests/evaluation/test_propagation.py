"""Label propagation against loops over cells in double precision, and the two measures of DAVIS by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from lookalike.evaluation import (
    boundary_accuracy,
    carry,
    object_scores,
    objects_of,
    propagate,
    region_similarity,
    video_score,
)


def by_loops(maps, first, context: int, radius: float, neighbors: int, temperature: float):
    """Soft labels of each frame at the size of the map: lists [frame][row][column][label]."""
    frames, _, height, width = maps.shape
    labels, cell = int(first.max()) + 1, first.shape[0] // height
    square = [(i, j) for i in range(height) for j in range(width)]
    start = {
        (i, j): [
            float((first[i * cell : (i + 1) * cell, j * cell : (j + 1) * cell] == c).double().mean())
            for c in range(labels)
        ]
        for i, j in square
    }
    soft = [start]
    for t in range(1, frames):
        now = {}
        for i, j in square:
            found = []
            for s in [0, *range(max(1, t - context), t)]:
                for a, b in square:
                    if s == 0 or math.hypot(i - a, j - b) < radius:
                        one, other = maps[t, :, i, j], maps[s, :, a, b]
                        found.append((float(one @ other / one.norm() / other.norm()), soft[s][a, b]))
            found.sort(key=lambda pair: -pair[0])
            shares = [math.exp(cosine / temperature) for cosine, _ in found[:neighbors]]
            now[i, j] = [
                sum(w * label[c] for w, (_, label) in zip(shares, found[:neighbors], strict=True)) / sum(shares)
                for c in range(labels)
            ]
        soft.append(now)
    return [torch.tensor([[step[i, j] for j in range(width)] for i in range(height)]) for step in soft]


@pytest.mark.parametrize(("context", "radius", "neighbors"), [(2, 1.5, 3), (20, 12.0, 10), (1, 0.5, 500)])
def test_it_is_a_loop_over_cells(context, radius, neighbors, monkeypatch):
    draw = torch.Generator().manual_seed(0)
    maps = torch.randn(5, 6, 4, 3, dtype=torch.float64, generator=draw)
    first = torch.randint(0, 3, (8, 6), generator=draw)
    monkeypatch.setattr("lookalike.evaluation.propagation.CELLS", 100)  # a few cells at a time
    settings = {"context": context, "radius": radius, "neighbors": neighbors, "temperature": 0.3}
    soft = by_loops(maps, first, **settings)
    found = propagate(maps, first, **settings)
    assert torch.equal(found[0], first)
    for t in range(1, 5):
        large = F.interpolate(soft[t].double().movedim(2, 0)[None], size=(8, 6), mode="bilinear")[0]
        assert torch.equal(found[t], large.argmax(0))


def test_frames_are_carried_as_their_maps_come():
    """The mask of a frame is known before the next map is asked for."""
    maps = torch.randn(6, 4, 3, 5, generator=torch.Generator().manual_seed(4))
    first, asked = torch.randint(0, 3, (9, 10), generator=torch.Generator().manual_seed(5)), []

    def coming():
        for number, one in enumerate(maps):
            asked.append(number)
            yield one

    found = []
    for number, mask in enumerate(carry(coming(), first, context=2)):
        assert asked == list(range(number + 1))
        found.append(mask)
    assert torch.equal(torch.stack(found), propagate(maps, first, context=2))


CENTERS = torch.tensor([4 * cell + at for cell in range(8) for at in (1, 2)])  # pixels in the middle of their cells


def square_at(left: int, size: int = 32) -> torch.Tensor:
    mask = torch.zeros(size, size, dtype=torch.int64)
    mask[8:20, left : left + 12] = 1
    return mask


def test_a_moving_square_is_followed():
    """Features say object or background, and nothing of the place; the square moves by four pixels a frame."""
    truth = torch.stack([square_at(4 * t) for t in range(5)])
    maps = F.avg_pool2d(truth[:, None].double(), 4)
    maps = torch.cat([maps, 1 - maps], 1)
    found = propagate(maps, truth[0], radius=3.0)
    assert torch.equal(found[:, CENTERS][..., CENTERS], truth[:, CENTERS][..., CENTERS])
    j, f = video_score(found, truth)
    assert (j, f) == (pytest.approx(140 / 144), 1.0)  # of the square the four corners are lost to interpolation


def test_objects_keep_their_labels_and_a_still_video_its_mask():
    first = torch.zeros(16, 16, dtype=torch.int64)
    first[:8, :8], first[8:, 8:] = 1, 4
    maps = torch.randn(1, 5, 4, 4, generator=torch.Generator().manual_seed(1)).repeat(4, 1, 1, 1)
    found = propagate(maps, first, neighbors=1)
    still = first.expand(4, -1, -1)
    assert torch.equal(found[:, CENTERS[:8]][..., CENTERS[:8]], still[:, CENTERS[:8]][..., CENTERS[:8]])


@pytest.mark.parametrize("wrong", [{"context": 0}, {"radius": 0.0}, {"neighbors": -1}, {"temperature": 0.0}])
def test_numbers_that_are_not_above_0_are_refused(wrong):
    with pytest.raises(ValueError, match="give numbers above 0, and labels from 0"):
        propagate(torch.randn(2, 3, 2, 2), torch.zeros(4, 4, dtype=torch.int64), **wrong)


def test_region_similarity_by_hand():
    one, other = square_at(4).bool(), square_at(10).bool()
    assert region_similarity(one, other) == 6 / 18
    assert region_similarity(one, ~one) == 0.0
    assert region_similarity(one & ~one, one & ~one) == 1.0


def boundary_by_loops(mask):
    height, width = mask.shape
    at = lambda i, j: bool(mask[min(i, height - 1), min(j, width - 1)])  # noqa: E731
    return [
        (i, j)
        for i in range(height)
        for j in range(width)
        if {at(i, j + 1), at(i + 1, j), at(i + 1, j + 1)} != {at(i, j)}
    ]


@pytest.mark.parametrize("bound", [0.008, 0.05, 0.2])
def test_boundary_accuracy_by_loops(bound):
    draw = torch.Generator().manual_seed(2)
    truth, found = (F.avg_pool2d(torch.rand(1, 24, 20, generator=draw), 5, 1, 2)[0] > 0.5 for _ in range(2))
    lines = boundary_by_loops(found), boundary_by_loops(truth)
    reach = math.ceil(bound * math.hypot(24, 20))
    shares = [
        sum(any((i - a) ** 2 + (j - b) ** 2 <= reach**2 for a, b in other) for i, j in one) / len(one)
        for one, other in (lines, lines[::-1])
    ]
    expected = 2 * shares[0] * shares[1] / sum(shares)
    assert boundary_accuracy(found, truth, bound=bound) == pytest.approx(expected, abs=1e-12)


def test_boundary_accuracy_of_masks_without_a_boundary():
    empty, some = torch.zeros(32, 32, dtype=torch.bool), square_at(4).bool()
    assert boundary_accuracy(empty, empty) == 1.0
    assert boundary_accuracy(empty, some) == 0.0
    assert boundary_accuracy(some, empty) == 0.0
    assert boundary_accuracy(some, some) == 1.0


def test_the_first_and_the_last_frame_do_not_count_and_objects_count_alike():
    truth = torch.stack([square_at(4)] * 4)
    truth[:, 25:30, 25:30] = 7
    found = truth.clone()
    found[0], found[3] = 0, 0
    assert video_score(found, truth) == (1.0, 1.0)
    found[2][found[2] == 7] = 0
    assert video_score(found, truth) == (0.75, 0.75)  # one of two objects in one of two frames is lost
    with pytest.raises(ValueError, match="2 frames with 1 objects give no score"):
        video_score(found[:2] % 7, truth[:2] % 7)
    with pytest.raises(ValueError, match="4 frames with 0 objects give no score"):
        video_score(found, torch.zeros_like(truth))


def test_pixels_that_the_truth_leaves_out_count_nowhere():
    """Against J by a loop over pixels; what lies under 255 may say anything."""
    draw = torch.Generator().manual_seed(6)
    truth = torch.randint(0, 3, (10, 12), generator=draw)
    truth[:, 4:6] = 255
    found = torch.randint(0, 3, (10, 12), generator=draw)
    assert objects_of(truth) == [1, 2]
    scores = object_scores(found, truth, [1, 2])
    for row, label in enumerate([1, 2]):
        both = either = 0
        for said, true in zip(found.flatten().tolist(), truth.flatten().tolist(), strict=True):
            both += said == true == label
            either += true != 255 and label in (said, true)
        assert float(scores[row, 0]) == both / either
    other = found.where(truth != 255, torch.randint(0, 3, (10, 12), generator=draw))
    assert torch.equal(object_scores(other, truth, [1, 2]), scores)


def test_labels_are_names_and_not_a_count():
    maps, first = torch.randn(3, 4, 6, 6), torch.randint(0, 3, (6, 6))
    named = torch.tensor([0, 7, 254])
    assert torch.equal(propagate(maps, named[first]), named[propagate(maps, first)])
