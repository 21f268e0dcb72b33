"""Edits that draw on a picture or around it: text, stickers, watermarks, captions, boxes, the frame of a screenshot.

Letters are those of the font in Pillow; stickers are drawn here, since no dependency brings pictures of emoji.
"""

import math
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from lookalike.transforms.edits.family import Family, between, either, seed, steps, uniforms
from lookalike.transforms.edits.stickers import KINDS, sticker

INKS = ("#ffffff", "#000000", "#ffe600", "#e63946", "#06d6a0", "#118ab2")
PHRASES = (
    "when you see it again look who is here happy birthday summer sale best of 2021 tag a friend wait for it "
    "no filter follow us original photo new post share this so true every single day love my life breaking news"
)
WORDS = PHRASES.split()
SMALLEST = 6  # pixels of a letter
PAGE, LINE, DARK = "#ffffff", "#c8ccd4", "#15181f"  # of the frames of screenshots


def text(image: Image.Image, size: float, lines: int, opacity: float, color: str, seed: int) -> Image.Image:
    """Lines of a share of the shorter side each, somewhere on the picture."""
    across, down, *choice = uniforms(seed, 2 + 3 * lines)
    font = _font(size * min(image.size))
    written = "\n".join(_words(choice[3 * n : 3 * n + 3]) for n in range(lines))
    mask = Image.new("L", image.size)
    pen = ImageDraw.Draw(mask)
    left, top, right, bottom = pen.multiline_textbbox((0, 0), written, font=font)
    place = _within(across, image.width - right) - left, _within(down, image.height - bottom) - top
    pen.multiline_text(place, written, fill=round(255 * opacity), font=font)
    return _inked(image, mask, color)


def stickers(image: Image.Image, count: int, size: float, seed: int) -> Image.Image:
    """So many stickers of a share of the shorter side each, somewhere on the picture."""
    side, edited, numbers = max(3, round(size * min(image.size))), image.copy(), uniforms(seed, 3 * count)
    for across, down, kind in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        drawn = sticker(KINDS[int(kind * len(KINDS))], side)
        edited.paste(drawn, (round(across * (image.width - side)), round(down * (image.height - side))), drawn)
    return edited


def watermark(image: Image.Image, opacity: float, color: str, degrees: float, seed: int) -> Image.Image:
    """The same words all over the picture, shining through."""
    words, font = _words(uniforms(seed, 2)), _font(0.09 * max(image.size))
    reach = math.ceil(math.hypot(*image.size))
    _, _, wide, high = map(math.ceil, font.getbbox(words))
    stamp, mask = Image.new("L", (wide, high)), Image.new("L", (reach, reach))
    ImageDraw.Draw(stamp).text((0, 0), words, fill=round(255 * opacity), font=font)
    for row, top in enumerate(range(0, reach, round(1.8 * high))):
        for left in range(-(row % 2) * wide // 2, reach, round(1.3 * wide)):
            mask.paste(stamp, (left, top))
    left, top = (reach - image.width) // 2, (reach - image.height) // 2
    turned = mask.rotate(degrees, Image.Resampling.BILINEAR)
    return _inked(image, turned.crop((left, top, left + image.width, top + image.height)), color)


def caption(image: Image.Image, share: float, place: str, dark: str, seed: int) -> Image.Image:
    """A band above, below or both, with words: in all a share of the picture's height."""
    bands = ("above", "below") if place == "both" else (place,)
    band = max(2, round(share * image.height / len(bands)))
    paper, ink = ("#000000", "#ffffff") if dark == "dark" else ("#ffffff", "#000000")
    canvas = Image.new("RGB", (image.width, image.height + band * len(bands)), paper)
    canvas.paste(image, (0, band if "above" in bands else 0))
    pen = ImageDraw.Draw(canvas)
    for number, where in enumerate(bands):
        words = _words(uniforms(seed + number, 5))
        middle = band / 2 if where == "above" else canvas.height - band / 2
        size = min(0.6 * band, 0.6 * band * 0.9 * image.width / max(1, _font(0.6 * band).getlength(words)))
        pen.text((image.width / 2, middle), words, fill=ink, font=_font(size), anchor="mm")
    return canvas


def cutout(image: Image.Image, share: float, boxes: int, color: str, seed: int) -> Image.Image:
    """Boxes of one color that take a share of the area, as far as they do not overlap."""
    edited, numbers = image.copy(), uniforms(seed, 3 * boxes)
    pen = ImageDraw.Draw(edited)
    for across, down, shape in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        aspect = 2 ** (2 * shape - 1)
        wide = min(1.0, math.sqrt(share / boxes * aspect))
        w, h = max(1, round(wide * image.width)), max(1, round(share / boxes / wide * image.height))
        left, top = round(across * (image.width - w)), round(down * (image.height - h))
        pen.rectangle((left, top, left + w - 1, top + h - 1), fill=color)
    return edited


def screenshot(image: Image.Image, share: float, kind: str, seed: int) -> Image.Image:
    """The picture on the screen of a phone, in a browser or in a post, of which it takes a share."""
    width, height = image.size
    side = math.sqrt(share) if kind == "browser" else 1.0
    canvas_size = max(1, round(width / side)), max(1, round(height * side / share))
    canvas = Image.new("RGB", canvas_size, DARK if kind == "phone" else PAGE)
    left, top = (canvas.width - width) // 2, round(0.4 * (canvas.height - height))
    if kind == "browser":
        top = round(0.65 * (canvas.height - height))
    canvas.paste(image, (left, top))
    _furnish(ImageDraw.Draw(canvas), kind, (top, top + height), canvas.size, uniforms(seed, 12))
    return canvas


def _furnish(
    pen: ImageDraw.ImageDraw, kind: str, picture: tuple[int, int], size: tuple[int, int], u: list[float]
) -> None:
    """Bars above the picture, lines and signs below it."""
    (top, bottom), (width, height) = picture, size
    ink = "#ffffff" if kind == "phone" else "#3a3f4b"
    if kind == "browser":
        pen.rectangle((0, 0, width, top * 0.6), fill="#dfe3ea")
        pen.rounded_rectangle((width * 0.2, top * 0.18, width * 0.9, top * 0.44), top * 0.1, fill=PAGE)
        for dot, color in enumerate(("#ff5f57", "#febc2e", "#28c840")):
            _dot(pen, width * (0.035 + 0.05 * dot), top * 0.3, min(top * 0.12, width * 0.018), color)
    else:
        _dot(pen, width * 0.07, top * 0.5, min(top * 0.32, width * 0.05), "#f4a261")
        pen.text(
            (width * 0.15, top * 0.5), _words(u[:2]), fill=ink, font=_font(min(top * 0.4, 0.06 * width)), anchor="lm"
        )
    room = height - bottom
    if kind != "browser" and room > 4:
        side = max(2, round(min(room * 0.3, width * 0.1)))
        for place, sign in enumerate(("heart", "bubble", "arrow")):
            drawn = sticker(sign, side)
            pen.bitmap((round(width * (0.03 + 0.13 * place)), bottom + round(room * 0.1)), drawn.getchannel("A"), ink)
    for number, long in enumerate(u[4:8]):
        y = bottom + room * (0.5 + 0.12 * number)
        pen.rectangle((width * 0.03, y, width * (0.3 + 0.6 * long), y + max(1.0, room * 0.04)), fill=LINE)


def _dot(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, color: str) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)


def _inked(image: Image.Image, mask: Image.Image, color: str) -> Image.Image:
    edited = image.copy()
    edited.paste(color, (0, 0, *image.size), mask)
    return edited


def _within(u: float, room: int | float) -> float:
    """A place in the room there is; what is too large begins at the edge."""
    return u * max(0.0, room)


def _words(choice: list[float]) -> str:
    return " ".join(WORDS[int(u * len(WORDS))] for u in choice)


def _font(size: float) -> ImageFont.FreeTypeFont:
    return _sized(max(SMALLEST, round(size)))


@lru_cache(maxsize=256)
def _sized(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, laid out by FreeType alone: Raqm would take longer, and not every Pillow has it."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ValueError("edits with letters need a Pillow with FreeType: install the wheel that PyPI has")
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)


INK = (
    Family(
        "text",
        text,
        {
            "size": steps(0.07, 0.09, 0.11, 0.13, 0.15),
            "lines": steps(1, 2, 3, 4, 5),
            "opacity": between(0.7, 1.0),
            "color": either(*INKS),
            "seed": seed,
        },
    ),
    Family(
        "stickers",
        stickers,
        {"count": steps(1, 2, 3, 4, 5), "size": steps(0.18, 0.22, 0.27, 0.32, 0.38), "seed": seed},
    ),
    Family(
        "watermark",
        watermark,
        {
            "opacity": steps(0.2, 0.3, 0.4, 0.5, 0.6),
            "color": either("#ffffff", "#000000"),
            "degrees": between(0.0, 45.0),
            "seed": seed,
        },
    ),
    Family(
        "caption",
        caption,
        {
            "share": steps(0.15, 0.25, 0.35, 0.5, 0.7),
            "place": either("above", "below", "both"),
            "dark": either("dark", "light"),
            "seed": seed,
        },
    ),
    Family(
        "cutout",
        cutout,
        {
            "share": steps(0.1, 0.2, 0.3, 0.4, 0.5),
            "boxes": either(1, 2, 3),
            "color": either(*INKS),
            "seed": seed,
        },
    ),
    Family(
        "screenshot",
        screenshot,
        {"share": steps(0.85, 0.7, 0.58, 0.48, 0.4), "kind": either("phone", "browser", "post"), "seed": seed},
    ),
)
