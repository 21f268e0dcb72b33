"""evaluate --protocol segments: each masked object of a query image is named after the most similar of a gallery."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from lookalike.api.ahead import decoded
from lookalike.api.judged import SEED, Judged, Part, card
from lookalike.api.maps import Mapped
from lookalike.data import Masked, MaskedFolder, Skipped, Skips
from lookalike.evaluation import Segment, SegmentResult, objects_of, segment_retrieval
from lookalike.evaluation.segments import UNLABELED
from lookalike.training.progress import Line

BATCH = 16  # images decoded at a time


@dataclass(frozen=True, kw_only=True)
class Objects:
    """The objects of one half of the images, each with its own class alone in sight, as they are passed by.

    image, classes: of each object so far, the number of its image and its class.
    """

    source: Masked
    what: str
    model: Mapped
    device: torch.device
    skips: Skips
    line: Line
    image: list[int] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)

    def segments(self) -> Iterator[Segment]:
        """In the order of the images. Raises ValueError where no mask shows a class, or too many are unreadable."""
        skipped, name = list[Skipped](), self.model.name
        with self.line.track(f"{name}: {self.what} images", len(self.source)) as advance:
            for index, images in decoded(self.source, range(len(self.source)), BATCH, skipped):
                for number, image in zip(index.tolist(), images, strict=True):
                    yield from self._of(number, image)
                self.skips.add(skipped)
                advance(len(index))
        self.skips.add(skipped)
        if self.skips.met and name == "trained":
            names = ", ".join(one.name for one in list(self.skips.met.values())[:5])
            count = f"{len(self.skips.met):,} of {self.skips.size:,}"
            self.line.say(f"unreadable {self.what} images or masks, left out: {count}, first {names}")
        if not self.image:
            raise ValueError(
                f"none of the {len(self.source):,} {self.what} masks shows a class: write classes as 1 to 254; 0 is "
                "background, and 255 is left out"
            )

    def _of(self, number: int, image: torch.Tensor) -> Iterator[Segment]:
        (map_Dhw,), mask_HW = self.model.maps([image[:-1]], self.device), image[-1].long()
        for label in objects_of(mask_HW):
            self.image.append(number)
            self.classes.append(label)
            inside_HW = mask_HW == label
            yield Segment(map_Dhw, inside_HW, mask_HW.where(inside_HW, UNLABELED))


def judge_segments(folder: MaskedFolder, model: Mapped, *, device: torch.device, max_bad: float, line: Line) -> Judged:
    """The mean over the classes of val of the IoU, beside the share of objects that are named rightly.

    Raises ValueError where a half shows no class, a mask has another size than its image, or too many are unreadable.
    """
    gallery, queries = (
        Objects(
            source=half,
            what=what,
            model=model,
            device=device,
            skips=Skips(None, len(half), allowed=max_bad),
            line=line,
        )
        for half, what in ((folder.train, "train"), (folder.val, "val"))
    )
    found = segment_retrieval(queries.segments(), gallery.segments())
    result, counts = found.of(sorted(set(queries.classes))), Counter(queries.classes)
    if model.name == "trained":
        _tell_lost(result, gallery, line)
    draws = result.resampled(torch.tensor(queries.image), seed=SEED)
    score = card(
        model,
        "mIoU",
        result.mean_iou,
        draws,
        images=(len(set(gallery.image)), len(set(queries.image))),
        settings={"masks": "true", "classes": len(result.iou)},
        found={
            "right": float((result.both.sum(1) > 0).double().mean()),
            "objects": result.n_query,
            "gallery": result.n_gallery,
        },
    )
    parts = [Part(name=f"class {c}", objects=counts[c], values={"IoU": iou}) for c, iou in result.iou.items()]
    return Judged(score=score, draws=draws, parts=parts)


def _tell_lost(result: SegmentResult, gallery: Objects, line: Line) -> None:
    if len(result.iou) == 1:
        line.say("all objects of val are of one class: any encoder that finds one like it is right")
    lost = sorted(set(result.iou) - set(gallery.classes))
    if lost:
        line.say(
            f"{len(lost)} of {len(result.iou)} classes have objects in val and none in train, and count as 0: "
            f"{', '.join(map(str, lost[:5]))}"
        )
