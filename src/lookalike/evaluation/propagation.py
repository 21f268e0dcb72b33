"""Label propagation: the mask of a video's first frame is carried to the others by features alone (DAVIS 2017).

Jabri et al. 2020 (ajabri/videowalk, test.py), by which Revisiting-Contrastive was scored too. For each cell of a frame

    context     all cells of the first frame; of the frames just before, the cells less than `radius` away
    nearest     the `neighbors` cells of the context with the largest cosine
    label       the sum of their labels, weighed by softmax(cosine / temperature)

and labels stay soft from frame to frame. Nothing is trained.

Shapes: T frames, D features, h and w a feature map, n its cells, L labels, O objects, H and W pixels, S frames of the
context, N their cells, c some cells.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

CONTEXT, RADIUS, NEIGHBORS, TEMPERATURE = 20, 12.0, 10, 0.05  # videowalk's for DAVIS
UNLABELED = 255
BOUND = 0.008  # of the image's diagonal: how far a boundary may be off (DAVIS)
CELLS = 2**24  # similarities that exist at a time


def propagate(
    maps_TDhw: Float[Tensor, "T D h w"],
    first_HW: Int64[Tensor, "H W"],
    *,
    context: int = CONTEXT,
    radius: float = RADIUS,
    neighbors: int = NEIGHBORS,
    temperature: float = TEMPERATURE,
) -> Int64[Tensor, "T H W"]:
    """Labels of all frames; those of the first are given, 0 for background. Defaults are videowalk's for DAVIS.

    A context of fewer cells than `neighbors` is taken whole. Raises ValueError for numbers that are not above 0, and
    labels below 0.
    """
    frames = carry(maps_TDhw, first_HW, context=context, radius=radius, neighbors=neighbors, temperature=temperature)
    return torch.stack(list(frames))


@torch.no_grad()
def carry(
    maps: Iterable[Float[Tensor, "D h w"]],
    first_HW: Int64[Tensor, "H W"],
    *,
    context: int = CONTEXT,
    radius: float = RADIUS,
    neighbors: int = NEIGHBORS,
    temperature: float = TEMPERATURE,
) -> Iterator[Int64[Tensor, "H W"]]:
    """`propagate`, frame by frame as the maps come; of these the first and the `context` latest are kept."""
    if min(context, radius, neighbors, temperature) <= 0 or int(first_HW.min()) < 0:
        raise ValueError(
            f"context, radius, neighbors and temperature are {context}, {radius}, {neighbors}, {temperature}, the "
            f"lowest label {int(first_HW.min())}: give numbers above 0, and labels from 0"
        )
    seen = deque[tuple[Tensor, Tensor]](maxlen=context)
    start: list[tuple[Tensor, Tensor]] = []
    for map_Dhw in maps:
        cells_Dn, size = F.normalize(map_Dhw.flatten(1), dim=0), (map_Dhw.shape[1], map_Dhw.shape[2])
        if not start:
            labels_L, dense_HW = first_HW.unique(return_inverse=True)  # a plane for each label that is there
            one_hot_LHW = F.one_hot(dense_HW).movedim(2, 0).to(map_Dhw)
            start = [(cells_Dn, F.adaptive_avg_pool2d(one_hot_LHW, size).flatten(1))]
            yield first_HW
            continue
        soft_Ln = _carried(cells_Dn, [*start, *seen], _places(*size).to(map_Dhw.device), radius, neighbors, temperature)
        seen.append((cells_Dn, soft_Ln))
        map_LHW = F.interpolate(soft_Ln.view(1, -1, *size), size=first_HW.shape, mode="bilinear")[0]
        yield labels_L[map_LHW.argmax(0)]


def _carried(
    query_Dn: Tensor,
    seen: Sequence[tuple[Tensor, Tensor]],
    places_n2: Tensor,
    radius: float,
    neighbors: int,
    temperature: float,
) -> Float[Tensor, "L n"]:
    """Soft labels of a frame's cells from (cells, soft labels) of S frames, as many at a time as there is room for."""
    parts, labels_LN = [], torch.cat([soft_Ln for _, soft_Ln in seen], 1)
    for some in torch.arange(len(places_n2), device=query_Dn.device).split(max(1, CELLS // labels_LN.shape[1])):
        similarity_Snc = torch.stack([cells_Dn.T @ query_Dn[:, some] for cells_Dn, _ in seen])
        far_nc = (places_n2[:, None] - places_n2[some]).square().sum(2) >= radius**2
        similarity_Snc[1:].masked_fill_(far_nc, -torch.inf)  # the first frame is seen whole
        top = similarity_Snc.flatten(0, 1).topk(min(neighbors, labels_LN.shape[1]), dim=0)
        parts.append((labels_LN[:, top.indices] * (top.values / temperature).softmax(0)).sum(1))
    return torch.cat(parts, 1)


def _places(height: int, width: int) -> Int64[Tensor, "n 2"]:
    """Row and column of each cell."""
    return torch.cartesian_prod(torch.arange(height), torch.arange(width)).view(-1, 2)


def region_similarity(found_HW: Bool[Tensor, "H W"], truth_HW: Bool[Tensor, "H W"]) -> float:
    """J, the intersection over the union; 1 where both are empty."""
    either = int((found_HW | truth_HW).sum())
    return int((found_HW & truth_HW).sum()) / either if either else 1.0


def boundary_accuracy(found_HW: Bool[Tensor, "H W"], truth_HW: Bool[Tensor, "H W"], *, bound: float = BOUND) -> float:
    """F, the harmonic mean of precision and recall of boundary pixels (Perazzi et al. 2016).

    A pixel counts where the other boundary is within `bound` of the diagonal, rounded up to pixels. Where a mask has no
    boundary, its share of hits is 1.
    """
    reach = math.ceil(bound * math.hypot(*truth_HW.shape))
    found, truth = _boundary(found_HW), _boundary(truth_HW)
    shares = [
        int((one & _thick(other, reach)).sum()) / int(one.sum()) if one.any() else 1.0
        for one, other in ((found, truth), (truth, found))
    ]
    if found.any() != truth.any():
        shares = [0.0, 1.0]
    return 2 * shares[0] * shares[1] / sum(shares) if sum(shares) else 0.0


def _boundary(mask_HW: Tensor) -> Bool[Tensor, "H W"]:
    """Pixels that differ from the one to the right, below, or below to the right."""
    padded = F.pad(mask_HW[None].float(), (0, 1, 0, 1), mode="replicate")[0].bool()
    here = padded[:-1, :-1]
    return (here ^ padded[:-1, 1:]) | (here ^ padded[1:, :-1]) | (here ^ padded[1:, 1:])


def _thick(line_HW: Tensor, reach: int) -> Bool[Tensor, "H W"]:
    """All pixels at most `reach` from the line."""
    steps = torch.arange(-reach, reach + 1)
    disk = (steps[:, None].square() + steps.square() <= reach**2).float()[None, None]
    return F.conv2d(line_HW[None, None].float(), disk.to(line_HW.device), padding=reach)[0, 0] > 0.5


def objects_of(first_HW: Int64[Tensor, "H W"]) -> list[int]:
    """The labels that are carried: those of the first frame but 0, background, and 255, unlabeled."""
    return [label for label in first_HW.unique().tolist() if label not in (0, UNLABELED)]


def object_scores(
    found_HW: Int64[Tensor, "H W"], truth_HW: Int64[Tensor, "H W"], objects: Sequence[int]
) -> Float64[Tensor, "O 2"]:
    """J and F of each object in one frame. Pixels that the truth leaves unlabeled, 255, count nowhere."""
    found_HW = found_HW.where(truth_HW != UNLABELED, UNLABELED)
    pairs = [(found_HW == label, truth_HW == label) for label in objects]
    return torch.tensor([[region_similarity(*pair), boundary_accuracy(*pair)] for pair in pairs], dtype=torch.float64)


def video_score(found_THW: Int64[Tensor, "T H W"], truth_THW: Int64[Tensor, "T H W"]) -> tuple[float, float]:
    """J and F, the mean over objects of the mean over frames, without the first and the last frame, as on DAVIS.

    Objects as in `objects_of`. Raises ValueError for fewer than three frames or no object.
    """
    objects, frames = objects_of(truth_THW[0]), range(1, len(truth_THW) - 1)
    if not objects or not frames:
        raise ValueError(
            f"{len(truth_THW)} frames with {len(objects)} objects give no score: the first and the last frame do not "
            "count, and the first must show an object"
        )
    j, f = torch.stack([object_scores(found_THW[t], truth_THW[t], objects) for t in frames]).mean((0, 1)).tolist()
    return j, f
