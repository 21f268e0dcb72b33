"""AutoAugment is torchvision's, operation by operation; its parameters are ours; Either takes one branch per row."""

import math

import pytest
import torch
import torchvision.transforms.functional as F
from torchvision_reference import photo

from lookalike.transforms import (
    AutoAugment,
    ColorJitter,
    Either,
    HorizontalFlip,
    RandomResizedCrop,
    Solarize,
    Views,
)

PIXELS = photo(3, 32, 32, count=64).float()


def drawn(policy: int, chances=(0.0, 0.0), signs=(1, 1), rows: int = 1):
    return {
        "policy": torch.tensor([policy] * rows),
        "chances": torch.tensor([chances] * rows, dtype=torch.float64),
        "signs": torch.tensor([signs] * rows),
    }


def changed(x, values):
    return AutoAugment().change(x, values)


def test_pairs_of_operations_by_hand():
    """Numbers 0, 4 and 18 of the ImageNet policy (Cubuk et al. 2019, table 9), the operations one by one."""
    image = PIXELS[:1].to(torch.uint8)
    turned = F.rotate(F.posterize(image, 4), -30.0)
    assert torch.equal(changed(PIXELS[:1], drawn(0, signs=(1, 0))).to(torch.uint8), turned)
    assert torch.equal(changed(PIXELS[:1], drawn(4)).to(torch.uint8), F.solarize(F.equalize(image), 255 * 5 / 9))
    sheared = F.affine(image, 0.0, [0, 0], 1.0, [math.degrees(0.3 * 5 / 9), 0.0], center=[0, 0])
    assert torch.equal(changed(PIXELS[:1], drawn(18)).to(torch.uint8), F.equalize(sheared))


def test_an_operation_is_left_out_above_its_chance():
    image = PIXELS[:1].to(torch.uint8)
    assert torch.equal(changed(PIXELS[:1], drawn(0, (0.41, 0.61))), PIXELS[:1])
    assert torch.equal(changed(PIXELS[:1], drawn(0, (0.39, 0.61))).to(torch.uint8), F.posterize(image, 4))
    assert torch.equal(changed(PIXELS[:1], drawn(0, (0.41, 0.59))).to(torch.uint8), F.rotate(image, 30.0))


def test_policies_chances_and_signs_are_drawn_evenly_and_not_from_the_global_generator():
    state = torch.random.get_rng_state()
    auto = AutoAugment(p=0.7)
    values = auto.draw(
        torch.rand(50_000, auto.columns, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    auto.change(PIXELS, {name: value[:64] for name, value in values.items()})
    assert torch.equal(torch.random.get_rng_state(), state)
    assert values["policy"].bincount(minlength=25).tolist() == pytest.approx([2000] * 25, rel=0.1)
    assert values["applies"].double().mean().item() == pytest.approx(0.7, abs=0.01)
    assert values["signs"].double().mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.01)
    assert values["chances"].mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.01)


def test_gray_images_have_no_color_to_lose_and_many_channels_are_refused():
    gray = PIXELS[:1, :1]
    assert torch.equal(changed(gray, drawn(10, (1.0, 0.0))), gray)  # Color
    with pytest.raises(ValueError, match="got 5 channels: leave it out of the views"):
        changed(torch.zeros(1, 5, 8, 8), drawn(0))


PLAN = {"a": (RandomResizedCrop(24), HorizontalFlip(), Either((AutoAugment(),), (ColorJitter(0.4, 0.4, 0.4, 0.1),)))}


def test_a_samples_pixels_are_the_same_bits_in_any_batch_and_number_of_threads(threads):
    views, images = Views(PLAN), photo(3, 40, 48, count=150)
    whole = views.render(images, views.draw(torch.arange(150), seed=0, epoch=(0, 0)))["a"]
    threads(2)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    mixed = views.render(images[order], views.draw(order, seed=0, epoch=(0, 0)))["a"]
    assert torch.equal(mixed, whole[order])
    threads(1)
    for row in range(0, 150, 10):
        alone = views.render([images[row]], views.draw(torch.tensor([row]), seed=0, epoch=(0, 0)))["a"]
        assert torch.equal(alone[0], whole[row])


def test_either_applies_one_branch_to_each_row_and_the_other_to_the_rest():
    either = Either((Solarize(0.0, p=1.0),), (HorizontalFlip(p=1.0), Solarize(0.0, p=0.0)), p=0.3)
    values = either.draw(torch.rand(64, either.columns, dtype=torch.float64))
    assert values["applies"].all()
    assert torch.equal(values["1/applies"], ~values["0/applies"])
    assert 0 < values["0/applies"].sum() < 64
    inverted = values["0/applies"].view(-1, 1, 1, 1)
    assert torch.equal(either.change(PIXELS.clone(), values), torch.where(inverted, 255 - PIXELS, PIXELS.flip(-1)))


@pytest.mark.parametrize(("p", "branch"), [(1.0, 0), (0.0, 1)])
def test_either_without_chance_is_one_branch(p, branch):
    branches = ((HorizontalFlip(p=1.0),), (Solarize(0.0, p=1.0),))
    either = Either(*branches, p=p)
    values = either.draw(torch.rand(64, either.columns, dtype=torch.float64))
    (change,) = branches[branch]
    assert torch.equal(either.change(PIXELS.clone(), values), change.change(PIXELS.clone(), {}))


def test_either_takes_its_first_branch_as_often_as_it_says():
    either = Either((AutoAugment(),), (HorizontalFlip(),), p=0.5)
    values = either.draw(torch.rand(20_000, either.columns, dtype=torch.float64))
    assert values["0/applies"].double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert values["1/applies"].double().mean().item() == pytest.approx(0.25, abs=0.02)
