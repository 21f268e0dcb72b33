"""Multi-crop plans: two global views, and smaller local views of small parts of the image."""

from lookalike.transforms.chain import (
    Chain,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    RandomResizedCrop,
)

GLOBAL, LOCAL = 224, 96  # pixels of the papers' views; other sizes keep the proportion


def swav(size: int = 224, local_views: int = 6, local_size: int | None = None) -> dict[str, Chain]:
    """SwAV (Caron et al., 2020; facebookresearch/swav, multicropdataset.py): SimCLR's colors, Pillow's blur.

    "global/1", "global/2": 14 to 100 % of the area; "local/1" ...: 5 to 14 %. Without local views the global ones are
    those of the 2x224 baseline, 8 to 100 %. local_size: 96 pixels at 224, and in proportion, if None.
    """
    changes: Chain = (HorizontalFlip(), ColorJitter(0.8, 0.8, 0.8, 0.2), Grayscale(), GaussianBlur())
    wide = (0.14, 1.0) if local_views else (0.08, 1.0)
    plan: dict[str, Chain] = {f"global/{n}": (RandomResizedCrop(size, wide), *changes) for n in (1, 2)}
    crop = RandomResizedCrop(local_size or _local(size), (0.05, 0.14))
    return plan | {f"local/{n}": (crop, *changes) for n in range(1, local_views + 1)}


def _local(size: int) -> int:
    return max(1, round(LOCAL * size / GLOBAL))
