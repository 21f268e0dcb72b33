"""Transforms refuse what cannot be meant, and draw what they promise."""

import re
from itertools import permutations

import pytest
import torch

from lookalike.transforms import (
    AutoAugment,
    CenterCrop,
    ColorJitter,
    Either,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    OverlappingCrop,
    RandomResizedCrop,
    Resize,
    Solarize,
)


@pytest.mark.parametrize(
    ("make", "seen"),
    [
        (lambda: RandomResizedCrop(0), "got 0"),
        (lambda: Resize(-3), "got -3"),
        (lambda: CenterCrop(5000), "got 5000"),
        (lambda: RandomResizedCrop(32, scale=(0.0, 1.0)), "got (0.0, 1.0)"),
        (lambda: RandomResizedCrop(32, scale=(0.5, 1.2)), "got (0.5, 1.2)"),
        (lambda: RandomResizedCrop(32, scale=(0.9, 0.2)), "got (0.9, 0.2)"),
        (lambda: RandomResizedCrop(32, ratio=(2.0, 0.5)), "got (2.0, 0.5)"),
        (lambda: RandomResizedCrop(32, interpolation="lanczos"), "'bilinear' or 'bicubic', got 'lanczos'"),
        (lambda: Resize(32, interpolation="nearest"), "got 'nearest'"),
        (lambda: HorizontalFlip(p=1.5), "got 1.5"),
        (lambda: Grayscale(p=-0.1), "got -0.1"),
        (lambda: ColorJitter(0.4, 0.4, 0.4, 0.6), "hue=0.6"),
        (lambda: ColorJitter(0.4, -0.4, 0.4, 0.1), "contrast=-0.4"),
        (lambda: ColorJitter(0.4, 0.4, 0.4, 0.1, p=2.0), "got 2.0"),
        (lambda: GaussianBlur(sigma=(0.0, 2.0)), "got (0.0, 2.0)"),
        (lambda: GaussianBlur(sigma=(2.0, 1.0)), "got (2.0, 1.0)"),
        (lambda: GaussianBlur(kernel=22), "got 22"),
        (lambda: GaussianBlur(kernel=-1), "got -1"),
        (lambda: Solarize(threshold=128.0), "got 128.0"),
        (lambda: Solarize(p=float("nan")), "got nan"),
        (lambda: AutoAugment(p=1.1), "got 1.1"),
        (lambda: Either((), (), p=-1.0), "got -1.0"),
        (lambda: OverlappingCrop(RandomResizedCrop(8), "key", RandomResizedCrop(8), overlap=2.0), "got 2.0"),
    ],
)
def test_a_mistake_is_refused_with_the_value_seen(make, seen):
    with pytest.raises(ValueError, match=re.escape(seen)) as error:
        make()
    assert "\n" not in str(error.value)


def test_center_crop_of_a_smaller_image_asks_for_a_resize():
    with pytest.raises(ValueError, match=r"CenterCrop\(32\) does not fit into 40 x 31 pixels"):
        CenterCrop(32).regions({}, [(40, 40), (40, 31)])


def uniform(transform, count=20_000):
    return torch.rand(count, transform.columns, dtype=torch.float64)


@pytest.mark.parametrize("p", [0.0, 0.2, 1.0])
@pytest.mark.parametrize(
    "make",
    [HorizontalFlip, Grayscale, GaussianBlur, Solarize, lambda p: ColorJitter(0.4, 0.4, 0.4, 0.1, p=p)],
)
def test_chance_to_apply(make, p):
    transform = make(p=p)
    rate = transform.draw(uniform(transform))["applies"].double().mean().item()
    assert abs(rate - p) <= 5 * (p * (1 - p) / 20_000) ** 0.5


def test_crop_draws_areas_evenly_and_ratios_evenly_in_their_logarithm():
    crop = RandomResizedCrop(32, scale=(0.2, 0.6), ratio=(0.5, 2.0))
    values = crop.draw(uniform(crop))
    for name, low, high in (("areas", 0.2, 0.6), ("log_ratios", -0.6931, 0.6931), ("across", 0, 1), ("down", 0, 1)):
        x = (values[name] - low) / (high - low)
        assert x.min() >= -1e-4
        assert x.max() <= 1 + 1e-4
        for quantile in (0.1, 0.5, 0.9):
            assert abs((x < quantile).double().mean() - quantile) < 0.015


def test_jitter_draws_factors_in_their_ranges_and_every_order_equally_often():
    jitter = ColorJitter(0.4, 0.8, 1.5, 0.1)
    values = jitter.draw(uniform(jitter))
    ends = torch.tensor([[0.6, 1.4], [0.2, 1.8], [0.0, 2.5], [-0.1, 0.1]])
    for number, (low, high) in enumerate(ends.tolist()):
        amounts = values["amounts"][:, number]
        assert low <= amounts.min() < low + 0.01
        assert high - 0.01 < amounts.max() <= high
        assert abs(amounts.mean() - (low + high) / 2) < 0.02
    counts = [int((values["order"] == torch.tensor(order)).all(1).sum()) for order in permutations(range(4))]
    assert sum(counts) == 20_000
    assert sum((count - 20_000 / 24) ** 2 / (20_000 / 24) for count in counts) < 60  # chi-square, 23 degrees


def test_blur_draws_sigma_evenly():
    blur = GaussianBlur(sigma=(0.1, 2.0))
    sigma = blur.draw(uniform(blur))["sigma"]
    assert 0.1 <= sigma.min() < 0.102
    assert 1.998 < sigma.max() <= 2.0
    assert abs(sigma.mean() - 1.05) < 0.02
