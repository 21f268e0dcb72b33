"""evaluate --protocol propagation: the masks of a clip's first frame, carried to the others by feature maps."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lookalike.api.ahead import decoded
from lookalike.api.judged import SEED, Judged, Part, card
from lookalike.api.maps import Mapped
from lookalike.data import Clip, Skipped, Skips, Unreadable
from lookalike.evaluation import carry, object_scores, objects_of
from lookalike.evaluation.propagation import CONTEXT, NEIGHBORS, RADIUS, TEMPERATURE, UNLABELED
from lookalike.evaluation.worth import resampled_ratio
from lookalike.training.progress import Line

BATCH = 4  # frames whose maps are computed at a time
SETTINGS = {"context": CONTEXT, "radius": RADIUS, "neighbors": NEIGHBORS, "temperature": TEMPERATURE}


@dataclass(frozen=True, kw_only=True)
class Playing:
    """A clip passing by frame by frame; truth: masks of the frames whose maps were given; skipped: unreadable ones."""

    clip: Clip
    model: Mapped
    device: torch.device
    truth: deque[Tensor]
    skipped: list[Skipped]

    def scores(self, advance: Callable[[int], None]) -> Tensor | None:
        """(O, 2): J and F of each object, the mean over frames but first and last; None where one is unreadable.

        Raises ValueError where the first mask shows no object, or the frames have several sizes.
        """
        try:
            first_HW = self.clip.frames.mask(0).long()
        except Unreadable as error:
            self.skipped.append(Skipped(0, self.clip.frames.name(0), error.reason))
            return None
        objects, found = objects_of(first_HW), list[Tensor]()
        if not objects:
            raise ValueError(
                f"the first mask of the clip {self.clip.name} shows no object: write objects as 1 to 254; 0 is "
                "background, and 255 is left out"
            )
        given_HW = first_HW.where(first_HW != UNLABELED, 0).to(self.device)
        for found_HW in carry(self._maps(first_HW.shape), given_HW):
            found.append(object_scores(found_HW.cpu(), self.truth.popleft(), objects))
            advance(1)
        return None if self.skipped else torch.stack(found[1:-1]).mean(0)

    def _maps(self, size: torch.Size) -> Iterator[Tensor]:
        """Up to the first frame that cannot be read."""
        frames = self.clip.frames
        for index, images in decoded(frames, range(len(frames)), BATCH, self.skipped):
            for number, image in zip(index.tolist(), images, strict=True):
                _demand_size(image, size, f"the frame {frames.name(number)} of the clip {self.clip.name}")
            if self.skipped:
                return
            self.truth.extend(image[-1].long() for image in images)
            yield from self.model.maps([image[:-1] for image in images], self.device)


def judge_clips(clips: Sequence[Clip], model: Mapped, *, device: torch.device, max_bad: float, line: Line) -> Judged:
    """J&F, the mean over the objects of all clips. A clip with an unreadable frame or mask is left out, and said.

    Raises ValueError as `Playing.scores` does, and where too many frames are unreadable.
    """
    frames, before = sum(len(clip.frames) for clip in clips), 0
    skips, found = Skips(None, frames, allowed=max_bad), list[tuple[Clip, Tensor]]()
    with line.track(f"{model.name}: frames", frames) as advance:
        for clip in clips:
            playing = Playing(clip=clip, model=model, device=device, truth=deque(), skipped=[])
            scores_O2 = playing.scores(advance)
            skips.add(replace(one, index=before + one.index) for one in playing.skipped)
            before += len(clip.frames)
            if scores_O2 is not None:
                found.append((clip, scores_O2))
            elif model.name == "trained":
                line.say(f"the clip {clip.name} is left out: {playing.skipped[0].name} {playing.skipped[0].reason}")
    if not found:
        raise ValueError(f"none of the {len(clips)} clips could be read: check the files")
    return _judged(model, found)


def _judged(model: Mapped, found: Sequence[tuple[Clip, Tensor]]) -> Judged:
    all_N2 = torch.cat([scores_O2 for _, scores_O2 in found])
    sums_G1 = torch.stack([scores_O2.mean(1).sum(0, keepdim=True) for _, scores_O2 in found])
    draws = resampled_ratio(sums_G1, torch.tensor([[len(scores_O2)] for _, scores_O2 in found]), seed=SEED)
    j, f = all_N2.mean(0).tolist()
    score = card(
        model,
        "J&F",
        float(all_N2.mean()),
        draws,
        images=(len(found), sum(len(clip.frames) - 2 for clip, _ in found)),
        settings=SETTINGS,
        found={"J": j, "F": f, "objects": len(all_N2)},
    )
    return Judged(score=score, draws=draws, parts=[_part(clip, scores_O2) for clip, scores_O2 in found])


def _part(clip: Clip, scores_O2: Tensor) -> Part:
    j, f = scores_O2.mean(0).tolist()
    return Part(name=clip.name, objects=len(scores_O2), values={"J&F": (j + f) / 2, "J": j, "F": f})


def _demand_size(image: Tensor, size: torch.Size, what: str) -> None:
    if image.shape[1:] != size:
        (height, width), (rows, columns) = image.shape[1:], size
        raise ValueError(
            f"{what} has {width} x {height} pixels, and the first mask {columns} x {rows}: give all frames one size"
        )
