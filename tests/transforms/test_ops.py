"""Each operation on pixels against torchvision, Pillow or a slow loop, and row by row to the last bit."""

import math

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as F
from PIL import Image, ImageFilter
from torchvision_reference import JITTERS, photo

from lookalike.transforms import ops

AMOUNTS = torch.tensor([0.2, 0.7, 1.0, 1.3, 1.8], dtype=torch.float64)
TURNS = torch.tensor([-0.5, -0.2, 0.0, 0.13, 0.5], dtype=torch.float64)
SIGMAS = torch.tensor([0.1, 0.4, 0.9, 1.5, 2.0], dtype=torch.float64)


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("number", range(4), ids=["brightness", "contrast", "saturation", "hue"])
@pytest.mark.parametrize("channels", [1, 3])
def test_jitters_are_torchvisions_with_an_amount_for_each_row(number, size, channels):
    x = photo(channels, size, size, count=5).float()
    amounts = TURNS if number == 3 else AMOUNTS
    ours = ops.JITTERS[number](x.clone(), amounts)
    for row in range(5):
        theirs = JITTERS[number](x[row] / 255, amounts[row].item()) * 255
        assert (ours[row] - theirs).abs().max() < 0.01  # of 255 levels; the mean gray is of levels in sixteenths


def test_hue_of_every_sector_and_of_black_white_and_gray():
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0, 90.0, 254.0, 255.0])] * 3)  # ties, extremes, all orders
    x = corners.T.reshape(1, 3, 5, 25)
    for turn in (-0.5, -1 / 6, 0.0, 0.25, 1 / 3, 0.5):
        theirs = F.adjust_hue(x[0] / 255, turn) * 255
        assert (ops.hue_(x.clone(), torch.tensor([turn]))[0] - theirs).abs().max() < 1e-3


def test_color_jitter_follows_each_rows_own_order():
    x = photo(3, 24, 24, count=24).float()
    order = torch.stack([torch.randperm(4) for _ in range(24)])
    amounts = torch.stack([AMOUNTS[torch.randint(5, (24,))] for _ in range(3)] + [TURNS[torch.randint(5, (24,))]], 1)
    ours = ops.color_jitter_(x.clone(), order, amounts)
    for row in range(24):
        theirs = x[row] / 255
        for number in order[row].tolist():
            theirs = JITTERS[number](theirs, amounts[row, number].item())
        assert (ours[row] - 255 * theirs).abs().max() < 0.05


def test_grayscale_and_solarize_are_torchvisions():
    x = photo(3, 40, 40, count=2).float()
    for row in range(2):
        assert (ops.grayscale(x)[row] - 255 * F.rgb_to_grayscale(x[row] / 255, 3)).abs().max() < 1e-3
        for threshold in (0.0, 0.5, 1.0):
            theirs = 255 * F.solarize(x[row] / 255, threshold)
            assert (ops.solarize(x, threshold)[row] - theirs).abs().max() < 1e-3


def test_mean_of_levels():
    x = photo(3, 37, 53, count=4).float() / 3
    exact = x.double().mean((-1, -2))
    assert (ops.channel_means(x) - exact).abs().max() < 0.5 / 16


def test_mean_of_the_widest_white_row_is_exact():
    assert ops.channel_means(torch.full((1, 1, 2, ops.WIDEST), 255.0)).item() == 255


@pytest.mark.parametrize(("size", "kernel"), [(32, 3), (32, None), (96, 23), (224, 23), (224, None)])
def test_blur_is_torchvisions_with_a_sigma_for_each_row(size, kernel):
    x = photo(3, size, size, count=5).float()
    ours = ops.gaussian_blur(x, SIGMAS, kernel)
    for row, sigma in enumerate(SIGMAS.tolist()):
        taps = kernel or 2 * math.ceil(6 * sigma) + 1
        theirs = F.gaussian_blur(x[row], [taps, taps], [sigma, sigma])
        assert (ours[row] - theirs).abs().max() < 0.06  # what lies beyond 4 sigma


def test_blur_by_a_loop_over_pixels_and_taps():
    x = photo(1, 6, 7).double()[None]
    sigma, reach = 0.8, 4
    weight = [math.exp(-(step**2) / (2 * sigma**2)) for step in range(-reach, reach + 1)]
    mirror = lambda i, n: abs(i) if i < n else 2 * (n - 1) - i  # noqa: E731
    expected = torch.zeros(6, 7, dtype=torch.float64)
    for row in range(6):
        for column in range(7):
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    pixel = x[0, 0, mirror(row + dy, 6), mirror(column + dx, 7)]
                    expected[row, column] += weight[dy + reach] * weight[dx + reach] * pixel / sum(weight) ** 2
    ours = ops.gaussian_blur(x, torch.tensor([sigma]))
    assert (ours[0, 0] - expected).abs().max() < 1e-5


def test_blur_without_bound_is_close_to_pillows():
    pixels = photo(3, 96, 96)
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    for sigma in (0.1, 0.5, 1.0, 1.5, 2.0):
        theirs = np.asarray(picture.filter(ImageFilter.GaussianBlur(sigma)), dtype=np.float32)
        ours = ops.gaussian_blur(pixels.float()[None], torch.tensor([sigma]))[0].permute(1, 2, 0).numpy()
        assert np.abs(ours - theirs)[8:-8, 8:-8].mean() < 0.75  # Pillow: three box blurs in 8 bits; other borders


def test_blur_of_many_images_is_that_of_each() -> None:
    x, sigmas = 255 * torch.rand(60, 3, 32, 32), torch.linspace(0.1, 2.5, 60)[torch.randperm(60)]
    assert x.numel() > 2 * ops.CACHED  # so that they are blurred in several parts
    alone = [ops.gaussian_blur(x[row : row + 1], sigmas[row : row + 1]) for row in range(60)]
    assert torch.equal(ops.gaussian_blur(x, sigmas), torch.cat(alone))


def test_blur_wider_than_the_image_stays_inside_its_levels():
    x = photo(3, 4, 4, count=2).float()
    y = ops.gaussian_blur(x, torch.tensor([2.0, 9.0]))
    assert (y.amax((-1, -2)) <= x.amax((-1, -2)) + 1e-3).all()
    assert (y.amin((-1, -2)) >= x.amin((-1, -2)) - 1e-3).all()
    one = torch.full((1, 1, 1, 1), 7.0)
    assert torch.equal(ops.gaussian_blur(one, torch.tensor([2.0])), one)


def test_levels_are_rounded_to_the_nearest():
    x = torch.tensor([0.0, 0.4, 0.6, 127.49, 127.51, 254.7, 255.0]).view(1, 1, 1, -1)
    assert ops.rounded(x).flatten().tolist() == [0, 0, 1, 127, 128, 255, 255]


@pytest.mark.parametrize("size", [31, 32, 120])
@pytest.mark.parametrize(
    "operation",
    [
        lambda x, n: ops.brightness_(x.clone(), AMOUNTS.repeat(9)[n]),
        lambda x, n: ops.contrast_(x.clone(), AMOUNTS.repeat(9)[n]),
        lambda x, n: ops.saturation_(x.clone(), AMOUNTS.repeat(9)[n]),
        lambda x, n: ops.hue_(x.clone(), TURNS.repeat(9)[n]),
        lambda x, n: ops.gaussian_blur(x, SIGMAS.repeat(9)[n], 23),
        lambda x, n: ops.gaussian_blur(x, SIGMAS.repeat(9)[n]),
        lambda x, n: ops.grayscale(x),
        lambda x, n: ops.solarize(x, 0.5),
    ],
    ids=["brightness", "contrast", "saturation", "hue", "blur 23", "blur", "gray", "solarize"],
)
def test_a_row_is_the_same_bits_in_any_company_and_for_any_number_of_threads(operation, size, threads):
    count = 11
    x = photo(3, size, size, count=count).float() * 0.737  # fractions of levels, as inside a chain
    every = torch.arange(count)
    whole = operation(x, every)
    for row in range(count):
        assert torch.equal(operation(x[row : row + 1].clone(), every[row : row + 1]), whole[row : row + 1])
    assert torch.equal(operation(x[3:10], every[3:10]), whole[3:10])
    assert torch.equal(operation(x.contiguous(memory_format=torch.channels_last), every), whole)
    threads(2)
    assert torch.equal(operation(x, every), whole)


@pytest.mark.parametrize("channels", [2, 4])
def test_color_is_refused_where_there_is_none(channels):
    x = photo(channels, 8, 8, count=1).float()
    with pytest.raises(ValueError, match=f"got {channels} channels"):
        ops.grayscale(x)
    with pytest.raises(ValueError, match=f"got {channels} channels"):
        ops.color_jitter_(x.clone(), torch.arange(4)[None], torch.ones(1, 4))
