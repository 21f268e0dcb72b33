"""The training view of edits: each sample by itself, other images where edits name them, nothing that is held out."""

import pytest
import torch
import torchvision.transforms.v2.functional as F
from PIL import Image
from torchvision_reference import photo

from lookalike.transforms import (
    ColorJitter,
    CopyEdits,
    GaussianBlur,
    RandomResizedCrop,
    Views,
    copy_edits,
    eval_chain,
)
from lookalike.transforms.edits import FAMILIES, HELD_OUT, composed, edited
from lookalike.transforms.geometry import resample
from lookalike.transforms.words import words

INDEX = torch.arange(24)
SCENES = tuple(name for name, family in FAMILIES.items() if family.others)
IMAGES = [photo(3, 40 + index % 5, 56 - index % 7, seed=index) for index in range(24)]
OTHERS = [photo(3, 30, 64, seed=100 + number) for number in range(6)]


def another(share: float) -> torch.Tensor:
    return OTHERS[int(share * len(OTHERS))]


def edits_of(views: Views, parameters) -> list:
    (step,) = [step for step in views.plan["edited"] if isinstance(step, CopyEdits)]
    return [step.edits(row) for row in parameters.views["edited"][-1]["numbers"].tolist()]


@pytest.mark.parametrize("images", [IMAGES, [image[:1] for image in IMAGES]], ids=["rgb", "gray"])
def test_a_samples_pixels_are_the_same_alone_in_any_batch_and_for_any_number_of_threads(images, threads) -> None:
    views = Views(copy_edits(32), others=another)
    parameters = views.draw(INDEX, seed=1, epoch=(0, 2))
    together = views.render(images, parameters)
    threads(2)
    for row in range(0, 24, 3):
        alone = views.draw(INDEX[row : row + 1], seed=1, epoch=(0, 2))
        for name, pixels in views.render(images[row : row + 1], alone).items():
            assert torch.equal(pixels[0], together[name][row])


def test_what_is_drawn_is_what_is_done() -> None:
    views = Views(copy_edits(32), others=another)
    parameters = views.draw(INDEX, seed=3, epoch=(0, 0))
    found = views.render(IMAGES, parameters)["edited"]
    boxes = views.plan["edited"][0].regions(parameters.views["edited"][0], [tuple(i.shape[1:]) for i in IMAGES])
    for row, edits in enumerate(edits_of(views, parameters)):
        cropped = Image.fromarray(resample(IMAGES[row], boxes[row]).permute(1, 2, 0).contiguous().numpy())
        by_hand = edited(cropped, edits, lambda share: Image.fromarray(another(share).permute(1, 2, 0).numpy()))
        by_hand = by_hand if by_hand.size == (32, 32) else by_hand.resize((32, 32), Image.Resampling.BILINEAR)
        assert bytes(found[row].permute(1, 2, 0).flatten().tolist()) == by_hand.tobytes()


def test_other_images_change_the_samples_that_name_them_and_no_others() -> None:
    views = {name: Views(copy_edits(32), others=others) for name, others in (("with", another), ("without", None))}
    parameters = views["with"].draw(INDEX, seed=0, epoch=(0, 0))
    one, two = (views[name].render(IMAGES, parameters)["edited"] for name in views)
    named = [any(edit.others for edit in edits) for edits in edits_of(views["with"], parameters)]
    assert 3 < sum(named) < 21
    for row, takes in enumerate(named):
        assert torch.equal(one[row], two[row]) is not takes


def test_edits_differ_between_samples_seeds_epochs_and_attempts() -> None:
    views = Views(copy_edits(32))
    drawn = [views.draw(INDEX, seed=seed, epoch=(0, epoch)) for seed, epoch in ((0, 0), (1, 0), (0, 1))]
    drawn += [views.draw(INDEX, seed=0, epoch=(0, 0), attempt=1)]
    rows = torch.cat([parameters.views["edited"][1]["numbers"] for parameters in drawn])
    assert len(rows.unique(dim=0)) == 4 * 24


def test_training_never_sees_what_is_held_out() -> None:
    views = Views(copy_edits(16))
    parameters = views.draw(torch.arange(3000), seed=5, epoch=(0, 0), names=["edited"])
    seen = {edit.family for edits in edits_of(views, parameters) for edit in edits}
    assert seen == set(FAMILIES) - set(HELD_OUT) - {"crop"}  # its crop is the view's own


def test_the_original_is_the_whole_image() -> None:
    views = Views(copy_edits(24))
    found = views.render(IMAGES, views.draw(INDEX, seed=0, epoch=(0, 0)), names=["original"])["original"]
    for row, image in enumerate(IMAGES):
        exact = F.resize(image, [24, 24], interpolation=F.InterpolationMode.BILINEAR, antialias=True)
        assert (found[row].int() - exact.int()).abs().max() <= 1
    square = photo(3, 24, 24)
    assert torch.equal(views.render([square], views.draw(INDEX[:1], seed=0, epoch=(0, 0)))["original"][0], square)
    assert words(views.plan["original"]) == "whole image to 24 px"


def test_numbers_of_the_plan() -> None:
    plan = copy_edits(32, low=0.3, edits=2, strongest=1, names=("view/1", "view/2"))
    assert list(plan) == ["view/1", "view/2"]
    step = plan["view/1"][1]
    drawn = Views(plan).draw(torch.arange(500), seed=0, epoch=(0, 0)).views["view/1"][1]["numbers"].tolist()
    made = [step.edits(row) for row in drawn]
    assert {len(edits) for edits in made} == {1, 2}
    assert {edit.strength for edits in made for edit in edits} == {1}
    assert words(plan["view/1"]) == "crop of 30 to 100 % to 32 px, 1 to 2 of 25 kinds of edits, strength 1 to 1"


def test_edits_stand_anywhere_among_the_changes() -> None:
    step = CopyEdits(SCENES, most=1)
    chain = (RandomResizedCrop(20), ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.5), step, GaussianBlur(p=0.5))
    views = Views({"a": chain}, others=another)
    parameters = views.draw(INDEX, seed=0, epoch=(0, 0))
    found = views.render(IMAGES, parameters)["a"]
    cut = Views({"a": chain[:2]})
    values = parameters.views["a"]
    jittered = cut.render(IMAGES, type(parameters)(index=INDEX, views={"a": values[:2]}))["a"]
    sharp = ~values[3]["applies"]
    by_hand = Views({"a": (*eval_chain(20), step)}, others=another)
    empty = tuple(dict[str, torch.Tensor]() for _ in range(2))
    again = by_hand.render(jittered, type(parameters)(index=INDEX, views={"a": (*empty, values[2])}))["a"]
    assert torch.equal(found[sharp], again[sharp])
    assert not torch.equal(found, jittered)


def test_a_plan_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="there is no edit 'crops'"):
        CopyEdits(("crops",))
    with pytest.raises(ValueError, match="got most=2 of 1 families"):
        CopyEdits(("crop",), most=2)
    with pytest.raises(ValueError, match="got most=5"):
        copy_edits(edits=5)
    with pytest.raises(ValueError, match="got strongest=0"):
        copy_edits(strongest=0)
    with pytest.raises(ValueError, match="two different ones, got"):
        copy_edits(names=("copy",))
    views = Views(copy_edits(16))
    with pytest.raises(ValueError, match="edits need gray or RGB images, got 5 channels"):
        views.render([photo(5, 20, 20)], views.draw(INDEX[:1], seed=0, epoch=(0, 0)))


def test_compositions_can_be_of_held_out_families_where_they_are_asked_for() -> None:
    numbers = Views({"a": (RandomResizedCrop(16), CopyEdits(HELD_OUT))}).draw(INDEX, seed=0, epoch=(0, 0))
    rows = numbers.views["a"][1]["numbers"].tolist()
    assert {edit.family for row in rows for edit in composed(row, HELD_OUT)} == set(HELD_OUT)
