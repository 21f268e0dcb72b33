"""What a chain of transforms does, in a few words for a caption."""

from lookalike.transforms.background import RemoveBackground
from lookalike.transforms.chain import (
    CenterCrop,
    Chain,
    Change,
    ColorJitter,
    CopyEdits,
    GaussianBlur,
    Geometry,
    Grayscale,
    HorizontalFlip,
    RandomResizedCrop,
    Resize,
    Solarize,
    Whole,
)


def words(chain: Chain) -> str:
    """For example: crop of 8 to 100 % to 32 px, flip 50 %, jitter 0.4/0.4/0.4/0.1 80 %, gray 20 %."""
    return ", ".join(_said(transform) for transform in chain)


def _said(transform: RemoveBackground | Geometry | Change) -> str:
    match transform:
        case RemoveBackground(p=p):
            return f"background black {100 * p:.3g} %"
        case RandomResizedCrop(size=size, scale=(low, high)):
            return f"crop of {100 * low:.3g} to {100 * high:.3g} % to {size} px"
        case Resize(size=size):
            return f"short side to {size} px"
        case CenterCrop(size=size):
            return f"central {size} px"
        case Whole(size=size):
            return f"whole image to {size} px"
        case HorizontalFlip(p=p):
            return f"flip {100 * p:.3g} %"
        case ColorJitter(p=p):
            strengths = (transform.brightness, transform.contrast, transform.saturation, transform.hue)
            return f"jitter {'/'.join(f'{strength:.3g}' for strength in strengths)} {100 * p:.3g} %"
        case Grayscale(p=p):
            return f"gray {100 * p:.3g} %"
        case GaussianBlur(sigma=(low, high), p=p):
            return f"blur of sigma {low:g} to {high:g} {100 * p:.3g} %"
        case Solarize(p=p):
            return f"solarize {100 * p:.3g} %"
        case CopyEdits(families=families, most=most, strongest=strongest):
            return f"1 to {most} of {len(families)} kinds of edits, strength 1 to {strongest}"
