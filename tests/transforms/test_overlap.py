"""Crops that must overlap the crop of another view: the rule by hand, the rate by counting, and what happens if not."""

import pytest
import torch

from lookalike.transforms import OverlappingCrop, RandomResizedCrop, Views, revisiting
from lookalike.transforms.geometry import Region, overlapping_box

INDEX = torch.arange(400)
SIZES = [(90, 120), (120, 90), (64, 64), (40, 200)] * 100
KEY = Region(0, 0, 10, 10, 10, 10)


def boxes(plan, names=None):
    views = Views(plan)
    return views.boxes(views.draw(INDEX, seed=0, epoch=(0, 0), names=names), SIZES)


def share(small, key):
    """Of each small box, what lies in the key's, by loops."""
    shares = []
    for (left, top, right, bottom), (k_left, k_top, k_right, k_bottom) in zip(
        small.tolist(), key.tolist(), strict=True
    ):
        across = max(0.0, min(right, k_right) - max(left, k_left))
        down = max(0.0, min(bottom, k_bottom) - max(top, k_top))
        shares.append(across * down / ((right - left) * (bottom - top)))
    return torch.tensor(shares)


def try_at(left, top):
    """A box of 10 x 10 pixels at a place of an image of 20 x 20."""
    return (0.25, 0.0, (left + 0.5) / 11, (top + 0.5) / 11)


def test_the_constraint_on_two_boxes_by_hand():
    """10 x 10 boxes at (9, 9), which meets the key in 1 pixel of 10 needed, and at (5, 5), which does in 25."""
    assert overlapping_box([try_at(9, 9)], 20, 20, KEY, 0.1) is None
    assert overlapping_box([try_at(5, 5)], 20, 20, KEY, 0.1) == (5, 5, 10, 10)
    assert overlapping_box([try_at(9, 9), try_at(5, 5), try_at(0, 0)], 20, 20, KEY, 0.1) == (5, 5, 10, 10)
    assert overlapping_box([try_at(9, 0)], 20, 20, KEY, 0.1) == (9, 0, 10, 10)  # 10 pixels: just enough


def test_small_crops_overlap_the_key_and_unconstrained_ones_often_do_not():
    found = boxes(revisiting(160))
    near = torch.stack([share(found[f"small/{n}"], found["key"]) for n in (1, 2, 3, 4)])
    assert (near >= 0.09).double().mean() > 0.995  # of the area meant; the box is made of whole pixels
    free = boxes(revisiting(160, overlap=0.0))
    apart = torch.stack([share(free[f"small/{n}"], free["key"]) for n in (1, 2, 3, 4)])
    assert (apart < 0.05).double().mean() > 0.1


def test_the_crop_that_is_overlapped_is_the_one_that_the_view_has():
    """Also where that view is not drawn at all, and for a plan in which it begins later."""
    plan = revisiting(32)
    alone = boxes(plan, names=["small/3"])
    assert torch.equal(alone["small/3"], boxes(plan)["small/3"])


def test_the_small_crops_of_an_image_differ():
    found = boxes(revisiting(32))
    assert not torch.equal(found["small/1"], found["small/2"])


def test_crops_that_cannot_overlap_lie_anywhere():
    """A crop of all the image is never to 100 % in one of a fifth of it: after ten tries it is drawn freely."""
    key, whole = RandomResizedCrop(8, (0.2, 0.2)), RandomResizedCrop(8, (0.9, 1.0))
    found = boxes({"key": (key,), "a": (OverlappingCrop(whole, "key", key, overlap=1.0),)})
    areas = (found["a"][:, 2] - found["a"][:, 0]) * (found["a"][:, 3] - found["a"][:, 1])
    assert found["a"].min() >= 0
    assert areas[torch.tensor([h == w for h, w in SIZES])].min() > 0.85


def test_an_image_of_one_pixel_has_its_views():
    views = Views(revisiting(16))
    pixels = views.render([torch.full((3, 1, 1), 7, dtype=torch.uint8)], views.draw(INDEX[:1], seed=0, epoch=(0, 0)))
    assert {name: tuple(x.shape) for name, x in pixels.items()} == {
        "query": (1, 3, 16, 16),
        "key": (1, 3, 16, 16),
        **{f"small/{n}": (1, 3, 10, 10) for n in (1, 2, 3, 4)},
    }


@pytest.mark.parametrize("of", ["nobody", "a", "other"])
def test_a_plan_without_the_crop_to_overlap_is_refused(of):
    key = RandomResizedCrop(8)
    near = OverlappingCrop(RandomResizedCrop(4), of=of, anchor=key)
    with pytest.raises(ValueError, match=f"which '{of}' does not: name another view"):
        Views({"key": (key,), "a": (near,), "other": (RandomResizedCrop(9),)})
