"""lookalike evaluate --protocol segments and propagation: equal to loops on tiny masks; every mistake is a sentence."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import lookalike, mistake
from masks import drawn, save_mask, write_clips, write_masked
from PIL import Image

from lookalike.api import Report, evaluate
from lookalike.api.folder import RunFolder
from lookalike.api.report.scores import cards
from lookalike.data import decode
from lookalike.evaluation import propagate, video_score


@pytest.fixture(scope="session")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed: see `own_masked`."""
    return write_masked(tmp_path_factory.mktemp("masked"))


@pytest.fixture(scope="session")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed: see `own_davis`."""
    return write_clips(tmp_path_factory.mktemp("davis"))


@pytest.fixture
def own_masked(masked: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(masked, tmp_path / "masked"))


@pytest.fixture
def own_davis(davis: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(davis, tmp_path / "davis"))


def numbers(path: Path) -> torch.Tensor:
    """A mask, by Pillow alone."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image)).long()


def objects(encoder, half: Path) -> list[tuple[list[float], torch.Tensor, int]]:
    """(row, its pixels, class) of each object: cells are 8 x 8 pixels, weighed by their share inside the mask."""
    found = []
    for file in sorted((half / "masks").iterdir()):
        mask = numbers(file)
        with torch.no_grad():
            maps = encoder.maps(decode(half / "images" / file.name)[None])[0]
        assert maps.shape[1:] == (3, 4)
        for label in sorted(set(mask.flatten().tolist()) - {0, 255}):
            inside = mask == label
            shares = inside.view(3, 8, 4, 8).sum((1, 3)).tolist()
            row = [
                sum(shares[i][j] * float(channel[i, j]) for i in range(3) for j in range(4)) / 64 for channel in maps
            ]
            found.append(([x / math.hypot(*row) for x in row], inside, label))
    return found


def test_segments_are_named_as_by_loops(finished, masked):
    report = evaluate(finished, masked, protocols="segments", references=False)
    encoder = RunFolder(finished).encoder()
    gallery, queries = objects(encoder, masked / "train"), objects(encoder, masked / "val")
    both, either, right = dict.fromkeys((1, 2, 3), 0), dict.fromkeys((1, 2, 3), 0), 0
    for row, inside, true in queries:
        cosines = [math.fsum(x * y for x, y in zip(row, other, strict=True)) for other, _, _ in gallery]
        named = gallery[max(range(len(gallery)), key=cosines.__getitem__)][2]
        right += named == true
        for label in both:
            both[label] += int(inside.sum()) * (named == true == label)
            either[label] += int(inside.sum()) * (label in (named, true))
    (score,) = report.scores["trained"]
    assert score.value == pytest.approx(sum(both[c] / either[c] for c in both) / 3, abs=1e-12)
    assert score.found == {"right": right / len(queries), "objects": len(queries), "gallery": len(gallery)}
    assert {part.name: part.values["IoU"] for part in report.parts} == {f"class {c}": both[c] / either[c] for c in both}
    assert (score.protocol.n_train, score.protocol.n_test, score.protocol.settings["classes"]) == (6, 5, 3)
    low, high = score.interval
    assert 0 <= low <= score.value <= high <= 1


def test_masks_are_carried_as_by_the_parts_and_objects_of_all_clips_count_alike(finished, davis):
    report = evaluate(finished, davis, protocols="propagation", references=False)
    encoder, each = RunFolder(finished).encoder(), []
    for name, labels in (("down", (1, 3)), ("right", (1,))):
        files = sorted((davis / "JPEGImages" / "480p" / name).iterdir())
        frames = torch.stack([decode(file) for file in files])
        truth = torch.stack([numbers(davis / "Annotations" / "480p" / name / f"{file.stem}.png") for file in files])
        with torch.no_grad():
            found = propagate(encoder.maps(frames, level=-2), truth[0])
        each += [video_score((found == label).long(), (truth == label).long()) for label in labels]
    (score,) = report.scores["trained"]
    mean = [sum(pair[i] for pair in each) / 3 for i in range(2)]
    assert (score.found["J"], score.found["F"]) == (pytest.approx(mean[0]), pytest.approx(mean[1]))
    assert score.value == pytest.approx(sum(mean) / 2)
    assert score.found["objects"] == 3
    down, right = report.parts
    assert (down.name, down.objects, down.values["J"]) == ("down", 2, pytest.approx((each[0][0] + each[1][0]) / 2))
    assert (right.name, right.objects, right.values["F"]) == ("right", 1, pytest.approx(each[2][1]))
    protocol = score.protocol
    assert (protocol.n_train, protocol.n_test, protocol.crop) == (2, 6, "whole image in cells of 4 px")
    settings = {"context": 20, "radius": 12.0, "neighbors": 10, "temperature": 0.05, "cells": 60}
    assert protocol.settings == settings


@pytest.mark.parametrize(("protocol", "name"), [("segments", "mIoU"), ("propagation", "J&F")])
def test_what_is_printed_and_kept_stands_beside_references(own_run, masked, davis, protocol, name):
    data = masked if protocol == "segments" else davis
    said = lookalike("evaluate", own_run, "--data", data, "--protocol", protocol)
    assert said.code == 0, said.err
    (entry,) = json.loads((own_run / "evaluation.json").read_text())
    assert list(entry["scores"]) == ["trained", "random weights", "raw pixels"]
    ((score,), (random,), (pixels,)) = entry["scores"].values()
    assert (score["name"], random["name"], pixels["features"]) == (name, name, "pixels")
    assert 0.3 < pixels["value"] <= 1  # colors tell the objects, in cells as large as half of them
    assert entry["worth"][0]["gain"] == pytest.approx(score["value"] - max(random["value"], pixels["value"]))
    lines = said.out.splitlines()
    assert lines[-1].startswith(f"{name} {100 * score['value']:.1f} % (")
    for part in entry["parts"]:
        assert any(line.split()[: len(part["name"].split())] == part["name"].split() for line in lines)
    assert f"over {entry['worth'][0]['reference']}" in said.out
    again = evaluate(own_run, data, protocols=protocol)
    assert again.scores["trained"][0].value == score["value"]
    (told,) = cards([entry], [], score["backbone"])
    assert (told.title, [bar.who for bar in told.bars], told.note) == (name, list(entry["scores"]), "")


def test_the_layout_of_pascal_voc_gives_the_same(finished, masked, tmp_path):
    for half in ("train", "val"):
        names = []
        for file in sorted((masked / half / "images").iterdir()):
            for kind, folder in (("images", "JPEGImages"), ("masks", "SegmentationClass")):
                (tmp_path / "voc" / folder).mkdir(parents=True, exist_ok=True)
                shutil.copy(masked / half / kind / file.name, tmp_path / "voc" / folder / file.name)
            names.append(file.stem)
        file = tmp_path / "voc" / "ImageSets" / "Segmentation" / f"{half}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(names) + "\n")
    one, other = (
        evaluate(finished, data, protocols="segments", references=False) for data in (masked, tmp_path / "voc")
    )
    assert one.as_dict() == other.as_dict()


def lenient(own_run: Path, data: Path, protocol: str) -> tuple[str, Report]:
    """What is said, and found, where a fifth of the images may be unreadable."""
    words = ("--protocol", protocol, "--no-references", "--max-bad", "0.2")
    said = lookalike("evaluate", own_run, "--data", data, *words)
    assert said.code == 0, said.err
    return " ".join(said.err.split()), evaluate(own_run, data, protocols=protocol, references=False, max_bad=0.2)


def test_unreadable_images_and_masks_are_left_out_and_said(own_run, own_masked, own_davis):
    (own_masked / "val" / "images" / "101.png").write_bytes(b"no image")
    (own_masked / "train" / "masks" / "003.png").write_bytes(b"no mask")
    text, report = lenient(own_run, own_masked, "segments")
    assert "unreadable val images or masks, left out: 1 of 5, first 101.png" in text
    assert "unreadable train images or masks, left out: 1 of 6, first 003.png" in text
    assert (report.best.protocol.n_train, report.best.protocol.n_test) == (5, 4)
    (own_davis / "JPEGImages" / "480p" / "down" / "00003.jpg").write_bytes(b"no image")
    text, report = lenient(own_run, own_davis, "propagation")
    assert "the clip down is left out: 00003.jpg" in text
    assert [part.name for part in report.parts] == ["right"]
    (own_davis / "Annotations" / "480p" / "right" / "00000.png").write_bytes(b"no mask")
    words = ("evaluate", own_run, "--data", own_davis, "--protocol", "propagation", "--max-bad", "0.2")
    assert mistake(*words) == "none of the 2 clips could be read: check the files"


def wrong(own_run: Path, data: Path, protocol: str) -> str:
    return mistake("evaluate", own_run, "--data", data, "--protocol", protocol, "--no-references")


def test_images_without_masks_and_masks_that_do_not_fit(own_run, own_masked, photos):
    text = wrong(own_run, photos, "segments")
    assert text.startswith(f"{photos} holds no images with masks, it lacks train/images/: give a folder with ")
    masks = own_masked / "val" / "masks"
    (masks / "102.png").rename(masks / "lost.png")
    assert wrong(own_run, own_masked, "segments") == (
        f"102.png has no mask {masks / '102.png'} (1 of 5 images have none): add the masks, or take these images out"
    )
    save_mask(masks / "102.png", np.ones((24, 30), np.uint8))
    text = wrong(own_run, own_masked, "segments")
    fault = f"102.png has 32 x 24 pixels, and its mask {masks / '102.png'} has 30 x 24: "
    assert text.endswith(fault + "make a mask of the size of the image")


def test_masks_of_colors_or_without_classes(own_run, own_masked):
    for file in (own_masked / "val" / "masks").iterdir():
        save_mask(file, np.full((24, 32), 255, np.uint8))
    assert wrong(own_run, own_masked, "segments") == (
        "none of the 5 val masks shows a class: write classes as 1 to 254; 0 is background, and 255 is left out"
    )
    for file in (own_masked / "train" / "masks").iterdir():
        Image.fromarray(drawn(0, {})[0]).save(file)
    text = wrong(own_run, own_masked, "segments")
    assert "its pixels are RGB, not numbers: save the mask as a palette or an 8-bit gray PNG" in text


def test_a_class_that_has_nothing_to_be_found_counts_as_0_and_is_said(own_run, own_masked):
    for file in (own_masked / "train" / "masks").iterdir():
        mask = numbers(file)
        save_mask(file, mask.where(mask != 3, 0).numpy().astype(np.uint8))
    said = lookalike("evaluate", own_run, "--data", own_masked, "--protocol", "segments", "--no-references")
    assert said.code == 0, said.err
    assert "1 of 3 classes have objects in val and none in train, and count as 0: 3" in " ".join(said.err.split())
    (entry,) = json.loads((own_run / "evaluation.json").read_text())
    assert [part["IoU"] for part in entry["parts"] if part["name"] == "class 3"] == [0.0]


def test_clips_that_do_not_fit(own_run, own_davis, photos):
    text = wrong(own_run, photos, "propagation")
    assert text.startswith(f"{photos} holds no clips with masks, it lacks JPEGImages/: give a folder of DAVIS")
    masks, frames = (own_davis / part / "480p" / "right" for part in ("Annotations", "JPEGImages"))
    (masks / "00002.png").rename(masks / "lost.png")
    assert "00002.jpg has no mask" in wrong(own_run, own_davis, "propagation")
    (masks / "lost.png").rename(masks / "00002.png")
    pixels, small = drawn(0, {1: (2, 2, 9, 9)}, width=16)
    Image.fromarray(pixels).save(frames / "00002.jpg")
    save_mask(masks / "00002.png", small)
    assert wrong(own_run, own_davis, "propagation") == (
        "the frame 00002.jpg of the clip right has 16 x 24 pixels, and the first mask 32 x 24: give all frames one size"
    )
    save_mask(masks / "00000.png", np.full((24, 32), 255, np.uint8))
    assert wrong(own_run, own_davis, "propagation").startswith(
        "the first mask of the clip right shows no object: write"
    )


def test_protocols_and_options_that_do_not_mix(own_run, masked):
    text = wrong(own_run, masked, "knn,segments")
    assert text == "the protocol segments reads other data than knn, segments together: ask for it alone"
    text = mistake("evaluate", own_run, "--data", masked, "--protocol", "segments", "--out", "here")
    assert text == "--out is where copy builds its benchmark, and segments builds none: leave it out"
