"""Pretrained weights for an encoder: from a safetensors file, or from timm's collection where the user names it."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lookalike.modules.backbones import Encoder


def load_weights(encoder: Encoder, spec: str | Path) -> None:
    """Replaces the encoder's weights by those of `spec`, in place, or changes nothing and raises.

    FILE.safetensors        the state of an Encoder, or of the network inside it (timm's names, without classifier)
    timm:resnet50.a1_in1k   downloads timm's weights of that name, once; normalization becomes that of the weights

    Raises ValueError if the names or shapes are not exactly the encoder's, or the file is not whole;
    FileNotFoundError without the file; OSError if a download fails.
    """
    name = str(spec)
    if name.startswith("timm:"):
        source = _downloaded(encoder, name.removeprefix("timm:"))
        _load(encoder.body, source.state_dict(), name)
        _normalize_as(encoder, source.pretrained_cfg)
        return
    if not name.endswith(".safetensors"):
        raise ValueError(f"weights are FILE.safetensors or timm:NAME, and {name!r} was given: convert other formats")
    state = _read(Path(spec))
    target = encoder if any(key.startswith("body.") for key in state) else encoder.body
    _load(target, state, name)


def _load(target: nn.Module, state: dict[str, Tensor], name: str) -> None:
    _check(target.state_dict(), state, name)
    target.load_state_dict(state)


def _normalize_as(encoder: Encoder, facts: Mapping[str, Any]) -> None:
    """Takes up mean and std of the weights; their averages if the number of channels is another."""
    for own, values in ((encoder.mean, facts["mean"]), (encoder.std, facts["std"])):
        given = torch.tensor(values).to(own)
        own.copy_((given if len(given) == len(own) else given.mean().expand(len(own))).view_as(own))


def _read(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise FileNotFoundError(f"there is no weights file {file}: check the path")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is not a whole safetensors file ({error}): fetch or export it again") from error


def _downloaded(encoder: Encoder, name: str) -> Any:
    known = timm.list_pretrained()
    if name not in known:
        nearest = get_close_matches(name, known, n=3, cutoff=0.3)
        raise ValueError(f"timm has no weights named {name!r}: the nearest names are {', '.join(nearest) or 'none'}")
    try:
        source = timm.create_model(name, pretrained=True, num_classes=0, in_chans=encoder.channels)
    except Exception as error:  # whatever hub and network raise: the classes differ between their versions
        raise OSError(
            f"the weights {name!r} could not be fetched ({type(error).__name__}): go online once, or give a "
            ".safetensors file"
        ) from error
    return source


def _check(own: Mapping[str, Tensor], given: Mapping[str, Tensor], name: str) -> None:
    """Raises one sentence about what is missing, unexpected, or of another shape."""
    faults = []
    for what, keys in (("lack", own.keys() - given.keys()), ("also hold", given.keys() - own.keys())):
        if keys:
            faults.append(f"{what} {_first(sorted(keys))}")
    shapes = [
        f"{key} {tuple(given[key].shape)} where the encoder has {tuple(own[key].shape)}{_reason(own[key], given[key])}"
        for key in own.keys() & given.keys()
        if own[key].shape != given[key].shape
    ]
    if shapes:
        faults.append(f"hold {_first(sorted(shapes))}")
    if faults:
        raise ValueError(
            f"the weights {name} do not fit this encoder: they {'; they '.join(faults)}; "
            "build the backbone with the name, stem, image_size and channels that the weights were trained with"
        )


def _reason(own: Tensor, given: Tensor) -> str:
    """For first convolutions, in words."""
    if own.dim() != 4 or given.dim() != 4:
        return ""
    if own.shape[1] != given.shape[1] and own.shape[2:] == given.shape[2:]:
        return f" ({given.shape[1]} input channels, not {own.shape[1]})"
    return " (another stem)" if own.shape[2:] != given.shape[2:] else ""


def _first(words: list[str], shown: int = 3) -> str:
    more = f" and {len(words) - shown} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more
