"""Segment retrieval: each masked object of a query image is named after the most similar object of a gallery.

Van Gansbeke et al. 2021 (MaskContrast; wvangansbeke/Unsupervised-Semantic-Segmentation, retrieval_utils.py), by which
Revisiting-Contrastive was scored too. Of each image a feature map, a mask of one object, and the true classes of its
pixels; nothing is trained.

    row of an object     mean of the features inside its mask, unit length
    class of an object   the most frequent class inside its mask, without background and unlabeled pixels
    prediction           inside the mask the class of the gallery object with the largest cosine, outside background
    IoU of a class       pixels predicted and true, over pixels predicted or true, of all query images together

Shapes: D features, h and w a feature map, H and W pixels, N gallery objects, C classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

BACKGROUND, UNLABELED = 0, 255  # of PASCAL VOC


class Segment(NamedTuple):
    """An image with one object: its feature map, where the object is, and the class of each pixel."""

    features: Float[Tensor, "D h w"]
    mask: Bool[Tensor, "H W"]
    truth: Int64[Tensor, "H W"]


@dataclass(frozen=True, kw_only=True)
class SegmentResult:
    """iou: class -> intersection over union, of the classes asked for that occur as truth or as prediction.

    without: gallery images that gave no object, their mask being empty or on background alone.
    """

    iou: dict[int, float]
    n_query: int
    n_gallery: int
    without: int

    @property
    def mean_iou(self) -> float:
        return sum(self.iou.values()) / len(self.iou)


def segment_row(features_Dhw: Float[Tensor, "D h w"], mask_HW: Bool[Tensor, "H W"]) -> Float[Tensor, "D"]:
    """The object's row. Each cell of the map weighs as much as its share inside the mask; zeros for an empty mask."""
    _, height, width = features_Dhw.shape
    share_hw = F.adaptive_avg_pool2d(mask_HW[None].to(features_Dhw), (height, width))[0]
    return F.normalize((features_Dhw * share_hw).sum((1, 2)), dim=0)


def segment_class(truth_HW: Int64[Tensor, "H W"], mask_HW: Bool[Tensor, "H W"]) -> int | None:
    """The object's class; of equally frequent ones the highest. None where the mask holds no class."""
    inside = truth_HW[mask_HW]
    counts = inside[(inside != BACKGROUND) & (inside != UNLABELED)].bincount()
    return None if not len(counts) else len(counts) - 1 - int(counts.flip(0).argmax())


def segment_retrieval(
    queries: Iterable[Segment], gallery: Iterable[Segment], *, classes: Sequence[int] | None = None
) -> SegmentResult:
    """IoU over `classes`, by default all that occur, background included; images are taken one at a time.

    Unlabeled pixels count nowhere. Raises ValueError for no query, for a gallery without an object, for shapes of mask
    and truth that differ, and where none of the classes occurs.
    """
    rows, labels, without = [], list[int](), 0
    for segment in gallery:
        _demand_one_shape(segment)
        name = segment_class(segment.truth, segment.mask)
        if name is None:
            without += 1
        else:
            rows.append(segment_row(segment.features, segment.mask))
            labels.append(name)
    if not rows:
        raise ValueError(f"none of the {without} gallery images has an object with a class: give masks that meet one")
    pairs, n_query = torch.zeros(256 * 256, dtype=torch.int64), 0
    bank_ND, named_N = torch.stack(rows), torch.tensor(labels)
    for segment in queries:
        _demand_one_shape(segment)
        similarity_N = bank_ND @ segment_row(segment.features, segment.mask)
        predicted = torch.where(segment.mask.cpu(), named_N[similarity_N.cpu().argmax()], BACKGROUND)
        truth = segment.truth.cpu()
        seen = truth != UNLABELED
        pairs += (256 * truth[seen] + predicted[seen]).bincount(minlength=256 * 256)
        n_query += 1
    iou = _iou(pairs.view(256, 256), classes)
    if not iou:
        raise ValueError(f"{n_query} query images show none of the classes: give queries, and classes that occur")
    return SegmentResult(iou=iou, n_query=n_query, n_gallery=len(rows), without=without)


def _iou(pairs_CC: Int64[Tensor, "C C"], classes: Sequence[int] | None) -> dict[int, float]:
    """From counts of (truth, prediction)."""
    both_C = pairs_CC.diagonal()
    either_C = pairs_CC.sum(0) + pairs_CC.sum(1) - both_C
    wanted = range(len(pairs_CC)) if classes is None else classes
    return {c: int(both_C[c]) / int(either_C[c]) for c in wanted if either_C[c] > 0}


def _demand_one_shape(segment: Segment) -> None:
    if segment.mask.shape != segment.truth.shape:
        raise ValueError(
            f"a mask of {tuple(segment.mask.shape)} pixels lies on classes of {tuple(segment.truth.shape)}: "
            "give both the size of the image"
        )
    if segment.truth.numel() and not 0 <= int(segment.truth.min()) <= int(segment.truth.max()) <= UNLABELED:
        raise ValueError(
            f"classes run from {int(segment.truth.min())} to {int(segment.truth.max())}: give numbers from 0, "
            f"background, to {UNLABELED}, unlabeled"
        )
