"""Families of edits: what each does exactly, that it grows with its strength, and what may be drawn."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike.functional import random
from lookalike.transforms.edits import (
    COLUMNS,
    FAMILIES,
    HELD_OUT,
    NUMBERS,
    OTHERS,
    STRENGTHS,
    TRAINED,
    Edit,
    Family,
    composed,
    drawn,
    edited,
)
from lookalike.transforms.edits.family import Steps, seed, steps
from lookalike.transforms.edits.scene import filled

BOXES = ("crop", "strip", "turn", "flip")  # what is left of the picture says how strong they are
ELSEWHERE = ("shuffle", "collage")  # no pixel stays where it was at any strength: their shares are tested exactly
RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(number: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """Slopes, discs and stripes of many colors, another for each number."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width] / 60.0
    phase = (1 + number) * np.array([0.7, 1.9, 3.1])[:, None, None]
    waves = 90 * np.sin(x * 1.3 + phase) + 60 * np.cos(y * 2.1 + 2 * phase) + 40 * np.sin(9 * x * y + phase)
    return Image.fromarray((128 + waves).clip(0, 255).astype(np.uint8).transpose(1, 2, 0).copy())


def numbers(sample: int) -> list[float]:
    return random.uniform(random.key("test of edits"), torch.tensor([sample]), NUMBERS + OTHERS)[0].tolist()


def other(share: float) -> Image.Image:
    return picture(50 + int(5 * share), (75, 100))


def apply(name: str, image: Image.Image, *others: Image.Image, **settings) -> np.ndarray:
    family = FAMILIES[name]
    return np.array(family.change(image, *([list(others)] if others else []), **settings)).astype(int)


def plain(color: tuple[int, int, int], size: tuple[int, int] = (100, 80)) -> Image.Image:
    return Image.new("RGB", size, color)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_changes_a_picture_at_every_strength_and_alike_each_time(name) -> None:
    for strength in STRENGTHS:
        for sample in range(3):
            image, edit = picture(sample), drawn(name, strength, numbers(sample))
            before, first = image.tobytes(), edited(image, [edit], other)
            assert first.mode == "RGB"
            assert (first.size, first.tobytes()) != (image.size, before)
            assert first.tobytes() == edited(image, [edit], other).tobytes()
            assert image.tobytes() == before  # a picture is never written into


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in BOXES + ELSEWHERE])
def test_the_change_of_pixels_grows_with_the_strength(name) -> None:
    changes = []
    for strength in STRENGTHS:
        total = 0.0
        for sample in range(12):
            image = picture(sample)
            found = edited(image, [drawn(name, strength, numbers(sample))], other).resize(image.size)
            total += np.abs(np.array(found).astype(int) - np.array(image).astype(int)).mean()
        changes.append(total)
    assert changes == sorted(changes)
    assert changes[4] > 1.3 * changes[0]


@pytest.mark.parametrize("name", BOXES)
def test_less_of_the_picture_is_left_with_the_strength(name) -> None:
    sizes = [edited(picture(0), [drawn(name, strength, numbers(7))]).size for strength in STRENGTHS]
    areas = [width * height for width, height in sizes]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > 1.5 * areas[4]


@pytest.mark.parametrize(("strength", "area"), list(enumerate((0.9, 0.7, 0.5, 0.3, 0.15), start=1)))
def test_a_crop_keeps_its_share_and_its_pixels(strength, area) -> None:
    image = picture(1, (200, 150))
    edit = drawn("crop", strength, numbers(3))
    cropped = np.array(edited(image, [edit]))
    height, width, _ = cropped.shape
    assert width * height / 30_000 == pytest.approx(area, rel=0.02)
    left = round(float(edit.settings["across"]) * (200 - width))
    top = round(float(edit.settings["down"]) * (150 - height))
    assert np.array_equal(cropped, np.array(image)[top : top + height, left : left + width])


def test_shapes_in_closed_form() -> None:
    image = picture(2, (60, 40))
    pixels = np.array(image).astype(int)
    whole = {"area": 1.0, "across": 0.0, "down": 0.0}
    assert np.array_equal(apply("flip", image, direction="sideways", **whole), pixels[:, ::-1])
    assert np.array_equal(apply("flip", image, direction="upside down", **whole), pixels[::-1])
    assert np.array_equal(apply("turn", image, degrees=90, **whole), np.rot90(pixels))
    assert np.array_equal(apply("strip", image, share=0.5, along="width", at=1.0), pixels[:, 30:])
    framed = apply("border", image, share=0.1, color="#ff0000")
    assert np.array_equal(framed[4:-4, 4:-4], pixels)
    assert (framed[:4] == RED).all()
    barred = apply("letterbox", image, share=0.5, along="height", color="#0000ff")
    assert np.array_equal(barred[20:60], pixels)
    assert (barred[:20] == BLUE).all()
    assert (barred[60:] == BLUE).all()
    assert barred.shape == (80, 60, 3)


def test_shuffling_moves_whole_tiles_and_more_of_them_with_the_strength() -> None:
    tiles = [drawn("shuffle", strength, numbers(0)).settings["tiles"] for strength in STRENGTHS]
    assert tiles == [2, 3, 4, 5, 6]
    image = picture(3, (60, 60))
    before, after = np.array(image).astype(int), apply("shuffle", image, tiles=3, seed=5)
    cut = [pixels.reshape(3, 20, 3, 20, 3).swapaxes(1, 2).reshape(9, -1) for pixels in (before, after)]
    assert sorted(map(tuple, cut[0])) == sorted(map(tuple, cut[1]))
    assert not np.array_equal(before, after)


def test_perspective_leaves_the_picture_inside_its_corners() -> None:
    found = apply("perspective", plain(RED, (100, 100)), reach=0.3, seed=1, color="#0000ff")
    assert (found[50, 50] == RED).all()
    for corner in ((0, 0), (0, 99), (99, 0), (99, 99)):
        assert (found[corner] == BLUE).all()
    share = (found[..., 0] > 127).mean()  # every corner moves inwards by 15 to 30 % of both sides
    assert 0.4**2 < share < 0.7**2


def test_colors_in_closed_form() -> None:
    image = picture(4)
    pixels = np.array(image).astype(int)
    assert np.array_equal(apply("invert", image, threshold=0), 255 - pixels)
    solarized = apply("invert", image, threshold=192)
    assert np.array_equal(solarized, np.where(pixels >= 192, 255 - pixels, pixels))
    assert np.array_equal(apply("channels", image, order="BGR", share=1.0), pixels[..., ::-1])
    toned = apply("gray", image, share=1.0, tone="gray")
    assert np.abs(toned - (pixels @ [0.299, 0.587, 0.114])[..., None]).max() <= 1
    for colors in (32, 8, 2):
        assert len(np.unique(apply("posterize", image, colors=colors).reshape(-1, 3), axis=0)) <= colors
    brighter = apply("exposure", image, kind="brightness", factor=1.5, direction="up")
    assert np.abs(brighter - np.minimum(255, 1.5 * pixels)).max() <= 1
    lifted = apply("exposure", image, kind="gamma", factor=2.0, direction="up")
    assert np.abs(lifted - 255 * np.sqrt(pixels / 255)).max() <= 1
    assert np.abs(np.ptp(apply("tint", image, kind="saturation", amount=1.0, direction="down"), axis=2)).max() <= 1


def test_noise_has_the_deviation_it_says() -> None:
    middle = plain((128, 128, 128), (200, 200))
    gauss = apply("noise", middle, kind="gauss", level=0.06, seed=3) - 128
    assert gauss.std() == pytest.approx(0.06 * 255, rel=0.03)
    assert abs(gauss.mean()) < 0.6
    grain = apply("noise", middle, kind="grain", level=0.06, seed=3) - 128
    assert grain.std() == pytest.approx(0.06 * 255, rel=0.05)
    assert (grain[0::2, 0::2] == grain[1::2, 1::2]).all()
    dead = apply("noise", middle, kind="salt", level=0.25, seed=3) != 128
    assert dead.mean() == pytest.approx(0.25, abs=0.01)


def test_pixelating_leaves_squares_of_one_color() -> None:
    found = apply("pixelate", picture(5, (96, 96)), across=12)
    squares = found.reshape(12, 8, 12, 8, 3)
    assert (squares == squares[:, :1, :, :1]).all()


@pytest.mark.parametrize("strength", STRENGTHS)
def test_other_pictures_take_the_share_they_say(strength) -> None:
    own, unrelated = plain(RED, (200, 160)), plain(BLUE, (90, 300))
    for name, share in (("overlay", "area"), ("inset", "area"), ("collage", ""), ("blend", "share")):
        edit = drawn(name, strength, numbers(strength))
        found = np.array(edited(own, [edit], lambda _: unrelated)).astype(int)
        red = found[..., 0].mean() / 255
        if name == "collage":
            expected = 1 / (int(edit.settings["columns"]) * int(edit.settings["rows"]))
        else:
            amount = float(edit.settings[share])
            expected = amount if name == "overlay" else 1 - amount
        assert red == pytest.approx(expected, abs=0.02), name


@pytest.mark.parametrize("strength", STRENGTHS)
def test_covers_and_frames_take_the_share_they_say(strength) -> None:
    own = plain(RED, (200, 160))
    for sample in range(4):
        edit = drawn("cutout", strength, numbers(sample))
        covered = (np.array(edited(own, [edit])) != RED).any(2).mean()
        asked, boxes = float(edit.settings["share"]), int(edit.settings["boxes"])
        assert asked / boxes - 0.02 < covered < asked + 0.02
        edit = drawn("screenshot", strength, numbers(sample))
        left = (np.array(edited(own, [edit])) == RED).all(2).mean()
        assert left == pytest.approx(float(edit.settings["share"]), abs=0.03)


def test_other_pictures_of_any_shape_fill_the_place() -> None:
    for width in range(1, 70, 3):
        for height in range(1, 70, 4):
            assert filled(picture(0, (width, height)), (29, 17)).size == (29, 17)
    middle = filled(picture(9, (30, 90)), (30, 30))
    assert middle.tobytes() == picture(9, (30, 90)).crop((0, 30, 30, 60)).tobytes()


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 2), (32, 32), (33, 200)])
def test_every_family_takes_pictures_of_any_size(size) -> None:
    for name in FAMILIES:
        for strength in STRENGTHS:
            found = edited(picture(6, size), [drawn(name, strength, numbers(strength))], other)
            assert min(found.size) >= 1


def test_a_record_is_enough_to_make_the_edit_again() -> None:
    for name in FAMILIES:
        edit = drawn(name, 4, numbers(8))
        again = Edit(name, 4, json.loads(json.dumps(dict(edit.settings))), edit.others)
        assert edited(picture(7), [again], other).tobytes() == edited(picture(7), [edit], other).tobytes()


def test_other_pictures_are_asked_for_by_the_edits_that_need_them_alone() -> None:
    for name, family in FAMILIES.items():
        asked = list[float]()
        edit = drawn(name, 3, numbers(9))
        edited(picture(8), [edit], lambda share, asked=asked: asked.append(share))
        assert tuple(asked) == edit.others == tuple(numbers(9)[NUMBERS : NUMBERS + family.others])
    assert {name for name, family in FAMILIES.items() if family.others} == {"overlay", "inset", "collage", "blend"}


def test_compositions_are_of_different_families_in_even_shares() -> None:
    rows = random.uniform(random.key("compositions"), torch.arange(4000), COLUMNS).tolist()
    found = [composed(row) for row in rows]
    lengths = Counter(len(edits) for edits in found)
    assert set(lengths) == {1, 2, 3, 4}
    assert max(lengths.values()) < 1.15 * min(lengths.values())
    assert all(len({edit.family for edit in edits}) == len(edits) for edits in found)
    families = Counter(edit.family for edits in found for edit in edits)
    assert set(families) == set(TRAINED)
    assert max(families.values()) < 1.35 * min(families.values())
    strengths = Counter(edit.strength for edits in found for edit in edits)
    assert set(strengths) == set(STRENGTHS)
    assert max(strengths.values()) < 1.1 * min(strengths.values())


def test_six_families_are_held_out() -> None:
    assert len(set(HELD_OUT)) == 6
    assert set(HELD_OUT) | set(TRAINED) == set(FAMILIES)
    assert not set(HELD_OUT) & set(TRAINED)


def test_the_page_lists_families_and_strengths_as_they_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "edits.md").read_text()
    rows = re.findall(r"^\| `(\w+)`( \(held out\))? \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE)
    listed = {
        name: (bool(held_out), steps.split(", ")) for name, held_out, steps in rows if len(steps.split(", ")) == 5
    }
    told = {}
    for name, family in FAMILIES.items():
        graded = [rule.values for rule in family.settings.values() if isinstance(rule, Steps)]
        graded = graded or [[drawn("rotate", strength, [0.0] * NUMBERS).settings["degrees"] for strength in STRENGTHS]]
        told[name] = name in HELD_OUT, [" x ".join(f"{value:g}" for value in row) for row in zip(*graded, strict=True)]
    assert listed == told


def test_mistakes_are_sentences() -> None:
    with pytest.raises(ValueError, match="there is no edit 'crops' of strength 1"):
        drawn("crops", 1, numbers(0))
    with pytest.raises(ValueError, match="there is no edit 'crop' of strength 6"):
        drawn("crop", 6, numbers(0))
    with pytest.raises(ValueError, match="draw 7 numbers, 6 is the most"):
        Family("many", apply, {str(n): seed for n in range(7)})
    with pytest.raises(ValueError, match="a setting has 5 steps"):
        steps(1, 2)
