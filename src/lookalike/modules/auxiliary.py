"""Auxiliary tasks: classifications whose answers cost nothing, on the features of an encoder.

A task makes what the encoder sees from the views, asks, and owns the head that answers; the loss of a question is the
cross entropy of its answers. Rotation is that of EffSSL (Addepalli et al., 2022; val-iisc/EffSSL).

B images, K answers, D features, N tiles.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lookalike.functional import random
from lookalike.functional.boxes import overlap
from lookalike.functional.turns import tiles, turned
from lookalike.modules.heads import mlp

Attach = Literal["backbone", "projector"]
STAGES: Mapping[str, tuple[str, ...]] = {"backbone": ("encoder",), "projector": ("encoder", "projector")}  # of a method
SIDE = 3  # tiles in a row: nine, as in the papers of both puzzles
CENTER, AROUND = 4, torch.tensor([0, 1, 2, 3, 5, 6, 7, 8])  # numbers of the nine tiles, row by row


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a task sees of some images: the views that it looks at, and the means to look.

    boxes: view -> (B, 4) fractions of the image. draw(name, n): (B, n) random numbers in [0, 1), keyed by the sample.
    encode: pixels -> (rows, D), with gradient; encoded: the same for a view, by the method where it has done so.
    """

    views: Mapping[str, Tensor]
    boxes: Mapping[str, Tensor]
    draw: Callable[[str, int], Tensor]
    encode: Callable[[Tensor], Tensor]
    encoded: Callable[[str], Tensor]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Logits of the answers to one question about each image, and the right ones."""

    logits: Float[Tensor, "B K"]
    right: Int64[Tensor, "B"]


class Task(nn.Module, ABC):
    """The only abstract class here: a task has a head of its own, and no other state."""

    attach: Attach  # whether it reads features or what the projector makes of them
    views: int  # of each image, those of full size that come first
    answers: int
    passes: ClassVar[float]  # of whole images through the encoder for each view

    @property
    def questions(self) -> int:
        """How many questions it asks about each image: one for each view, unless it compares views."""
        return self.views

    @abstractmethod
    def forward(self, scene: Scene) -> Sequence[Answers]:
        """The answers to each of its questions."""


class Rotation(Task):
    """By which quarter is a view turned? (EffSSL: Addepalli et al., 2022)

    One quarter is drawn for each image and view, counter-clockwise; answers 0 to 3. dim: of the features; hidden: width
    of the head, None: that of the features (official code). Raises ValueError for views that are not square.
    """

    passes = 1.0

    def __init__(self, dim: int, *, views: int = 2, attach: Attach = "backbone", hidden: int | None = None) -> None:
        super().__init__()
        self.views, self.attach, self.answers = views, attach, 4
        self.head = mlp(dim, [hidden or dim, self.answers])

    def forward(self, scene: Scene) -> Sequence[Answers]:
        found = []
        for view, pixels in scene.views.items():  # a forward each, independent quarters: official code
            quarters_B = _choices(scene.draw(f"rotation/{view}", 1), self.answers)
            logits_BK = self.head(scene.encode(turned(pixels, quarters_B)))
            found.append(Answers(logits=logits_BK, right=quarters_B))
        return found


class Jigsaw(Task):
    """In which order do the nine tiles of a view lie? (Noroozi, Favaro, 2016)

    The orders are far from one another in Hamming distance. Each tile is reduced to `width` numbers, nine of which
    answer together (256 and 100 orders as in EffSSL's code, which does not use this task).
    """

    passes = 1.0
    orders: Tensor  # (K, N)

    def __init__(
        self, dim: int, *, views: int = 1, attach: Attach = "backbone", orders: int = 100, width: int = 256
    ) -> None:
        super().__init__()
        self.views, self.attach, self.answers = views, attach, orders
        self.register_buffer("orders", distant_orders(orders, SIDE * SIDE), persistent=False)
        self.each = nn.Sequential(*mlp(dim, [width], last_norm="plain"), nn.ReLU())
        self.head = nn.Linear(SIDE * SIDE * width, orders)

    def forward(self, scene: Scene) -> Sequence[Answers]:
        found = []
        for view, pixels in scene.views.items():
            order_B = _choices(scene.draw(f"jigsaw/{view}", 1), self.answers)
            rows_B1 = torch.arange(len(pixels), device=pixels.device)[:, None]
            mixed = tiles(pixels, SIDE)[rows_B1, self.orders[order_B]]
            # tile after tile: rows of an image keep their group of batch statistics
            each = self.each(scene.encode(mixed.transpose(0, 1).flatten(0, 1)))
            joined = torch.cat(each.chunk(SIDE * SIDE), 1)
            found.append(Answers(logits=self.head(joined), right=order_B))
        return found


class RelativePosition(Task):
    """On which side of the middle tile of a view does another lie? (Doersch et al., 2015)

    hidden: width of the head, None: that of the features.
    """

    passes = 2 / 9

    def __init__(self, dim: int, *, views: int = 1, attach: Attach = "backbone", hidden: int | None = None) -> None:
        super().__init__()
        self.views, self.attach, self.answers = views, attach, len(AROUND)
        self.head = mlp(2 * dim, [hidden or dim, self.answers])

    def forward(self, scene: Scene) -> Sequence[Answers]:
        found = []
        for view, pixels in scene.views.items():
            side_B = _choices(scene.draw(f"relative position/{view}", 1), self.answers)
            cut, rows_B = tiles(pixels, SIDE), torch.arange(len(pixels), device=pixels.device)
            other = cut[rows_B, AROUND.to(side_B.device)[side_B]]
            features = scene.encode(torch.cat([cut[:, CENTER], other])).chunk(2)
            found.append(Answers(logits=self.head(torch.cat(features, 1)), right=side_B))
        return found


class CropOverlap(Task):
    """How much do two views of an image overlap? (our choice)

    The answer is their IoU, as one of `bins` equal parts of 0 to 1. It reads the features that the method has made of
    both views already; where it made none (a view that only a momentum encoder sees), the view is encoded. hidden:
    width of the head, None: that of the features. Raises ValueError where there are no two views, or no boxes.
    """

    passes = 0.0

    def __init__(self, dim: int, *, attach: Attach = "backbone", bins: int = 5, hidden: int | None = None) -> None:
        super().__init__()
        self.views, self.attach, self.answers = 2, attach, bins
        self.head = mlp(2 * dim, [hidden or dim, self.answers])

    @property
    def questions(self) -> int:
        return 1

    def forward(self, scene: Scene) -> Sequence[Answers]:
        if len(scene.views) < 2 or not scene.views.keys() <= scene.boxes.keys():
            raise ValueError(
                f"the overlap of crops needs two views with boxes, and there are {list(scene.views)} "
                f"with boxes of {list(scene.boxes)}: choose a method that reads two views of one size"
            )
        iou_B = overlap(*(scene.boxes[view] for view in scene.views))
        bin_B = _choices(iou_B, self.answers)
        features = [scene.encoded(view) for view in scene.views]
        return [Answers(logits=self.head(torch.cat(features, 1)), right=bin_B)]


def distant_orders(count: int, tiles: int, candidates: int = 300) -> Int64[Tensor, "K N"]:
    """`count` orders of the tiles, each the one of some random candidates that is farthest from all before it.

    The greedy choice of Noroozi and Favaro over part of all orders; the same on every machine.
    """
    generator = random.generator("jigsaw", tiles)
    pool = torch.stack([torch.randperm(tiles, generator=generator) for _ in range(candidates + count)])
    chosen, distance = [0], torch.full((len(pool),), tiles)
    for _ in range(count - 1):
        distance = torch.minimum(distance, (pool != pool[chosen[-1]]).sum(1))
        chosen.append(int(distance.argmax()))
    return pool[chosen]


def _choices(uniform: Tensor, count: int) -> Tensor:
    """Numbers in [0, 1] as one of `count` equal parts, (B,)."""
    return (uniform.flatten() * count).long().clamp(max=count - 1)
