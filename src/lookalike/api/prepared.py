"""The images of one half of a labelled folder, decoded once, as the views that probes look at."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lookalike.data import Files, Skips, cached, read_or_next
from lookalike.functional.order import Shuffle
from lookalike.training.progress import Line, steps_of
from lookalike.transforms import Chain, HorizontalFlip, RandomResizedCrop, Views, eval_chain

CHUNK = 256


class Prepared:
    """Views of each readable image of a source; labels belong to the images that are kept, by their numbers."""

    def __init__(self, source: Files, line: Line, max_bad: float) -> None:
        assert source.labels is not None
        self.labels = source.labels
        with line.track(f"Decoding {len(source):,} images", len(source)) as advance:
            self.source = cached(source, on_progress=steps_of(advance))
        self.line, self.skips = line, Skips(None, len(source), allowed=max_bad)

    def __len__(self) -> int:
        return len(self.source)

    def tell(self) -> None:
        """Says which images were left out."""
        if self.skips.met:
            names = ", ".join(one.name for one in list(self.skips.met.values())[:5])
            self.line.say(f"unreadable images, left out: {len(self.skips.met):,} of {self.skips.size:,}, first {names}")

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(index (B,), pixels) of the central size x size views, in order."""
        index = torch.arange(len(self))
        return self._views(eval_chain(size), index, index.split(CHUNK), seed=0, epoch=0)

    def drawn(self, size: int, *, batch: int, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(index (B,), pixels) of an epoch in its own order: random crops of 8 % of the area or more, half mirrored.

        The augmentation of the papers' linear probes (facebookresearch/moco, main_lincls.py). In as few batches of at
        most `batch` as there can be, all of one size or one less: no last one that is too small for BatchNorm.
        """
        order = Shuffle().indices(seed=seed, phase=0, round=epoch, size=len(self))
        batches = torch.arange(len(order)).tensor_split(-(-len(order) // batch))
        return self._views((RandomResizedCrop(size), HorizontalFlip()), order, batches, seed=seed, epoch=epoch)

    def _views(
        self, chain: Chain, order: Tensor, batches: Sequence[Tensor], *, seed: int, epoch: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        views = Views({"probe": chain})
        for places in batches:
            images, found, skipped = read_or_next(self.source, order, places, stride=len(batches[0]))
            self.skips.add(skipped)
            kept = found == order[places]
            if kept.any():
                images = [image for image, keep in zip(images, kept, strict=True) if keep]
                parameters = views.draw(found[kept], seed=seed, epoch=(0, epoch))
                yield found[kept], views.render(images, parameters)["probe"]
