"""Edits of color: each pixel by itself, or by the statistics of the picture."""

import math

from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from lookalike.transforms.edits.family import Family, either, steps

SEPIA = ("#2b1608", "#b08d5b", "#fff4d6")  # of black, the middle and white
SHARPEST = 500  # percent of the unsharp mask at full amount


def exposure(image: Image.Image, kind: str, factor: float, direction: str) -> Image.Image:
    """Brightness, contrast or gamma times (or divided by) the factor."""
    factor = factor if direction == "up" else 1 / factor
    if kind == "brightness":
        return ImageEnhance.Brightness(image).enhance(factor)
    if kind == "contrast":
        return ImageEnhance.Contrast(image).enhance(factor)
    levels = [round(255 * math.pow(level / 255, 1 / factor)) for level in range(256)]
    return image.point(levels * 3)


def tint(image: Image.Image, kind: str, amount: float, direction: str) -> Image.Image:
    """The hue turned by an amount of half the circle, or the saturation more or less by the amount."""
    amount = amount if direction == "up" else -amount
    if kind == "saturation":
        return ImageEnhance.Color(image).enhance(1 + amount)
    hue, saturation, value = image.convert("HSV").split()
    turned = hue.point([(level + round(128 * amount)) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def gray(image: Image.Image, share: float, tone: str) -> Image.Image:
    """Blended by a share with its gray or sepia picture."""
    pale = image.convert("L")
    toned = ImageOps.colorize(pale, SEPIA[0], SEPIA[2], SEPIA[1]) if tone == "sepia" else pale.convert("RGB")
    return Image.blend(image, toned, share)


def invert(image: Image.Image, threshold: int) -> Image.Image:
    """Levels from the threshold up are inverted (solarization); from 0 up: the negative."""
    return ImageOps.solarize(image, threshold)


def posterize(image: Image.Image, colors: int) -> Image.Image:
    """The picture in so many colors, chosen by median cut."""
    return image.quantize(colors, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).convert("RGB")


def channels(image: Image.Image, order: str, share: float) -> Image.Image:
    """Blended by a share with the picture whose channels are in another order."""
    bands = dict(zip("RGB", image.split(), strict=True))
    return Image.blend(image, Image.merge("RGB", [bands[letter] for letter in order]), share)


def enhance(image: Image.Image, kind: str, amount: float) -> Image.Image:
    """Sharpened by an unsharp mask, or blended by the amount with the picture of even histograms."""
    if kind == "sharpen":
        return image.filter(ImageFilter.UnsharpMask(max(1.0, 0.01 * min(image.size)), round(SHARPEST * amount), 0))
    return Image.blend(image, ImageOps.equalize(image), amount)


EITHER_WAY = either("up", "down")
COLOR = (
    Family(
        "exposure",
        exposure,
        {
            "kind": either("brightness", "contrast", "gamma"),
            "factor": steps(1.2, 1.5, 1.8, 2.2, 2.8),
            "direction": EITHER_WAY,
        },
    ),
    Family(
        "tint",
        tint,
        {"kind": either("hue", "saturation"), "amount": steps(0.15, 0.3, 0.5, 0.7, 0.95), "direction": EITHER_WAY},
    ),
    Family("gray", gray, {"share": steps(0.3, 0.5, 0.7, 0.85, 1.0), "tone": either("gray", "sepia")}),
    Family("invert", invert, {"threshold": steps(224, 192, 144, 80, 0)}),
    Family("posterize", posterize, {"colors": steps(32, 16, 8, 4, 2)}),
    Family(
        "channels",
        channels,
        {"order": either("RBG", "GRB", "BGR", "GBR", "BRG"), "share": steps(0.2, 0.4, 0.6, 0.8, 1.0)},
    ),
    Family(
        "enhance",
        enhance,
        {"kind": either("sharpen", "equalize"), "amount": steps(0.2, 0.4, 0.6, 0.8, 1.0)},
    ),
)
