"""Segment retrieval: each masked object of a query image is named after the most similar object of a gallery.

Van Gansbeke et al. 2021 (MaskContrast; wvangansbeke/Unsupervised-Semantic-Segmentation, retrieval_utils.py), by which
Revisiting-Contrastive was scored too. Of each image a feature map, a mask of one object, and the true classes of its
pixels; nothing is trained.

    row of an object     mean of the features inside its mask, unit length
    class of an object   the most frequent class inside its mask, without background and unlabeled pixels
    prediction           inside the mask the class of the gallery object with the largest cosine, outside background
    IoU of a class       pixels predicted and true, over pixels predicted or true, of all query images together

Shapes: D features, h and w a feature map, H and W pixels, N gallery objects, Q queries, C classes, K of them judged,
R draws of the bootstrap.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from lookalike.evaluation.worth import RESAMPLES, resampled_ratio

BACKGROUND, UNLABELED = 0, 255  # of PASCAL VOC


class Segment(NamedTuple):
    """An image with one object: its feature map, where the object is, and the class of each pixel."""

    features: Float[Tensor, "D h w"]
    mask: Bool[Tensor, "H W"]
    truth: Int64[Tensor, "H W"]


@dataclass(frozen=True, kw_only=True)
class SegmentResult:
    """iou: class -> intersection over union, of the classes asked for that occur as truth or as prediction.

    without: gallery images that gave no object, their mask being empty or on background alone. both, either: pixels of
    each query that are predicted and true, and predicted or true, of the classes of iou in this order.
    """

    iou: dict[int, float]
    n_query: int
    n_gallery: int
    without: int
    both: Int64[Tensor, "Q K"] = field(compare=False, repr=False)
    either: Int64[Tensor, "Q K"] = field(compare=False, repr=False)

    @property
    def mean_iou(self) -> float:
        return sum(self.iou.values()) / len(self.iou)

    def of(self, classes: Sequence[int]) -> "SegmentResult":
        """The same of those of these classes that occur."""
        kept = [k for k, c in enumerate(self.iou) if c in classes]
        iou = {c: iou for c, iou in self.iou.items() if c in classes}
        return replace(self, iou=iou, both=self.both[:, kept], either=self.either[:, kept])

    def resampled(
        self, groups_Q: Int64[Tensor, "Q"] | None = None, *, seed: int = 0, draws: int = RESAMPLES
    ) -> Float64[Tensor, "R"]:
        """The mean IoU on bootstrap samples of the queries, or of groups of them: groups_Q says to which each belongs.

        Objects of one image are a group, for instance. Classes that a sample does not show are not in its mean. Raises
        ValueError unless there is a group for each query.
        """
        groups_Q = torch.arange(self.n_query) if groups_Q is None else groups_Q
        if len(groups_Q) != self.n_query:
            raise ValueError(f"groups of {len(groups_Q)} queries are given, and there were {self.n_query}: give each")
        number_Q = groups_Q.unique(return_inverse=True)[1]
        nothing_GK = torch.zeros(int(number_Q.max()) + 1, len(self.iou), dtype=torch.int64)
        sums = (nothing_GK.index_add(0, number_Q, pixels_QK) for pixels_QK in (self.both, self.either))
        return resampled_ratio(*sums, seed=seed, draws=draws)


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
    bank_ND, named_N, without = _bank(gallery)
    both, either = list[Tensor](), list[Tensor]()
    for segment in queries:
        _demand_one_shape(segment)
        similarity_N = bank_ND @ segment_row(segment.features, segment.mask)
        predicted_HW = torch.where(segment.mask.cpu(), named_N[similarity_N.cpu().argmax()], BACKGROUND)
        pairs_CC = _pairs(segment.truth.cpu(), predicted_HW)
        both.append(pairs_CC.diagonal().clone())
        either.append(pairs_CC.sum(0) + pairs_CC.sum(1) - both[-1])
    n_query, wanted = len(both), range(256) if classes is None else classes
    total_C = torch.stack(either).sum(0) if either else torch.zeros(256)
    judged = [c for c in wanted if total_C[c] > 0]
    if not judged:
        raise ValueError(f"{n_query} query images show none of the classes: give queries, and classes that occur")
    both_QK, either_QK = torch.stack(both)[:, judged], torch.stack(either)[:, judged]
    shares = (both_QK.sum(0).double() / either_QK.sum(0)).tolist()
    return SegmentResult(
        iou=dict(zip(judged, shares, strict=True)),
        n_query=n_query,
        n_gallery=len(bank_ND),
        without=without,
        both=both_QK,
        either=either_QK,
    )


def _bank(gallery: Iterable[Segment]) -> tuple[Float[Tensor, "N D"], Int64[Tensor, "N"], int]:
    """Rows and classes of the gallery's objects, and how many images gave none."""
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
    return torch.stack(rows), torch.tensor(labels), without


def _pairs(truth_HW: Int64[Tensor, "H W"], predicted_HW: Int64[Tensor, "H W"]) -> Int64[Tensor, "C C"]:
    """Pixels by (truth, prediction), without unlabeled ones."""
    seen = truth_HW != UNLABELED
    return (256 * truth_HW[seen] + predicted_HW[seen]).bincount(minlength=256 * 256).view(256, 256)


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
