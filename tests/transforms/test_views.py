"""Parameters are a pure function of what they are for; pixels of image and parameters, to the last bit."""

import pytest
import torch
from torchvision_reference import photo

from lookalike.transforms import (
    CenterCrop,
    ColorJitter,
    GaussianBlur,
    HorizontalFlip,
    RandomResizedCrop,
    Resize,
    Solarize,
    Views,
    byol_pair,
    eval_chain,
    simclr,
)

INDEX = torch.tensor([5, 0, 12_345_678_901, 7])


def values_of(parameters, row):
    return {
        (name, place, key): value[row].tolist()
        for name, transforms in parameters.views.items()
        for place, values in enumerate(transforms)
        for key, value in values.items()
    }


def test_a_samples_parameters_depend_on_its_own_index_alone():
    views = Views(simclr(32))
    together = views.draw(INDEX, seed=3, epoch=(1, 4))
    for row in range(4):
        alone = views.draw(INDEX[row : row + 1], seed=3, epoch=(1, 4))
        assert values_of(alone, 0) == values_of(together, row)


def test_parameters_differ_between_samples_epochs_phases_seeds_attempts_and_views():
    views = Views(simclr(32))
    drawn = [views.draw(INDEX, seed=3, epoch=(1, 4))]
    drawn += [views.draw(INDEX, seed=3, epoch=epoch) for epoch in ((1, 5), (2, 4), (4, 1))]
    drawn += [views.draw(INDEX, seed=4, epoch=(1, 4))]
    drawn += [views.draw(INDEX, seed=3, epoch=(1, 4), attempt=attempt) for attempt in (1, 2, -1)]
    areas = torch.cat([values[0]["areas"][:, 0] for parameters in drawn for values in parameters.views.values()])
    assert len(areas.unique()) == len(areas) == 8 * 2 * 4


def test_other_views_and_other_transforms_outcomes_change_nothing():
    flip, jitter, blur = HorizontalFlip(p=0.0), ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.0), GaussianBlur()
    small = Views({"b": (RandomResizedCrop(32), flip, jitter, blur)})
    large = Views({"a": eval_chain(8), "b": (RandomResizedCrop(96), HorizontalFlip(1.0), jitter, blur)})
    one = small.draw(INDEX, seed=0, epoch=(0, 0)).views["b"]
    two = large.draw(INDEX, seed=0, epoch=(0, 0), names=["b"])
    assert list(two.views) == ["b"]
    for place in (0, 2, 3):
        assert all(torch.equal(one[place][name], two.views["b"][place][name]) for name in one[place])


def test_the_numbers_drawn_never_change():
    """Written down once: a run resumed with a later version sees the views it would have seen."""
    views = Views(simclr(32))
    _, flip, jitter, _, blur = views.draw(torch.arange(12), seed=0, epoch=(0, 1)).views["view/1"]
    assert flip["applies"].int().tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0]
    assert jitter["order"][:3].tolist() == [[3, 1, 2, 0], [2, 0, 1, 3], [1, 3, 0, 2]]
    assert blur["sigma"][:2].tolist() == pytest.approx([0.22373171539511533, 1.7147516698343679], abs=1e-12)


PLAN = {
    **simclr(32, strength=1.0),
    "second": byol_pair(24)["view/2"],
    "wide": (RandomResizedCrop(40, (0.05, 0.14)), ColorJitter(0.4, 0.4, 0.4, 0.4, p=1.0), GaussianBlur(p=1.0)),
    "still": eval_chain(32),
}


@pytest.mark.parametrize(
    ("plan", "size", "count"),
    [(PLAN, (32, 32), 64), ({**simclr(224), "second": byol_pair(224)["view/2"]}, (200, 260), 6)],
    ids=["32 px", "224 px"],
)
def test_a_samples_pixels_are_the_same_bits_in_any_batch_container_and_number_of_threads(plan, size, count, threads):
    views = Views(plan)
    images = photo(3, *size, count=count)
    parameters = views.draw(torch.arange(count), seed=0, epoch=(0, 0))
    whole = views.render(images, parameters)
    for container in (list(images), images.contiguous(memory_format=torch.channels_last)):
        again = views.render(container, parameters)
        assert all(torch.equal(again[name], whole[name]) for name in plan)
    threads(2)
    again = views.render(images, parameters)
    assert all(torch.equal(again[name], whole[name]) for name in plan)
    threads(1)
    order = torch.randperm(count)
    mixed = views.render(images[order], views.draw(order, seed=0, epoch=(0, 0)))
    assert all(torch.equal(mixed[name], whole[name][order]) for name in plan)
    for row in range(0, count, 5):
        alone = views.render([images[row]], views.draw(torch.tensor([row]), seed=0, epoch=(0, 0)))
        assert all(torch.equal(alone[name][0], whole[name][row]) for name in plan)


def test_two_samples_of_the_same_image_get_different_pixels_and_so_do_two_epochs():
    views = Views(simclr(32))
    images = photo(3, 48, 48).expand(4, -1, -1, -1)
    pixels = torch.cat(
        [views.render(images, views.draw(INDEX, seed=0, epoch=epoch))["view/1"] for epoch in ((0, 0), (0, 1), (1, 0))]
    )
    assert len(pixels.flatten(1).unique(dim=0)) == 12


def test_images_of_different_sizes_in_one_list():
    views = Views({"view": (RandomResizedCrop(16), HorizontalFlip(1.0)), "still": eval_chain(16)})
    images = [photo(3, 20, 31), photo(3, 90, 17), photo(3, 16, 16)]
    parameters = views.draw(torch.arange(3), seed=0, epoch=(0, 0))
    pixels = views.render(images, parameters)
    for row, image in enumerate(images):
        alone = views.render([image], views.draw(torch.tensor([row]), seed=0, epoch=(0, 0)))
        assert torch.equal(pixels["view"][row], alone["view"][0])
    assert torch.equal(pixels["still"][2], images[2])


def test_rendering_leaves_the_images_alone():
    images = photo(3, 32, 32, count=8)
    before = images.clone()
    views = Views({"view": (CenterCrop(32), HorizontalFlip(), Solarize(p=0.5))})
    views.render(images, views.draw(torch.arange(8), seed=0, epoch=(0, 0)))
    assert torch.equal(images, before)


def test_a_chain_is_executed_in_the_order_given():
    """Solarize, then halve the levels, is not halve, then solarize."""
    dark = ColorJitter(0.999, 0.0, 0.0, 0.0, p=1.0)
    one = Views({"v": (CenterCrop(8), Solarize(p=1.0), dark)})
    two = Views({"v": (CenterCrop(8), dark, Solarize(p=1.0))})
    white = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    for sample in range(20):
        parameters = one.draw(torch.tensor([sample]), seed=0, epoch=(0, 0))
        factor = parameters.views["v"][2]["amounts"][0, 0].item()
        assert one.render(white, parameters)["v"].max() == 0  # inverted to black first
        parameters = two.draw(torch.tensor([sample]), seed=0, epoch=(0, 0))
        factor = parameters.views["v"][1]["amounts"][0, 0].item()
        level = min(255.0, 255 * factor)
        expected = 255 - level if level >= 127.5 else level
        assert abs(two.render(white, parameters)["v"].float().mean() - expected) <= 0.5


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_number_of_channels_is_cropped_flipped_blurred_and_solarized(channels):
    chain = (RandomResizedCrop(20), HorizontalFlip(), GaussianBlur(p=1.0), Solarize(p=0.5))
    views = Views({"view": chain})
    images = photo(channels, 30, 40, count=6)
    parameters = views.draw(torch.arange(6), seed=0, epoch=(0, 0))
    pixels = views.render(images, parameters)["view"]
    for channel in range(channels):
        assert torch.equal(views.render(images[:, [channel]], parameters)["view"][:, 0], pixels[:, channel])


def test_gray_images_jitter_in_brightness_and_contrast_like_equal_channels():
    views = Views({k: v for k, v in simclr(24).items() if k == "view/1"})
    gray = photo(1, 32, 32, count=12)
    parameters = views.draw(torch.arange(12), seed=0, epoch=(0, 0))
    one = views.render(gray, parameters)["view/1"].int()
    three = views.render(gray.expand(-1, 3, -1, -1), parameters)["view/1"].int()
    assert (one - three).abs().max() <= 1  # luma weights sum to 0.9999


def test_many_channels_have_no_color_to_jitter():
    views = Views(simclr(16))
    with pytest.raises(ValueError, match="got 5 channels: leave ColorJitter out"):
        views.render(photo(5, 20, 20, count=8), views.draw(torch.arange(8), seed=0, epoch=(0, 0)))


def test_boxes_are_where_the_pixels_come_from():
    """A view of an image whose levels are its coordinates shows its own box."""
    height, width = 200, 160
    x, y = (torch.arange(width) + 0.5) / width, (torch.arange(height) + 0.5) / height
    image = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width), torch.zeros(height, width)])
    image = (255 * image).round().to(torch.uint8)
    views = Views(
        {
            "crop": (RandomResizedCrop(64), HorizontalFlip()),
            "still": (Resize(100), CenterCrop(80)),
            "center": (CenterCrop(50),),
        }
    )
    parameters = views.draw(torch.arange(10), seed=0, epoch=(0, 0))
    pixels = views.render([image] * 10, parameters)
    boxes = views.boxes(parameters, [(height, width)] * 10)
    for name in ("crop", "still", "center"):
        centers = pixels[name].float().mean((-1, -2)) / 255
        box = boxes[name]
        assert ((box >= 0) & (box <= 1)).all()
        assert ((box[:, 0] + box[:, 2]) / 2 - centers[:, 0]).abs().max() < 0.01
        assert ((box[:, 1] + box[:, 3]) / 2 - centers[:, 1]).abs().max() < 0.01
        extent = (pixels[name].flatten(2).amax(-1).float() - pixels[name].flatten(2).amin(-1).float())[:, :2] / 255
        assert (box[:, 2:] - box[:, :2] - extent).abs().max() < 0.03
    flips = parameters.views["crop"][1]["applies"]
    assert flips.any()
    assert not flips.all()
    rising = pixels["crop"][:, 0, 0, -1] > pixels["crop"][:, 0, 0, 0]
    assert torch.equal(rising, ~flips)  # the box does not tell, the pixels do


def test_box_of_an_identity_is_the_whole_image():
    views = Views({"still": eval_chain(32)})
    parameters = views.draw(torch.arange(2), seed=0, epoch=(0, 0))
    assert views.boxes(parameters, [(32, 32), (32, 64)])["still"].tolist() == [[0, 0, 1, 1], [0.25, 0, 0.75, 1]]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({}, "at least one name"),
        ({"": eval_chain(8)}, "no name is empty"),
        ({"a": ()}, "got no transform"),
        ({"a": (HorizontalFlip(),)}, "must begin with its geometry"),
        ({"a": (HorizontalFlip(), RandomResizedCrop(8))}, "got HorizontalFlip, RandomResizedCrop"),
        ({"a": (Resize(8), HorizontalFlip())}, "RandomResizedCrop, Whole or CenterCrop last"),
        ({"a": (CenterCrop(8), HorizontalFlip(), CenterCrop(4))}, "have none later"),
    ],
)
def test_a_bad_plan_is_refused(plan, message):
    with pytest.raises(ValueError, match=message):
        Views(plan)


def test_bad_requests_are_refused():
    views = Views(simclr(16))
    with pytest.raises(ValueError, match="the views view/1, view/2, asked for were key"):
        views.draw(INDEX, seed=0, epoch=(0, 0), names=["key"])
    with pytest.raises(ValueError, match="asked for were none"):
        views.draw(INDEX, seed=0, epoch=(0, 0), names=[])
    parameters = views.draw(INDEX, seed=0, epoch=(0, 0), names=["view/2"])
    images = photo(3, 20, 20, count=4)
    with pytest.raises(ValueError, match="the views view/2, asked for were view/1"):
        views.render(images, parameters, names=["view/1"])
    with pytest.raises(ValueError, match="got 3 images for the parameters of 4"):
        views.render(images[:3], parameters)
    with pytest.raises(ValueError, match=r"uint8 pixels .* got torch.float32"):
        views.render(images.float(), parameters)
    with pytest.raises(ValueError, match=r"equally many channels, got torch.uint8 \(1, 20, 20\)"):
        views.render([*images[:3], images[3, :1]], parameters)
