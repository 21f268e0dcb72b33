"""Backgrounds: what the stand-in for a mask sees, and that it is taken away before the crop, sometimes."""

import pytest
import torch

from lookalike.transforms import CenterCrop, HorizontalFlip, RandomResizedCrop, RemoveBackground, Views, salient


def spot() -> torch.Tensor:
    """A red square of 8 pixels on gray."""
    image = torch.full((3, 40, 50), 90, dtype=torch.uint8)
    image[:, 10:18, 20:28] = torch.tensor([250, 20, 20], dtype=torch.uint8)[:, None, None]
    return image


def slow(image: torch.Tensor) -> torch.Tensor:
    """Distance of the mean color of 5 x 5 pixels from that of the image, at least twice its mean, in Python."""
    C, H, W = image.shape
    values = image.tolist()
    mean = [sum(map(sum, values[c])) * 25 // (H * W) for c in range(C)]
    far = [[0] * W for _ in range(H)]
    for y in range(H):
        for x in range(W):
            for c in range(C):
                rows = [min(max(y + d, 0), H - 1) for d in range(-2, 3)]
                columns = [min(max(x + d, 0), W - 1) for d in range(-2, 3)]
                far[y][x] += (sum(values[c][r][k] for r in rows for k in columns) - mean[c]) ** 2
    total = sum(map(sum, far))
    return torch.tensor([[value * H * W >= 2 * total for value in row] for row in far])


def test_the_stand_in_by_loops() -> None:
    noise = torch.randint(256, (3, 13, 9), dtype=torch.uint8)
    for image in (spot(), noise, noise[:1]):
        assert torch.equal(salient(0, image), slow(image))


def test_a_spot_is_foreground_and_one_color_has_no_background() -> None:
    mask = salient(0, spot())
    assert mask[12:16, 22:26].all()
    assert not mask[:5].any()
    assert salient(0, torch.full((3, 8, 8), 7, dtype=torch.uint8)).all()


def views_of(p: float, masks=None) -> Views:
    plan = {"view": (RemoveBackground(p), CenterCrop(40), HorizontalFlip(1.0))}
    return Views(plan) if masks is None else Views(plan, masks=masks)


def test_it_is_taken_away_before_the_crop() -> None:
    image = spot()
    views = views_of(1.0)
    (found,) = views.render([image], views.draw(torch.tensor([3]), seed=0, epoch=(0, 0)))["view"]
    assert torch.equal(found, (image * salient(3, image))[:, :, 5:45].flip(-1))
    assert found.sum() < image[:, :, 5:45].sum()


def test_masks_of_the_data_set_are_asked_for_by_sample() -> None:
    masks = {7: torch.zeros(40, 50, dtype=torch.bool), 9: torch.ones(40, 50, dtype=torch.bool)}
    views = views_of(1.0, lambda sample, image: masks[sample])
    found = views.render([spot(), spot()], views.draw(torch.tensor([7, 9]), seed=0, epoch=(0, 0)))["view"]
    assert found[0].sum() == 0
    assert torch.equal(found[1], spot()[:, :, 5:45].flip(-1))


def test_it_happens_with_its_probability_and_changes_nothing_else() -> None:
    index = torch.arange(400)
    plain = Views({"view": (RandomResizedCrop(8),)})
    masked = Views({"view": (RemoveBackground(0.25), RandomResizedCrop(8))})
    drawn = masked.draw(index, seed=0, epoch=(0, 0)).views["view"]
    assert drawn[0]["applies"].double().mean().item() == pytest.approx(0.25, abs=0.06)
    boxes = masked.boxes(masked.draw(index, seed=0, epoch=(0, 0)), [(40, 50)] * 400)["view"]
    assert boxes.shape == plain.boxes(plain.draw(index, seed=0, epoch=(0, 0)), [(40, 50)] * 400)["view"].shape
    images = [spot()] * 400
    pixels = masked.render(images, masked.draw(index, seed=0, epoch=(0, 0)))["view"]
    never = Views({"view": (RemoveBackground(0.0), RandomResizedCrop(8))})
    same = (pixels == never.render(images, never.draw(index, seed=0, epoch=(0, 0)))["view"]).flatten(1).all(1)
    assert torch.equal(same, ~drawn[0]["applies"])


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="probability p from 0 to 1"):
        RemoveBackground(1.5)
    views = views_of(1.0, lambda sample, image: torch.ones(3, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="give a mask of the image's own size"):
        views.render([spot()], views.draw(torch.tensor([0]), seed=0, epoch=(0, 0)))
    numbers = views_of(1.0, lambda sample, image: torch.full(image.shape[1:], 255, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"this one is torch.uint8: give mask > 0$"):
        numbers.render([spot()], numbers.draw(torch.tensor([0]), seed=0, epoch=(0, 0)))
    lost = views_of(1.0, lambda sample, image: salient(sample, image) if sample == 3 else None)
    with pytest.raises(ValueError, match=r"^sample 7 has no mask: give one for every image, or "):
        lost.render([spot(), spot()], lost.draw(torch.tensor([3, 7]), seed=0, epoch=(0, 0)))
    with pytest.raises(ValueError, match="must begin with its geometry"):
        Views({"view": (RandomResizedCrop(8), RemoveBackground())})
