"""Perceptual hashes and color histograms: by hand, against scipy, and what they do not see."""

import numpy as np
import pytest
import scipy.fft
import torch
from torch.nn.functional import normalize

from lookalike.evaluation import ColorHistogram, DifferenceHash, PerceptualHash


def test_phash_is_the_signs_of_the_slow_waves_around_their_median():
    gray = torch.randint(0, 256, (3, 1, 32, 32), dtype=torch.uint8)
    rows = PerceptualHash()(gray)
    for image, row in zip(gray[:, 0].numpy(), rows.numpy(), strict=True):
        slow = scipy.fft.dct(scipy.fft.dct(image.astype(float), axis=0), axis=1)[:8, :8]
        np.testing.assert_array_equal(row.reshape(8, 8) > 0, slow > np.median(slow))
    assert set(rows.unique().tolist()) == {-1.0, 1.0}


def test_phash_of_a_known_picture():
    down, right = np.mgrid[:32, :32]
    ramp = torch.from_numpy((4 * down + 3 * right).astype(np.uint8))[None, None]
    bits = (PerceptualHash()(ramp).view(8, 8) > 0).int()
    # a ramp is made of the constant and of odd waves along each edge, all but the constant falling
    assert bits[0, 0] == 1
    assert bits[0, [1, 3, 5, 7]].tolist() == bits[[1, 3, 5, 7], 0].tolist() == [0, 0, 0, 0]


def test_dhash_by_hand():
    image = torch.arange(9, dtype=torch.uint8).repeat(8, 1)[None, None] * 20
    assert torch.equal(DifferenceHash()(image), torch.ones(1, 64))
    assert torch.equal(DifferenceHash()(image.flip(-1)), -torch.ones(1, 64))
    step = torch.zeros(1, 1, 8, 9, dtype=torch.uint8)
    step[..., 4:] = 200
    assert (DifferenceHash()(step).view(8, 8) > 0).nonzero()[:, 1].unique().tolist() == [3]


@pytest.mark.parametrize("module", [PerceptualHash(), DifferenceHash()])
def test_the_cosine_counts_differing_bits_and_brightness_changes_none(module):
    images = torch.randint(40, 180, (4, 3, 64, 48), dtype=torch.uint8)
    rows = module(images)
    assert torch.equal(module(images + 20), rows)
    differing = (rows[0] != rows[1]).sum()
    assert float(normalize(rows[:1]) @ normalize(rows[1:2]).T) == pytest.approx(1 - 2 * int(differing) / 64)
    assert differing > 8


def test_a_histogram_counts_colors_wherever_they_are():
    image = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    image[:, 0, :, :1] = 255  # a quarter is red
    row = ColorHistogram()(image)[0]
    assert row[0] == pytest.approx(np.sqrt(3 / 4))
    assert row[7 * 64] == pytest.approx(np.sqrt(1 / 4))
    assert float(row.norm()) == pytest.approx(1)
    assert torch.equal(ColorHistogram()(image.flip(-1))[0], row)
    assert ColorHistogram()(torch.full((1, 1, 2, 2), 0.99)).tolist() == [[0, 0, 0, 0, 0, 0, 0, 1]]


def test_floats_and_bytes_are_the_same_picture():
    images = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
    for module in (PerceptualHash(), DifferenceHash(), ColorHistogram()):
        assert torch.equal(module(images), module(images.float() / 255))
