"""Segment retrieval: by hand, against loops over pixels in double precision, and what it refuses."""

import math

import pytest
import torch

from lookalike.evaluation import Segment, segment_class, segment_retrieval, segment_row
from lookalike.functional import random

DOG, CAT = 3, 5


def picture(name: int, features, size: int = 8) -> Segment:
    """An object of a class in the upper left quarter, with one feature vector inside and another outside."""
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[: size // 2, : size // 2] = True
    inside, outside = (torch.tensor(vector, dtype=torch.float64) for vector in features)
    maps = outside[:, None, None].repeat(1, 4, 4)
    maps[:, :2, :2] = inside[:, None, None]
    return Segment(maps, mask, torch.where(mask, name, 0))


GALLERY = [picture(DOG, ([2.0, 0.0], [0.0, 1.0])), picture(CAT, ([0.0, 3.0], [1.0, 0.0]))]


def test_by_hand():
    """A dog that looks like the gallery's dog, and a cat that looks like the dog too."""
    queries = [picture(DOG, ([1.0, 0.1], [0.0, 9.0])), picture(CAT, ([5.0, 0.2], [0.0, 9.0]))]
    result = segment_retrieval(queries, GALLERY)
    assert result.iou == {0: 1.0, DOG: 16 / 32, CAT: 0.0}
    assert (result.mean_iou, result.n_query, result.n_gallery, result.without) == (0.5, 2, 2, 0)
    assert segment_retrieval(queries, GALLERY, classes=[DOG]).mean_iou == 0.5


def test_a_row_weighs_cells_by_their_share_inside_the_mask():
    maps, mask = torch.randn(5, 4, 3, dtype=torch.float64), torch.rand(16, 9) < 0.4
    total = torch.zeros(5, dtype=torch.float64)
    for row in range(16):
        for column in range(9):
            if mask[row, column]:
                total += maps[:, row // 4, column // 3]
    torch.testing.assert_close(segment_row(maps, mask), total / total.norm(), rtol=1e-12, atol=1e-12)
    assert torch.equal(segment_row(maps, torch.zeros(16, 9, dtype=torch.bool)), torch.zeros(5, dtype=torch.float64))


def test_the_class_is_the_most_frequent_inside_without_background_and_unlabeled_pixels():
    truth = torch.tensor([[0, 0, 0, 0], [255, 255, 255, 255], [DOG, CAT, CAT, DOG], [DOG, DOG, DOG, DOG]])
    mask = torch.tensor([[True] * 4, [True] * 4, [True, True, True, False], [False] * 4])
    assert segment_class(truth, mask) == CAT
    mask[2, 3] = True
    assert segment_class(truth, mask) == CAT  # twice each: the highest
    mask[3] = True
    assert segment_class(truth, mask) == DOG
    assert segment_class(truth, torch.zeros_like(mask)) is None
    assert segment_class(truth[:2], mask[:2]) is None


def noise(count: int, seed: int) -> list[Segment]:
    draw = torch.Generator().manual_seed(seed)
    segments = []
    for _ in range(count):
        truth = torch.randint(0, 4, (12, 12), generator=draw)
        truth[torch.rand(12, 12, generator=draw) < 0.1] = 255
        mask = torch.rand(12, 12, generator=draw) < 0.3
        segments.append(Segment(torch.randn(6, 3, 3, dtype=torch.float64, generator=draw), mask, truth))
    return segments


def test_it_is_a_loop_over_pixels():
    gallery, queries = noise(7, 0), noise(9, 1)
    both, either = dict.fromkeys(range(4), 0), dict.fromkeys(range(4), 0)
    for query in queries:
        row = segment_row(query.features, query.mask)
        cosine = [math.fsum(x * y for x, y in zip(row.tolist(), other, strict=True)) for other in rows_of(gallery)]
        nearest = gallery[max(range(7), key=cosine.__getitem__)]
        named = segment_class(nearest.truth, nearest.mask)
        for inside, true in zip(query.mask.flatten().tolist(), query.truth.flatten().tolist(), strict=True):
            said = named if inside else 0
            for c in range(4):
                if true != 255:
                    both[c] += said == c == true
                    either[c] += c in (said, true)
    expected = {c: both[c] / either[c] for c in range(4)}
    found = segment_retrieval(queries, gallery)
    assert found.iou == pytest.approx(expected, abs=1e-12)
    assert found.mean_iou == pytest.approx(sum(expected.values()) / 4, abs=1e-12)


def test_samples_of_the_queries_by_loops():
    """Queries 0 and 1, 2 and 3 ... are one image; a sample takes or leaves them together."""
    gallery, queries = noise(7, 0), noise(8, 1)
    result = segment_retrieval(queries, gallery).of([1, 2, 3])
    assert list(result.iou) == [1, 2, 3]
    alone = [segment_retrieval(queries[2 * g : 2 * g + 2], gallery, classes=[1, 2, 3]) for g in range(4)]
    draws = result.resampled(torch.arange(8) // 2, seed=3, draws=20)
    generator, expected = random.generator("bootstrap of groups", 3), []
    for _ in range(20):
        chosen = torch.randint(4, (4,), generator=generator).tolist()
        sums = [[sum(int(part[g].sum(0)[k]) for g in chosen) for k in range(3)] for part in parts(alone)]
        shares = [both / either for both, either in zip(*sums, strict=True) if either]
        expected.append(sum(shares) / len(shares))
    assert draws.tolist() == pytest.approx(expected, abs=1e-12)
    assert torch.equal(result.resampled(seed=3, draws=5), result.resampled(torch.arange(8), seed=3, draws=5))
    with pytest.raises(ValueError, match="groups of 3 queries are given, and there were 8"):
        result.resampled(torch.arange(3))


def parts(results):
    """Pixels of each group, both and either, with a column for each of the classes 1, 2 and 3."""
    for name in ("both", "either"):
        yield [columns(result, getattr(result, name)) for result in results]


def columns(result, pixels):
    found = torch.zeros(len(pixels), 3, dtype=torch.int64)
    found[:, [c - 1 for c in result.iou]] = pixels
    return found


def rows_of(gallery):
    return [segment_row(segment.features, segment.mask).tolist() for segment in gallery]


def test_the_scale_of_features_and_the_order_of_the_gallery_mean_nothing():
    gallery, queries = noise(7, 0), noise(9, 1)
    larger = [segment._replace(features=7 * segment.features) for segment in reversed(gallery)]
    assert segment_retrieval(queries, larger) == segment_retrieval(queries, gallery)


def test_gallery_images_without_an_object_are_counted_and_left_out():
    empty = GALLERY[0]._replace(mask=torch.zeros(8, 8, dtype=torch.bool))
    nameless = GALLERY[1]._replace(truth=torch.zeros(8, 8, dtype=torch.int64))
    result = segment_retrieval(GALLERY, [empty, *GALLERY, nameless])
    assert (result.without, result.n_gallery, result.mean_iou) == (2, 2, 1.0)
    with pytest.raises(ValueError, match="none of the 1 gallery images has an object"):
        segment_retrieval(GALLERY, [empty])


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"a mask of \(8, 8\) pixels lies on classes of \(4, 4\)"):
        segment_retrieval(GALLERY, [GALLERY[0]._replace(truth=torch.zeros(4, 4, dtype=torch.int64))])
    with pytest.raises(ValueError, match="classes run from 0 to 900"):
        segment_retrieval([GALLERY[0]._replace(truth=300 * GALLERY[0].truth)], GALLERY)
    with pytest.raises(ValueError, match="0 query images show none of the classes"):
        segment_retrieval([], GALLERY)
    with pytest.raises(ValueError, match="2 query images show none of the classes"):
        segment_retrieval(GALLERY, GALLERY, classes=[77])
