"""Pretrained weights for an encoder: from a safetensors file, or from timm's collection where the user names it."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from lookalike.modules import tensor_file
from lookalike.modules.backbones import Encoder
from lookalike.modules.descriptor import Descriptor


def load_weights(encoder: Encoder | Descriptor, spec: str | Path) -> None:
    """Replaces the encoder's weights by those of `spec`, in place, or changes nothing and raises.

    FILE.safetensors        the state of an Encoder, or of the network inside it (timm's names, without classifier);
                            of a Descriptor, of whose file an Encoder takes the backbone
    timm:resnet50.a1_in1k   downloads timm's weights of that name, once; normalization becomes that of the weights

    Raises ValueError if the names or shapes are not exactly the encoder's, or the file is not whole;
    FileNotFoundError without the file; OSError if a download fails.
    """
    name = str(spec)
    if name.startswith("timm:"):
        encoder = encoder.backbone if isinstance(encoder, Descriptor) else encoder
        source = _downloaded(encoder, name.removeprefix("timm:"))
        _check(encoder.body.state_dict(), _shapes(source.state_dict()), name)
        encoder.body.load_state_dict(source.state_dict())
        _normalize_as(encoder, source.pretrained_cfg)
        return
    if not name.endswith(".safetensors"):
        raise ValueError(f"weights are FILE.safetensors or timm:NAME, and {name!r} was given: convert other formats")
    _load_file(encoder, Path(spec))


def _load_file(encoder: Encoder | Descriptor, file: Path) -> None:
    """Names and shapes are compared before any value is read: a file may be far larger than the encoder."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no weights file {file}: check the path")
    shapes = tensor_file.shapes(file)
    target, prefix = _target(encoder, shapes)
    given = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    _check(target.state_dict(), given, str(file))
    found = tensor_file.decode(tensor_file.read(file), file)
    state = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
    _check(target.state_dict(), _shapes(state), str(file))  # again, for the bytes that are loaded
    wrong = sorted(name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all()))
    if wrong:
        raise ValueError(
            f"the weights {file} hold NaN or infinite values in {_first(wrong)}: fetch or export them again"
        )
    target.load_state_dict(state)


def _target(network: Encoder | Descriptor, names: Iterable[str]) -> tuple[nn.Module, str]:
    """What the weights of these names are for, and what stands before the names of its own."""
    if isinstance(network, Descriptor):
        return network, ""
    if any(name.startswith("encoder.body.") for name in names):  # of a descriptor
        return network, "encoder."
    return (network if any(name.startswith("body.") for name in names) else network.body), ""


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _normalize_as(encoder: Encoder, facts: Mapping[str, Any]) -> None:
    """Takes up mean and std of the weights; their averages if the number of channels is another."""
    for own, values in ((encoder.mean, facts["mean"]), (encoder.std, facts["std"])):
        given = torch.tensor(values).to(own)
        own.copy_((given if len(given) == len(own) else given.mean().expand(len(own))).view_as(own))


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


def _check(own: Mapping[str, Tensor], given: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Raises one sentence about what is missing, unexpected, or of another shape."""
    wanted, faults = _shapes(own), []
    for what, keys in (("lack", wanted.keys() - given.keys()), ("also hold", given.keys() - wanted.keys())):
        if keys:
            faults.append(f"{what} {_first(sorted(keys))}")
    shapes = [
        f"{key} {given[key]} where the encoder has {wanted[key]}{_reason(wanted[key], given[key])}"
        for key in wanted.keys() & given.keys()
        if wanted[key] != given[key]
    ]
    if shapes:
        faults.append(f"hold {_first(sorted(shapes))}")
    if faults:
        raise ValueError(
            f"the weights {name} do not fit this encoder: they {'; they '.join(faults)}; "
            "build the backbone with the name, stem, image_size and channels that the weights were trained with"
        )


def _reason(own: tuple[int, ...], given: tuple[int, ...]) -> str:
    """For first convolutions, in words."""
    if len(own) != 4 or len(given) != 4:
        return ""
    if own[1] != given[1] and own[2:] == given[2:]:
        return f" ({given[1]} input channels, not {own[1]})"
    return " (another stem)" if own[2:] != given[2:] else ""


def _first(words: list[str], shown: int = 3) -> str:
    more = f" and {len(words) - shown} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more
