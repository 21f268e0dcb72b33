"""Clips with masks in the layout of DAVIS: with and without resolutions, by its list, and what is missing."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookalike.data import clips


def write(root: Path, *names: str, within: str = "480p", frames: int = 3) -> Path:
    for name in names:
        for kind, extension in (("JPEGImages", "jpg"), ("Annotations", "png")):
            folder = root / kind / within / name
            folder.mkdir(parents=True, exist_ok=True)
            for t in range(frames):
                Image.fromarray(np.full((4, 6), t, np.uint8)).save(folder / f"{t:05}.{extension}")
    return root


@pytest.mark.parametrize("within", ["480p", "Full-Resolution", ""])
def test_the_folder_of_a_resolution_may_be_missing(tmp_path, within):
    found = clips(write(tmp_path, "bear", "camel", within=within))
    assert [clip.name for clip in found] == ["bear", "camel"]
    frames = found[1].frames
    assert [frames.name(t) for t in range(len(frames))] == ["00000.jpg", "00001.jpg", "00002.jpg"]
    assert frames.read(2)[3].unique().tolist() == [2]


def test_of_several_resolutions_480p_is_taken(tmp_path):
    write(tmp_path, "bear", within="1080p", frames=4)
    assert len(clips(write(tmp_path, "bear"))[0].frames) == 3
    (tmp_path / "JPEGImages" / "480p").rename(tmp_path / "JPEGImages" / "240p")
    with pytest.raises(ValueError, match="holds the resolutions 1080p, 240p, and not 480p: keep one"):
        clips(tmp_path)


def test_the_list_of_davis_chooses(tmp_path):
    write(tmp_path, "bear", "camel", "dog")
    file = tmp_path / "ImageSets" / "2017" / "val.txt"
    file.parent.mkdir(parents=True)
    file.write_text("dog\nbear\n")
    assert [clip.name for clip in clips(tmp_path)] == ["dog", "bear"]
    file.write_text("dog\nyak\n")
    with pytest.raises(
        ValueError, match=r"val.txt names the clip 'yak', and there is no such folder \(1 are missing\)"
    ):
        clips(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no clips with masks, it lacks JPEGImages/: give a folder of DAVIS"):
        clips(tmp_path)
    write(tmp_path, "bear")
    (tmp_path / "Annotations" / "480p" / "bear" / "00002.png").unlink()
    with pytest.raises(ValueError, match=r"^00002.jpg has no mask .*00002.png \(1 of 3 images have none\)"):
        clips(tmp_path)
    (tmp_path / "JPEGImages" / "480p" / "bear" / "00002.jpg").unlink()
    with pytest.raises(ValueError, match="the clip bear has 2 frames: give 3 or more"):
        clips(tmp_path)


def test_a_folder_of_no_clip(tmp_path):
    for part in ("JPEGImages", "Annotations"):
        (tmp_path / part).mkdir()
    with pytest.raises(ValueError, match="JPEGImages holds no clip: give each a folder of its frames"):
        clips(tmp_path)


def test_frames_whose_names_do_not_tell_their_order_are_refused(tmp_path):
    write(tmp_path, "bear", frames=11)
    for kind, extension in (("JPEGImages", "jpg"), ("Annotations", "png")):
        for file in (tmp_path / kind / "480p" / "bear").iterdir():
            file.rename(file.with_name(f"{int(file.stem)}.{extension}"))
    with pytest.raises(ValueError, match=r"numbered with and without leading zeros \(0.jpg, 9.jpg\).*write 00001"):
        clips(tmp_path)
