"""export: the encoder of a run as a file that other software loads, compared with the run before it is written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

from lookalike.api.embed import Work
from lookalike.api.folder import RunFolder
from lookalike.api.model_card import code, model_card
from lookalike.api.programs import PIXELS, Features
from lookalike.api.push import demand_hub, send
from lookalike.api.targets import TARGETS, Artifact, Subject
from lookalike.data import open_source
from lookalike.functional import random
from lookalike.modules import Encoder
from lookalike.recipes import suggested, view_size
from lookalike.training.files import explained, need, remove, write_atomic

IMAGES = 16  # on which the features of file and run are compared
TOLERANCE = 1e-4  # between features in fp32; a share of the largest one where that is above 1
OWN_NAME = ("timm", "torchvision", "detectron2")  # targets whose files end as ours do


@dataclass(frozen=True)
class Exported:
    """What `export` wrote: the file, all files, and the largest difference between its features and the run's.

    compared: on which images; code: Python that loads the file and gives the `features` of `pixels`; hint: a sentence
    about it, or ""; address: on the Hub, where it was pushed.
    """

    path: Path
    files: tuple[Path, ...]
    difference: float
    compared: str
    code: str
    hint: str
    address: str | None


def export(
    run: str | PathLike[str],
    *,
    to: str,
    out: str | PathLike[str] | None = None,
    role: str = "encoder",
    pixels: str = "uint8",
    data: Any = None,
    push: str | None = None,
    force: bool = False,
) -> Exported:
    """Writes the encoder of a finished run for other software, and a card beside it (FILE.md).

    to: safetensors, timm, torch, onnx, torchvision or detectron2. out: default RUN/export/ROLE.*; only with `force` is
    a file replaced. pixels: what a program (torch, onnx) takes, "uint8" or "float" in [0, 1]. data: images on which
    features of file and run are compared; default: generated ones. Nothing is written where they differ by more than
    1e-4, relative where features are above 1. push: owner/name on the Hub, to which the files are sent. The same
    weights give the same bytes. Raises ValueError in one sentence where the run has not finished, a package is missing,
    or the layout has no place for the network; OSError where the Hub does not take the files.
    """
    _demand_known(to, pixels, push)
    folder = RunFolder(Path(run))
    recipe, path = folder.recipe(), _place(folder, to, role, out)
    names = _names(path.name, to)
    _demand_free(path.parent, names, force)
    subject = Subject(folder.encoder(role), recipe.backbone, view_size(recipe), pixels)
    images = generated(subject) if data is None else central(data, subject)
    artifact = TARGETS[to].make(subject)
    difference = demand_equal(artifact.features, subject.encoder, images)
    compared = (
        f"{len(images)} {'generated ' if data is None else ''}images: features differ by {difference:.2g} at most"
    )
    _write(path.parent, contents(folder, subject, artifact, names, compared))
    address = send(push, contents(folder, subject, artifact, _hub_names(path.name, to), compared)) if push else None
    files = tuple(path.with_name(name) for name in names)
    return Exported(path, files, difference, compared, code(artifact, str(path)), artifact.hint, address)


def generated(subject: Subject) -> UInt8[Tensor, "N C S S"]:
    """Smooth images of random colors, the same each time."""
    shape = (IMAGES, subject.encoder.channels, 8, 8)
    coarse = torch.rand(shape, generator=random.generator("export"))
    return (255 * F.interpolate(coarse, size=subject.size, mode="bilinear")).round().to(torch.uint8)


def central(data: Any, subject: Subject) -> UInt8[Tensor, "N C S S"]:
    """The central view of the first images of `data`. Raises ValueError where none of them can be read."""
    source = open_source(data, channels=subject.encoder.channels)
    work = Work(subject.encoder, source, subject.size, IMAGES, IMAGES, torch.device("cpu"))
    views = [pixels for _, pixels in work.batches(range(min(IMAGES, len(source))), [])]
    if not views:
        raise ValueError(f"none of the first {IMAGES} images of {data} can be read: name other images with --data")
    return torch.cat(views)


@torch.no_grad()
def demand_equal(features: Features, encoder: Encoder, images: UInt8[Tensor, "N C S S"]) -> float:
    """The largest difference between the features of a file and the run's, for all images at once and for one alone.

    Raises ValueError above the tolerance.
    """
    differences = []
    for part in (images, images[:1]):
        own = encoder(part)
        differences.append(float((features(part) - own).abs().max() / own.abs().max().clamp(min=1)))
    if not all(difference <= TOLERANCE for difference in differences):  # also for NaN
        raise ValueError(
            f"features of the exported file differ by {max(differences):.1e} from the run's, above {TOLERANCE:g}: "
            "nothing is written; try another --to, and report it with the versions in RUN/manifest.json"
        )
    return max(differences)


def contents(
    folder: RunFolder, subject: Subject, artifact: Artifact, names: Sequence[str], compared: str
) -> dict[str, bytes]:
    """The file, its card, and timm's description where there is one, under these names."""
    card = model_card(folder, subject, artifact, name=names[0], compared=compared)
    config = json.dumps(artifact.config, indent=2) + "\n"
    return dict(zip(names, (artifact.content, card.encode(), config.encode()), strict=False))


def _demand_known(to: str, pixels: str, push: str | None) -> None:
    if to not in TARGETS:
        near = suggested(to, TARGETS, otherwise="none is near")
        raise ValueError(f"there is no export to {to!r}; {near}, all: {', '.join(TARGETS)}")
    if pixels not in PIXELS:
        raise ValueError(f"there are no pixels {pixels!r}: give uint8, or float in [0, 1]")
    if push is not None:
        demand_hub(push)


def _place(folder: RunFolder, to: str, role: str, out: str | PathLike[str] | None) -> Path:
    """The path of the file. Raises ValueError where it cannot stand there."""
    suffix = TARGETS[to].suffix
    if out is None:
        return folder.path / "export" / f"{role}{f'.{to}' if to in OWN_NAME else ''}{suffix}"
    path = Path(out)
    if path.suffix != suffix:
        raise ValueError(f"--out {path} does not end in {suffix}, as files for {to} do: name the file that is wanted")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} for --out {path}: make it, or choose another")
    if path.parent.resolve() == folder.path.resolve():
        raise ValueError(f"{path} would lie among the files of the run itself: omit --out, or choose another folder")
    return path


def _names(name: str, to: str) -> list[str]:
    """The file, its card, and for timm its description."""
    return [name, f"{name}.md", *([f"{Path(name).stem}.config.json"] if to == "timm" else [])]


def _hub_names(name: str, to: str) -> list[str]:
    """The same as the Hub, and timm, look for them."""
    return ["model.safetensors", "README.md", "config.json"] if to == "timm" else [name, "README.md"]


def _demand_free(folder: Path, names: Sequence[str], force: bool) -> None:
    taken = [folder / name for name in names if (folder / name).exists()]
    if taken and not force:
        raise ValueError(f"{taken[0]} is there already: add --force to replace it, or choose another --out")


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files, the first one last: where it is, the others are. What cannot be finished is taken back."""
    with explained(f"make {folder}"):
        folder.mkdir(exist_ok=True)
    need(folder, sum(map(len, files.values())))
    wrote: list[Path] = []
    try:
        for name, content in reversed([*files.items()]):
            write_atomic(folder / name, content)
            wrote.append(folder / name)
    except ValueError:
        for path in wrote:
            remove(path)
        raise
