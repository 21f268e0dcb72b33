"""Label propagation: the mask of a video's first frame is carried to the others by features alone (DAVIS 2017).

Jabri et al. 2020 (ajabri/videowalk, test.py), by which Revisiting-Contrastive was scored too. For each cell of a frame

    context     all cells of the first frame; of the frames just before, the cells less than `radius` away
    nearest     the `neighbors` cells of the context with the largest cosine
    label       the sum of their labels, weighed by softmax(cosine / temperature)

and labels stay soft from frame to frame. Nothing is trained.

Shapes: T frames, D features, h and w a feature map, L labels, H and W pixels, N cells of the context, k neighbors.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

BOUND = 0.008  # of the image's diagonal: how far a boundary may be off (DAVIS)
CELLS = 2**24  # similarities that exist at a time


@torch.no_grad()
def propagate(
    maps_TDhw: Float[Tensor, "T D h w"],
    first_HW: Int64[Tensor, "H W"],
    *,
    context: int = 20,
    radius: float = 12.0,
    neighbors: int = 10,
    temperature: float = 0.05,
) -> Int64[Tensor, "T H W"]:
    """Labels of all frames; those of the first are given, 0 for background. Defaults are videowalk's for DAVIS.

    A context of fewer cells than `neighbors` is taken whole. Raises ValueError for numbers that are not above 0, and
    labels below 0.
    """
    if min(context, radius, neighbors, temperature) <= 0 or int(first_HW.min()) < 0:
        raise ValueError(
            f"context, radius, neighbors and temperature are {context}, {radius}, {neighbors}, {temperature}, the "
            f"lowest label {int(first_HW.min())}: give numbers above 0, and labels from 0"
        )
    frames, _, height, width = maps_TDhw.shape
    cells_TDn = F.normalize(maps_TDhw.flatten(2), dim=1)
    one_hot_LHW = F.one_hot(first_HW).movedim(2, 0).to(maps_TDhw)
    soft_TLn = [F.adaptive_avg_pool2d(one_hot_LHW, (height, width)).flatten(1)]
    near_nn, answers = _near(height, width, radius).to(maps_TDhw.device), [first_HW]
    for t in range(1, frames):
        seen = [0, *range(max(1, t - context), t)]
        free = torch.ones_like(near_nn)
        allowed_Nn = torch.cat([free, *(near_nn for _ in seen[1:])])
        keys_DN, labels_LN = (torch.cat([source[s] for s in seen], 1) for source in (cells_TDn, soft_TLn))
        soft_TLn.append(_carried(cells_TDn[t], keys_DN, labels_LN, allowed_Nn, neighbors, temperature))
        map_LHW = F.interpolate(soft_TLn[t].view(1, -1, height, width), size=first_HW.shape, mode="bilinear")[0]
        answers.append(map_LHW.argmax(0))
    return torch.stack(answers)


def _carried(
    query_Dn: Tensor, keys_DN: Tensor, labels_LN: Tensor, allowed_Nn: Tensor, neighbors: int, temperature: float
) -> Float[Tensor, "L n"]:
    """Soft labels of a frame's cells, as many at a time as there is room for."""
    parts = []
    for cells in torch.arange(query_Dn.shape[1], device=query_Dn.device).split(max(1, CELLS // keys_DN.shape[1])):
        similarity_Nc = (keys_DN.T @ query_Dn[:, cells]).masked_fill_(~allowed_Nn[:, cells], -torch.inf)
        top = similarity_Nc.topk(min(neighbors, len(similarity_Nc)), dim=0)
        parts.append((labels_LN[:, top.indices] * (top.values / temperature).softmax(0)).sum(1))
    return torch.cat(parts, 1)


def _near(height: int, width: int, radius: float) -> Bool[Tensor, "n n"]:
    """Which cells lie less than `radius` apart."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place_n2 = torch.stack([rows.flatten(), columns.flatten()], 1)
    return (place_n2[:, None] - place_n2[None]).square().sum(2) < radius**2


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


def video_score(found_THW: Int64[Tensor, "T H W"], truth_THW: Int64[Tensor, "T H W"]) -> tuple[float, float]:
    """J and F, the mean over objects of the mean over frames, without the first and the last frame, as on DAVIS.

    Objects are the labels of the first frame but 0. Raises ValueError for fewer than three frames or no object.
    """
    objects = [label for label in truth_THW[0].unique().tolist() if label != 0]
    frames = range(1, len(truth_THW) - 1)
    if not objects or not frames:
        raise ValueError(
            f"{len(truth_THW)} frames with {len(objects)} objects give no score: the first and the last frame do not "
            "count, and the first must show an object"
        )
    masks = [(found_THW[t] == label, truth_THW[t] == label) for label in objects for t in frames]
    means = (sum(rule(*pair) for pair in masks) / len(masks) for rule in (region_similarity, boundary_accuracy))
    j, f = means
    return j, f
