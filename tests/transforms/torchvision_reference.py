"""What torchvision makes of one image under a chain and its drawn values: one functional after another, in float."""

import math

import torch
import torchvision.transforms.v2.functional as F

from lookalike.transforms import (
    CenterCrop,
    ColorJitter,
    GaussianBlur,
    Grayscale,
    HorizontalFlip,
    RandomResizedCrop,
    Resize,
    Solarize,
)

JITTERS = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)


def photo(channels, height, width, seed=0, count=None):
    """uint8 pixels with the smooth areas, edges, saturated spots and gray spots of photographs."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count or 1, channels)
    coarse = torch.rand(*shape, 4, 5, generator=generator)
    fine = torch.rand(*shape, height, width, generator=generator)
    x = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic") * 1.3 - 0.15
    x = x + 0.15 * (fine - 0.5)
    x[..., : height // 4, : width // 4] = x[:, :1, : height // 4, : width // 4]  # without color
    x[..., height // 2 :, : width // 5] += 0.6  # clipped
    x = (x.clamp(0, 1) * 255).round().to(torch.uint8)
    return x if count else x[0]


def reference(image, chain, values, row):
    """(C, S, S) float in [0, 1]: geometry in uint8 as torchvision does it, the rest in float."""
    x = image
    for transform, drawn in zip(chain, values, strict=True):
        v = {name: value[row] for name, value in drawn.items()}
        match transform:
            case RandomResizedCrop():
                (region,) = transform.regions({n: t[row : row + 1] for n, t in drawn.items()}, [x.shape[-2:]])
                x = F.resized_crop(
                    x,
                    region.top,
                    region.left,
                    region.height,
                    region.width,
                    [transform.size, transform.size],
                    interpolation=F.InterpolationMode(transform.interpolation),
                    antialias=True,
                )
            case Resize():
                mode = F.InterpolationMode(transform.interpolation)
                x = F.resize(x, [transform.size], interpolation=mode, antialias=True)
            case CenterCrop():
                x = F.center_crop(x, [transform.size, transform.size])
            case _ if v["applies"]:
                x = F.to_dtype(x, torch.float32, scale=True)
                x = change(x, transform, v)
    return F.to_dtype(x, torch.float32, scale=True)


def change(x, transform, v):
    match transform:
        case HorizontalFlip():
            return F.horizontal_flip(x)
        case ColorJitter():
            for number in v["order"].tolist():
                x = JITTERS[number](x, v["amounts"][number].item())
            return x
        case Grayscale():
            return F.rgb_to_grayscale(x, num_output_channels=3)
        case GaussianBlur():
            sigma = v["sigma"].item()
            taps = transform.kernel or 2 * min(math.ceil(6 * sigma), min(x.shape[-2:]) - 1) + 1
            return F.gaussian_blur(x, [taps, taps], [sigma, sigma])
        case Solarize():
            return F.solarize(x, transform.threshold)
