"""Tiny images and clips with masks: a noisy background, and objects of noise in a color of their class."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = {1: (200, 40, 40), 2: (40, 190, 60), 3: (50, 60, 210)}
PALETTE = [
    (37 * entry + channel * 80) % 256 for entry in range(256) for channel in range(3)
]  # nothing like the numbers
Boxes = Mapping[int, tuple[int, int, int, int]]


def drawn(seed: int, boxes: Boxes, width: int = 32, height: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and numbers; boxes: label -> (left, top, right, bottom)."""
    noise = np.random.default_rng(seed).integers(-30, 30, (height, width, 3))
    pixels, numbers = 120 + noise, np.zeros((height, width), np.uint8)
    for label, (left, top, right, bottom) in boxes.items():
        pixels[top:bottom, left:right] = np.array(COLORS[label]) + noise[top:bottom, left:right]
        numbers[top:bottom, left:right] = label
    return pixels.clip(0, 255).astype(np.uint8), numbers


def save_mask(path: Path, numbers: np.ndarray) -> None:
    """A palette PNG, as those of PASCAL VOC and DAVIS are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(numbers)
    mask.putpalette(PALETTE)
    mask.save(path)


def save_pair(image: Path, mask: Path, seed: int, boxes: Boxes) -> None:
    """An image and its mask, the border of which is left out of every count."""
    pixels, numbers = drawn(seed, boxes)
    numbers[:, 0] = 255
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(image)
    save_mask(mask, numbers)


def write_masked(root: Path) -> Path:
    """train/ and val/ with images/ and masks/: objects of three classes, some images with two."""
    small = [(2, 4, 14, 18), (16, 2, 30, 12), (18, 10, 31, 24), (4, 2, 20, 20)]
    for half, start, count in (("train", 0, 6), ("val", 100, 5)):
        for number in range(count):
            seed = start + number
            boxes = {1 + seed % 3: small[seed % 4]} | ({1 + (seed + 1) % 3: (0, 20, 8, 24)} if seed % 2 else {})
            name = f"{seed:03}"
            save_pair(root / half / "images" / f"{name}.png", root / half / "masks" / f"{name}.png", seed, boxes)
    return root


def write_clips(root: Path, frames: int = 5) -> Path:
    """Two clips at 480p in the layout of DAVIS: one object that moves to the right, and two that move down."""
    tracks = {
        "right": lambda t: {1: (4 * t, 6, 4 * t + 12, 18)},
        "down": lambda t: {1: (2, 2 + t, 12, 12 + t), 3: (18, t, 30, 10 + t)},
    }
    for number, (name, track) in enumerate(tracks.items()):
        for t in range(frames):
            pixels, numbers = drawn(10 * number + t, track(t))
            image = root / "JPEGImages" / "480p" / name / f"{t:05}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(image, quality=95)
            save_mask(root / "Annotations" / "480p" / name / f"{t:05}.png", numbers)
    return root
