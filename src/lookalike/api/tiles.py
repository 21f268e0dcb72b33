"""Pixels on their way to a page or a picture: made to fit, as Pillow images, as data URIs.

C channels (1 or 3), H height, W width.
"""

import base64
import io

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from lookalike.transforms.geometry import Region, resample

Pixels = UInt8[Tensor, "C H W"]


def fitted(pixels_CHW: Pixels, side: int, *, enlarge: bool = False) -> UInt8[Tensor, "C H2 W2"]:
    """The whole image with its longer side at `side`; a smaller one stays as it is, unless `enlarge`."""
    _, height, width = pixels_CHW.shape
    longer = max(height, width)
    if longer <= side and not enlarge:
        return pixels_CHW
    out = max(1, round(width * side / longer)), max(1, round(height * side / longer))
    return resample(pixels_CHW, Region(0, 0, width, height, *out))


def picture(pixels_CHW: Pixels) -> Image.Image:
    """RGB, gray repeated."""
    pixels_HWC = pixels_CHW.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels_HWC[..., 0] if len(pixels_CHW) == 1 else pixels_HWC).convert("RGB")


def webp(image: Image.Image, quality: int) -> bytes:
    """The file; the same pixels give the same bytes."""
    file = io.BytesIO()
    image.save(file, format="WEBP", quality=quality, method=4)
    return file.getvalue()


def data_uri(file: bytes) -> str:
    """A WebP file that a page holds itself."""
    return f"data:image/webp;base64,{base64.b64encode(file).decode()}"
