"""evaluate --protocol segments or propagation: feature maps judged by masks, the trained beside references."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from lookalike.api.judged import Judged, Part, ahead
from lookalike.api.maps import Mapped, mapped
from lookalike.api.models import Scored
from lookalike.api.segments import judge_segments
from lookalike.api.videos import judge_clips
from lookalike.data import clips, masked_folder
from lookalike.evaluation import Score, Worth, fingerprint
from lookalike.modules import Encoder
from lookalike.training.progress import Line

MASKS = ("segments", "propagation")


@dataclass(frozen=True)
class ByMasks:
    """Scores by what was scored, the trained encoder against the best of the others, and its classes or clips."""

    scores: dict[str, list[Score]]
    worth: list[Worth]
    parts: list[Part]


def by_masks(
    data: str | os.PathLike[str],
    scored: Sequence[Scored],
    protocol: str,
    *,
    device: torch.device,
    max_bad: float,
    line: Line,
) -> ByMasks:
    """Scores the models, of which one is "trained", by the masks of a folder; they are left as they were.

    Raises ValueError for a folder of another layout, a network that gives no maps, and as the protocols do.
    """
    models = [mapped(one, fine=protocol == "propagation") for one in scored]
    channels = next(model.encoder.channels for model in models if isinstance(model.encoder, Encoder))
    judge = _of_images(data, channels, line) if protocol == "segments" else _of_clips(data, channels, line)
    judged = {}
    for model in models:
        before = fingerprint(model.scored.module)
        model.encoder.to(device)
        judged[model.name] = judge(model, device, max_bad, line)
        if fingerprint(model.scored.module) != before:
            raise RuntimeError(f"evaluation changed {model.name}: this is a defect of lookalike, please report it")
    return ByMasks(
        scores={name: [one.score] for name, one in judged.items()},
        worth=ahead(judged),
        parts=judged["trained"].parts,
    )


Judge = Callable[[Mapped, torch.device, float, Line], Judged]


def _of_images(data: str | os.PathLike[str], channels: int, line: Line) -> Judge:
    folder = masked_folder(data, channels=channels)
    line.say(f"objects of {len(folder.val):,} val images look for their like in {len(folder.train):,} train images")
    return lambda model, device, max_bad, line: judge_segments(folder, model, device=device, max_bad=max_bad, line=line)


def _of_clips(data: str | os.PathLike[str], channels: int, line: Line) -> Judge:
    found = clips(data, channels=channels)
    frames = sum(len(clip.frames) for clip in found)
    line.say(f"the first masks of {len(found):,} clips are carried through {frames:,} frames")
    return lambda model, device, max_bad, line: judge_clips(found, model, device=device, max_bad=max_bad, line=line)
