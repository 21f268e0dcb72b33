"""Boxes by torchvision's rule, and resampling equal to torchvision's bit for bit."""

import math

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as T
import torchvision.transforms.v2.functional as F
from PIL import Image
from torchvision_reference import photo

from lookalike.transforms import CenterCrop, RandomResizedCrop, Resize
from lookalike.transforms.geometry import (
    SMALL,
    Draws,
    Region,
    _weights,
    products_fit,
    random_box,
    resample,
    resample_float,
    resample_together,
)

RATIO = (3 / 4, 4 / 3)


def draws(areas, ratios, across=0.0, down=0.0):
    return Draws(areas, [math.log(ratio) for ratio in ratios], across, down)


def test_box_of_the_first_try_that_fits():
    # 0.5 of 100 x 200: 10,000 pixels; at ratio 1 a box of 100 x 100
    assert random_box(draws([0.5], [1.0], across=0.999, down=0.999), 100, 200, RATIO) == (100, 0, 100, 100)
    # the first try needs 115 rows of 100 and is passed over, the second, 0.4 at 4/3, is 103 x 77
    assert random_box(draws([0.5, 0.4], [0.75, 4 / 3]), 100, 200, RATIO) == (0, 0, 103, 77)


def test_place_of_a_box_is_uniform_over_the_room_it_has():
    lefts = [random_box(draws([0.25], [1.0], across=u), 8, 8, RATIO)[0] for u in (0.0, 0.19, 0.2, 0.61, 0.999)]
    assert lefts == [0, 0, 1, 3, 4]  # a box of 4 in 8: five places


def test_without_a_fitting_try_the_largest_central_box_of_the_ratio():
    assert random_box(draws([1.0], [1.0]), 30, 300, RATIO) == (130, 0, 40, 30)
    assert random_box(draws([1.0], [1.0]), 300, 30, RATIO) == (0, 130, 30, 40)
    assert random_box(draws([1.0], [4 / 3]), 50, 50, RATIO) == (0, 0, 50, 50)
    assert random_box(draws([1.0], [1.0]), 1, 9, (0.01, 0.02)) == (4, 0, 1, 1)


@pytest.mark.parametrize("size", [(64, 80), (20, 120)], ids=["photo", "strip, where tries fail"])
def test_boxes_have_torchvisions_distribution(size):
    count = 6000
    crop = RandomResizedCrop(32, scale=(0.08, 1.0))
    values = crop.draw(torch.rand(count, crop.columns, dtype=torch.float64))
    regions = crop.regions(values, [size] * count)
    ours = torch.tensor([region[:4] for region in regions], dtype=torch.float64)
    torchvisions = T.RandomResizedCrop(32, scale=(0.08, 1.0))
    image = torch.empty(1, *size, dtype=torch.uint8)
    drawn = [torchvisions.make_params([image]) for _ in range(count)]
    theirs = torch.tensor([[d["left"], d["top"], d["width"], d["height"]] for d in drawn], dtype=torch.float64)
    for moment in (lambda x: x, lambda x: (x - theirs.mean(0)) ** 2, lambda x: x[:, [2]] * x[:, [3]]):
        a, b = moment(ours), moment(theirs)
        error = ((a.var(0) + b.var(0)) / count).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() < 5 * error).all()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("box", [(2, 3, 25, 20), (0, 0, 60, 44), (7, 7, 1, 1), (10, 4, 32, 32)])
def test_resampling_is_torchvisions_bit_for_bit(box, mode):
    image = photo(3, 44, 60)
    left, top, width, height = box
    for size in (32, 17, 96):
        ours = resample(image, Region(*box, size, size, mode))
        theirs = F.resized_crop(
            image, top, left, height, width, [size, size], interpolation=F.InterpolationMode(mode), antialias=True
        )
        assert torch.equal(ours, theirs)


def test_nothing_outside_the_box_counts():
    image, other = photo(3, 44, 60), 255 - photo(3, 44, 60)
    other[:, 5:35, 10:50] = image[:, 5:35, 10:50]
    region = Region(10, 5, 40, 30, 16, 16, "bicubic")
    assert torch.equal(resample(image, region), resample(other, region))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_resampling_is_the_same_bits_for_any_layout_and_number_of_threads(mode, channels, threads):
    image = photo(channels, 250, 333)
    interleaved = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # as decoders give it
    region = Region(11, 7, 300, 201, 224, 224, mode)
    results = []
    for count in (1, 2):
        threads(count)
        results += [resample(image, region), resample(interleaved, region)]
    assert all(torch.equal(result, results[0]) for result in results)
    for channel in range(channels):
        assert torch.equal(resample(image[channel : channel + 1], region)[0], results[0][channel])


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [32, 224])
def test_resampling_is_pillows_within_one_level(mode, size):
    image = photo(3, 90, 120)
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    theirs = picture.crop((20, 10, 110, 90)).resize((size, size), Image.Resampling[mode.upper()])
    ours = resample(image, Region(20, 10, 90, 80, size, size, mode))
    assert (ours.permute(1, 2, 0).int() - torch.from_numpy(np.array(theirs, dtype=np.int32))).abs().max() <= 1


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_float_resampling_is_within_one_level_where_no_cubic_overshoot_is_clipped(mode):
    image = 40 + photo(3, 90, 120) // 2
    for size in (32, 224):
        ours = resample(image, Region(0, 0, 120, 90, size, size, mode)).int()
        assert (ours - resample_float(image, (size, size), mode).int()).abs().max() <= 1


@pytest.mark.parametrize("size", [(40, 57), (57, 40), (33, 33), (32, 32), (20, 31), (5, 64)])
def test_resize_and_center_crop_are_torchvisions(size):
    image = photo(3, *size)
    (resized,) = Resize(32).regions({}, [size])
    ours = resample(image, resized)
    assert torch.equal(ours, F.resize(image, [32], antialias=True))
    (center,) = CenterCrop(32).regions({}, [(resized.out_height, resized.out_width)])
    assert torch.equal(resample(ours, center), F.center_crop(ours, [32, 32]))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(32, 32), (28, 40), (40, 7)])
def test_resampling_together_is_resampling_one_by_one_bit_for_bit(mode, size):
    height, width = size
    noise = torch.randint(0, 256, (height * width, 3, height, width), dtype=torch.uint8)
    noise[::2] = (noise[::2] > 127) * 255  # edges from black to white: the largest sums
    corners = [(w, h) for w in range(1, width + 1) for h in range(1, height + 1)]
    for out_width, out_height in ((32, 32), (20, 24), (64, 33)):
        boxes = [(w, h) for w, h in corners if w < 2 * out_width and h < 2 * out_height]
        regions = [
            Region((7 * h) % (width - w + 1), (5 * w) % (height - h + 1), w, h, out_width, out_height, mode)
            for w, h in boxes
        ]
        images = noise[: len(regions)]
        assert products_fit(list(images), regions)
        together = resample_together(images, regions)
        for image, region, ours in zip(images, regions, together, strict=True):
            assert torch.equal(ours, resample(image, region)), region


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_sums_of_products_are_exact_in_float32(mode):
    for out in range(1, 65):
        for length in range(1, min(SMALL + 1, 2 * out)):
            weights = _weights(length, 0, length, out, mode)
            steps = next(bits for bits in range(23) if torch.equal((weights * 2**bits).round(), weights * 2**bits))
            largest = weights.clamp(min=0).sum(1).max() * 255 + 0.5  # whatever the order, no partial sum is larger
            assert largest * 2**steps < 2**24, (length, out)


def test_products_are_used_only_where_they_are_exact():
    images = [photo(3, 32, 32), photo(3, 32, 32)]
    region = Region(0, 0, 32, 32, 17, 17)
    assert products_fit(images, [region, region])
    assert not products_fit([images[0], photo(3, 32, 31)], [region, region])
    assert not products_fit([photo(3, 41, 32)], [region])
    assert not products_fit(images, [region, Region(0, 0, 32, 32, 17, 17, "bicubic")])
    assert not products_fit(images, [Region(0, 0, 32, 32, 17, 16)] * 2)  # too coarse: sums may pass 2^24
    with torch.autocast("cpu", torch.bfloat16):
        assert not products_fit(images, [region, region])
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")  # products in bfloat16, where the machine has them
        assert not products_fit(images, [region, region])
    finally:
        torch.set_float32_matmul_precision(before)
