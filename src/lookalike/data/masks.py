"""Images with a mask each: a class for every pixel, in the layout of PASCAL VOC or in folders images/ and masks/.

A mask is a PNG of numbers, by a palette or gray, as large as its image: 0 is background, 1 to 254 are classes, 255 is
left out of every count. An image is turned as its EXIF says, a mask never is: numbers carry no orientation.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from lookalike.data.copies import identifier
from lookalike.data.decode import Unreadable, numbers, shown
from lookalike.data.images import Files, Folder, lines_of

VOC = ("JPEGImages", "SegmentationClass")
LISTS = os.path.join("ImageSets", "Segmentation")
PAIR = ("images", "masks")
HALVES = (("train",), ("val", "test"))  # of two names the first that is there


class Masked:
    """Images and their masks: a sample is the pixels of an image, and the mask as one more channel.

    masks: the mask of each image, by paths. Raises ValueError, where a sample is read, for a mask of another size.
    """

    concurrent = True
    labels = None

    def __init__(self, images: Files, masks: Sequence[str]) -> None:
        self.images, self.masks, self.channels = images, masks, images.channels

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> UInt8[Tensor, "C H W"]:
        """Raises Unreadable for either file."""
        pixels, mask_HW = self.images.read(index), self.mask(index)
        if pixels.shape[1:] != mask_HW.shape:
            (height, width), (rows, columns) = pixels.shape[1:], mask_HW.shape
            raise ValueError(
                f"{shown(self.images.path(index))} has {width} x {height} pixels, and its mask "
                f"{shown(self.masks[index])} has {columns} x {rows}: make a mask of the size of the image"
            )
        return torch.cat([pixels, mask_HW[None]])

    def mask(self, index: int) -> UInt8[Tensor, "H W"]:
        """Raises Unreadable."""
        try:
            return numbers(self.masks[index])
        except Unreadable as error:
            raise Unreadable(error.path, f"its mask: {error.reason}") from None

    def name(self, index: int) -> str:
        return self.images.name(index)

    def size(self, index: int) -> tuple[int, int]:
        return self.images.size(index)

    def identity(self) -> str:
        """A hash of the names and lengths of images and masks."""
        masks = Files("", self.masks)
        return hashlib.blake2b((self.images.identity() + masks.identity()).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True)
class MaskedFolder:
    """What is searched, and what is asked for."""

    train: Masked
    val: Masked


def masked_folder(path: str | os.PathLike[str], *, channels: int = 3) -> MaskedFolder:
    """Opens a folder with either layout; nothing is decoded.

    JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/train.txt and val.txt, as PASCAL VOC has them; or
    train/images/, train/masks/, val/images/ and val/masks/ (test/ where there is no val/). The mask of an image is the
    PNG of its name. Raises ValueError where a part, a mask or an image that a list names is missing.
    """
    root = Path(path)
    if all((root / part).is_dir() for part in VOC):
        train, val = (_listed(root, _first(root / LISTS, names, ".txt"), channels) for names in HALVES)
        return MaskedFolder(train=train, val=val)
    halves = [_first(root, names) for names in HALVES]
    missing = [half / part for half in halves for part in PAIR if not (half / part).is_dir()]
    if missing:
        raise ValueError(
            f"{shown(str(root))} holds no images with masks, it lacks {missing[0].relative_to(root).as_posix()}/: give "
            "a folder with train/images/, train/masks/, val/images/ and val/masks/, or one of PASCAL VOC, with "
            "JPEGImages/ and SegmentationClass/"
        )
    train, val = (masked(Folder(half / PAIR[0], channels=channels), half / PAIR[1]) for half in halves)
    return MaskedFolder(train=train, val=val)


def masked(images: Files, masks: Path) -> Masked:
    """Each image with the PNG of its name in a folder. Raises ValueError where that has none for an image."""
    names = [f"{os.path.splitext(name)[0]}.png" for name in images.names]
    lost = [(image, mask) for image, mask in zip(images.names, names, strict=True) if not (masks / mask).exists()]
    if lost:
        raise ValueError(
            f"{shown(lost[0][0])} has no mask {shown(str(masks / lost[0][1]))} ({len(lost):,} of {len(names):,} images "
            "have none): add the masks, or take these images out"
        )
    return Masked(images, [str(masks / name) for name in names])


def _first(root: Path, names: Sequence[str], extension: str = "") -> Path:
    """The first that is there; of none the first."""
    paths = [root / f"{name}{extension}" for name in names]
    return next((path for path in paths if path.exists()), paths[0])


def _listed(root: Path, file: Path, channels: int) -> Masked:
    """The images of PASCAL VOC that a list names, by their names without extension."""
    if not file.exists():
        raise ValueError(
            f"{shown(str(root))} has the folders of PASCAL VOC, and no list {file.relative_to(root).as_posix()}: write "
            "the names of its images without extension, one a line"
        )
    known = _by_id(Folder(root / VOC[0], channels=channels))
    wanted = [line.strip() for line in lines_of(str(file))]
    lost = [name for name in wanted if name not in known]
    if lost:
        raise ValueError(
            f"{shown(str(file))} names {shown(lost[0])!r}, and {VOC[0]}/ has no such image ({len(lost):,} are "
            "missing): add them, or take their lines out"
        )
    return masked(Files(root / VOC[0], [known[name] for name in wanted], channels=channels), root / VOC[1])


def _by_id(folder: Folder) -> Mapping[str, str]:
    return {identifier(name): name for name in folder.names}
