"""Clips as folders of frames, with a mask of their objects for each frame, in the layout of DAVIS 2017.

A mask is a PNG of numbers, by a palette or gray: 0 is background, 1 to 254 are objects, 255 is left out of every count.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lookalike.data.decode import shown
from lookalike.data.images import Files, Folder, lines_of
from lookalike.data.masks import Masked, masked

FRAMES, MASKS = "JPEGImages", "Annotations"
RESOLUTION = "480p"  # of several the one that DAVIS is scored at
LIST = os.path.join("ImageSets", "2017", "val.txt")
LEAST = 3  # frames: the first is given, the last does not count


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Its name, and its frames with their masks in order."""

    name: str
    frames: Masked


def clips(path: str | os.PathLike[str], *, channels: int = 3) -> list[Clip]:
    """Opens JPEGImages/RESOLUTION/CLIP/ and Annotations/RESOLUTION/CLIP/ of a folder; nothing is decoded.

    The folder RESOLUTION may be missing; of several, 480p is taken. Clips are those that ImageSets/2017/val.txt names,
    where it exists, otherwise all. Frames are in the order of their names. Raises ValueError where a part or a mask is
    missing, and for a clip of fewer than three frames.
    """
    root = Path(path)
    for part in (FRAMES, MASKS):
        if not (root / part).is_dir():
            raise ValueError(
                f"{shown(str(root))} holds no clips with masks, it lacks {part}/: give a folder of DAVIS, with "
                f"{FRAMES}/480p/CLIP/ and {MASKS}/480p/CLIP/"
            )
    within = _resolution(root / FRAMES)
    frames, masks = root / FRAMES / within, root / MASKS / within
    return [_clip(name, frames / name, masks / name, channels) for name in _names(root, frames)]


def _resolution(frames: Path) -> str:
    """The folder between JPEGImages/ and the clips, "" where there is none."""
    inside = _folders(frames)
    if not any(_folders(frames / name) for name in inside):
        return ""
    if len(inside) > 1 and RESOLUTION not in inside:
        raise ValueError(
            f"{shown(str(frames))} holds the resolutions {', '.join(map(shown, inside))}, and not {RESOLUTION}: "
            "keep one"
        )
    return RESOLUTION if RESOLUTION in inside else inside[0]


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _names(root: Path, frames: Path) -> Sequence[str]:
    there = _folders(frames)
    if not there:
        raise ValueError(f"{shown(str(frames))} holds no clip: give each a folder of its frames")
    if not (root / LIST).exists():
        return there
    wanted = [line.strip() for line in lines_of(str(root / LIST))]
    lost = sorted(set(wanted) - set(there))
    if lost:
        raise ValueError(
            f"{shown(str(root / LIST))} names the clip {shown(lost[0])!r}, and there is no such folder "
            f"({len(lost):,} are missing): add them, or take their lines out"
        )
    return wanted


def _clip(name: str, frames: Path, masks: Path, channels: int) -> Clip:
    images = Folder(frames, channels=channels)
    if len(images) < LEAST:
        raise ValueError(
            f"the clip {shown(name)} has {len(images)} frames: give {LEAST} or more, since the first and the last do "
            "not count"
        )
    numbers = [Path(frame).stem for frame in images.names]
    if all(number.isdecimal() for number in numbers) and len({len(number) for number in numbers}) > 1:
        raise ValueError(
            f"the frames of the clip {shown(name)} are numbered with and without leading zeros "
            f"({shown(images.names[0])}, {shown(images.names[-1])}), so that their names do not tell their order: "
            "write 00001, 00002 and so on"
        )
    found = masked(Files(frames, images.names, channels=channels), masks)
    return Clip(name=name, frames=found)
