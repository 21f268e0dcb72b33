"""What `evaluate` scores: the trained encoder, references that cost nothing, and weights that the user names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
from torch import nn

from lookalike.api.folder import RunFolder
from lookalike.evaluation import RawPixels, random_weights
from lookalike.modules import Descriptor, backbone, load_weights
from lookalike.recipes import Recipe, build_encoder, view_size


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A model with the size of the central view it is shown; seed and epochs of its pretraining, where it had any."""

    name: str
    module: nn.Module
    size: int
    features: str = "backbone"
    seed: int | None = None
    epochs: float | None = None

    @property
    def learns(self) -> bool:
        """Whether it has weights that could be tuned."""
        return any(True for _ in self.module.parameters())


def models(folder: RunFolder, *, references: bool, others: Sequence[str], role: str = "encoder") -> list[Scored]:
    """The trained encoder first; raw pixels and random weights, if asked for; then the named weights.

    Raises ValueError where one cannot be built or takes another number of channels.
    """
    encoder, recipe = folder.encoder(role), folder.recipe()
    size, seed = view_size(recipe), recipe.seed
    kind = f"{role} descriptor" if isinstance(encoder, Descriptor) else "backbone"
    found = [Scored(name="trained", module=encoder, size=size, features=kind, seed=seed, epochs=recipe.epochs)]
    if references:
        found += [
            Scored(name="random weights", module=random_weights(encoder, seed), size=size, features=kind, seed=seed),
            Scored(name="raw pixels", module=RawPixels(), size=size, features="pixels"),
        ]
    return found + [named(spec, recipe) for spec in others]


def named(spec: str, recipe: Recipe) -> Scored:
    """A reference from timm:NAME (downloaded by timm, once), FILE.safetensors for the run's network, or another run.

    Weights of timm are shown images of the size they were trained with; a file's the size of the run.
    """
    if spec.startswith("timm:"):
        return _of_timm(spec, recipe.data.channels)
    if spec.endswith(".safetensors"):
        size = view_size(recipe)
        encoder = build_encoder(recipe.backbone, channels=recipe.data.channels, size=size, seed=recipe.seed)
        load_weights(encoder, spec)
        return Scored(name=spec, module=encoder.eval(), size=size)
    folder = RunFolder(Path(spec))
    if not folder.begun():
        raise ValueError(
            f"the reference {spec!r} is no run, no FILE.safetensors and no timm:NAME: name one, "
            "for instance timm:resnet18.a1_in1k"
        )
    other = folder.recipe()
    if other.data.channels != recipe.data.channels:
        raise ValueError(
            f"{spec} was trained on images of {other.data.channels} channels, and this run on {recipe.data.channels}: "
            "compare runs on the same kind of images"
        )
    return Scored(name=spec, module=folder.shown(), size=view_size(other), seed=other.seed, epochs=other.epochs)


def _of_timm(spec: str, channels: int) -> Scored:
    name = spec.removeprefix("timm:")
    facts = timm.models.get_pretrained_cfg(name) if name in timm.list_pretrained() else None
    size = facts.input_size[-1] if facts is not None else 224  # no such weights: what follows says so
    encoder = backbone(name.partition(".")[0], stem="imagenet", image_size=size, channels=channels)
    load_weights(encoder, spec)
    return Scored(name=spec, module=encoder.eval(), size=size)
