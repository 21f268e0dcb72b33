"""Multi-crop plans: two global views, and smaller local views of small parts of the image."""

from lookalike.transforms.auto_augment import AutoAugment
from lookalike.transforms.background import RemoveBackground
from lookalike.transforms.chain import (
    Chain,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    Solarize,
)
from lookalike.transforms.crops import OverlappingCrop, RandomResizedCrop
from lookalike.transforms.either import Either
from lookalike.transforms.plans import blur_taps

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


def dino(
    size: int = 224,
    local_views: int = 8,
    local_size: int | None = None,
    low: float = 0.4,
    local_high: float = 0.4,
) -> dict[str, Chain]:
    """DINO (Caron et al., 2021; facebookresearch/dino, main_dino.py): BYOL's pair with Pillow's blur, and local views.

    "global/1" blurred, "global/2" solarized: crops of `low` to 100 % of the area; "local/1" ...: 5 % to `local_high`,
    blurred half of the time. For ResNets low=0.14 and local_high=0.14, without local views low=0.14 (official README).
    local_size: 96 pixels at 224, and in proportion, if None; a ViT needs a multiple of its patch.
    """
    color: Chain = (HorizontalFlip(), ColorJitter(0.4, 0.4, 0.2, 0.1), Grayscale())
    crop = RandomResizedCrop(size, (low, 1.0), interpolation="bicubic")
    small = RandomResizedCrop(local_size or _local(size), (0.05, local_high), interpolation="bicubic")
    plan: dict[str, Chain] = {
        "global/1": (crop, *color, GaussianBlur(p=1.0)),
        "global/2": (crop, *color, GaussianBlur(p=0.1), Solarize(p=0.2)),
    }
    return plan | {f"local/{n}": (small, *color, GaussianBlur(p=0.5)) for n in range(1, local_views + 1)}


def relicv2(
    size: int = 224,
    large: int = 4,
    small: int = 2,
    small_size: int | None = None,
    masked: float = 0.1,
) -> dict[str, Chain]:
    """ReLICv2 (Tomasev et al., 2022): "large/1" ... of 14 to 100 % of the area, "small/1" ... of 5 to 14 %.

    Colors of BYOL's pair in turn (google-deepmind/relicv2 holds that configuration). Large views lose their background
    with the chance `masked`. Numbers and shares of views, that chance, and the colors of small views are our choice.
    """
    color: Chain = (HorizontalFlip(), ColorJitter(0.4, 0.4, 0.2, 0.1), Grayscale())
    side, plan = small_size or _local(size), dict[str, Chain]()
    for name, count, pixels, share in (
        ("large", large, size, (0.14, 1.0)),
        ("small", small, side, (0.05, 0.14)),
    ):
        before: Chain = (RemoveBackground(masked),) if name == "large" and masked > 0 else ()
        crop = RandomResizedCrop(pixels, share, interpolation="bicubic")
        taps = blur_taps(pixels)
        first = (*before, crop, *color, GaussianBlur(kernel=taps, p=1.0))
        second = (*before, crop, *color, GaussianBlur(kernel=taps, p=0.1), Solarize())
        plan |= {f"{name}/{n}": first if n % 2 else second for n in range(1, count + 1)}
    return plan


def revisiting(
    size: int = 160,
    small: int = 4,
    small_size: int | None = None,
    overlap: float = 0.1,
    augmented: float = 0.5,
) -> dict[str, Chain]:
    """Van Gansbeke et al., 2021 (wvangansbeke/Revisiting-Contrastive-SSL): "query", "key", and "small/1" ...

    Large crops of 20 to 100 % of the area, small ones of 5 to 14 %, which share `overlap` of their area with the key's.
    MoCo v2's colors; all views but the key have AutoAugment in their place with the chance `augmented`. The flip comes
    first, as it does before AutoAugment; colors and blur do not care. small_size: 96 pixels at 160, and in proportion.
    """
    crop = RandomResizedCrop(size, (0.2, 1.0))
    colors = (ColorJitter(0.4, 0.4, 0.4, 0.1), Grayscale(), GaussianBlur())
    changes: Chain = (HorizontalFlip(), Either((AutoAugment(),), colors, augmented))
    free = RandomResizedCrop(small_size or max(1, round(96 * size / 160)), (0.05, 0.14))
    near = OverlappingCrop(free, of="key", anchor=crop, overlap=overlap)
    plan: dict[str, Chain] = {"query": (crop, *changes), "key": (crop, HorizontalFlip(), *colors)}
    return plan | {f"small/{n}": (near, *changes) for n in range(1, small + 1)}


def _local(size: int) -> int:
    return max(1, round(LOCAL * size / GLOBAL))
