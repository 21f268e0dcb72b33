"""The softmax over trainable class weights, one class per row: loss and both gradients, by tiles.

    s_ij = x_i . u_j / t          u_j = w_j / |w_j|                                         logits of N classes
    loss_i = logsumexp_j s_ij - sum_j y_ij s_ij                                             y_ij targets, sum 1
    d loss_i / dx_i = (a_i - c_i) / t         a_i = sum_j p_ij u_j,  c_i = sum_j y_ij u_j,  p = softmax(s)
    d loss / dw_j = (1 - u_j u_j^T) sum_i (p_ij - y_ij) x_i / (t |w_j|)

`class_contrast` sweeps the classes once (two products) and keeps no B x N matrix; `class_gradients` sweeps them once
more when log-sums are known and yields d loss / dw tile by tile, so that each tile may be updated on the spot and no
gradient of all weights ever exists (two products more). With the logits of the first sweep kept in a buffer (N, B),
which the caller owns, the second sweep needs one product: three in all.

Sharded: rank r of R holds classes r, r + R ... and answers for the queries of all ranks; tiles and ranks are merged by
(log-sum, average). The gradient of a query is then the sum of what the ranks' classes pull, not their average, and
that of the weights needs no communication: the layout of Liu et al. 2021, "Train a one-million-way instance
classifier", section 3.2.

    >>> x_BD, w_ND = torch.randn(4, 8), torch.randn(100, 8)
    >>> found = class_contrast(x_BD[:, None], w_ND, ClassTarget(torch.arange(4)), temperature=0.2)
    >>> logits_BN = x_BD @ torch.nn.functional.normalize(w_ND, dim=1).T / 0.2
    >>> torch.allclose(found.loss, torch.nn.functional.cross_entropy(logits_BN, torch.arange(4)), atol=1e-5)
    True

b own samples, B samples of all ranks, V views of each (all of the same class), n own classes, m of them that take
part, T classes in a tile, D dimensions, K others in a target.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lookalike.functional.collectives import Group, all_sum, gather_rows, global_mean, rank, world
from lookalike.functional.known_gradient import known_gradient
from lookalike.functional.shards import join
from lookalike.functional.similarity import demand_temperature
from lookalike.functional.sweep import Swept

PAIRS = 4096  # entries of the targets whose class weights are read at once


class ClassTarget(NamedTuple):
    """What each sample should answer: its own class, and K others that share `smoothing` evenly."""

    own: Int64[Tensor, "b"]
    others: Int64[Tensor, "b K"] | None = None
    smoothing: float = 0.0


class Classified(NamedTuple):
    """Loss of the global batch; detached: log-sum of each own view, mean probability of the own class."""

    loss: Float[Tensor, ""]
    log_sum: Float[Tensor, "b V"]
    confidence: Float[Tensor, ""]


def class_contrast(
    x_bVD: Float[Tensor, "b V D"],
    weights_nD: Float[Tensor, "n D"],
    target: ClassTarget,
    *,
    temperature: float,
    rows: Int64[Tensor, "m"] | None = None,
    logits: Float[Tensor, "m BV"] | None = None,
    sharded: bool = False,
    group: Group = None,
) -> Classified:
    """Mean cross-entropy of all views against their targets, with the gradient of x; none reaches the weights.

    rows: own classes that take part, sorted, those of all targets among them; default all. logits: filled with those of
    this sweep, for `class_gradients`. Computes in the dtype of the weights, under autocast too.
    Raises ValueError for a temperature <= 0 or a smoothing outside [0, 1).
    """
    _check(temperature, target)
    views = x_bVD.shape[1]
    with torch.no_grad(), torch.autocast(x_bVD.device.type, enabled=False):
        own_x_BD = x_bVD.detach().to(weights_nD.dtype).flatten(0, 1)
        x_BD, whole = _gathered(x_bVD, target, sharded, group)
        x_BD = x_BD.to(weights_nD.dtype) / temperature
        seen = sweep_classes(x_BD, weights_nD, rows=rows, logits=logits)
        pulls = [_pull(pairs, weights_nD, x_BD) for pairs in _pairs(whole, views, sharded, group)]
        if sharded:
            seen, pulls = join(seen, group), list(all_sum(torch.stack(pulls), group))
        mine = _own_rows(len(whole.own), views, sharded, group).to(x_BD.device)
        own_BD, others_BD = (pull[mine] for pull in pulls)
        share, log_sum_B, mean_BD = _share(target), seen.log_sum[mine], seen.mean[mine]
        aim_BD = (1 - share) * own_BD + share * others_BD
        loss_B = log_sum_B - (own_x_BD * aim_BD).sum(1) / temperature
        near_B = torch.exp((own_x_BD * own_BD).sum(1) / temperature - log_sum_B)
    loss_B = known_gradient(x_bVD.flatten(0, 1), loss_B, (mean_BD - aim_BD) / temperature)
    columns_b2 = torch.stack([loss_B, near_B], 1).unflatten(0, (-1, views)).mean(1)
    loss, confidence = global_mean(columns_b2, group).unbind()
    return Classified(loss, log_sum_B.unflatten(0, (-1, views)), confidence.detach())


@torch.no_grad()
def class_gradients(
    x_BVD: Float[Tensor, "B V D"],
    log_sum_BV: Float[Tensor, "B V"],
    weights_nD: Float[Tensor, "n D"],
    target: ClassTarget,
    *,
    temperature: float,
    share: float = 1.0,
    rows: Int64[Tensor, "m"] | None = None,
    logits: Float[Tensor, "m BV"] | None = None,
    sharded: bool = False,
    group: Group = None,
) -> Iterator[tuple[slice | Int64[Tensor, "T"], Float[Tensor, "T D"]]]:
    """(which rows, d loss / d these rows of the weights), tile by tile; a yielded tile may be changed at once.

    x, log_sum and target are those of the global batch, equal on all ranks where sharded, and of own rows else. The
    loss is `share` times the mean of `class_contrast`. logits: what that left there, if x and rows are the same. The
    yielded gradient is overwritten by the next one.
    """
    views = x_BVD.shape[1]
    x_BD = x_BVD.flatten(0, 1).to(weights_nD.dtype) / temperature
    log_sum_B = log_sum_BV.flatten().to(weights_nD.dtype)
    pairs = _places(_joined(_pairs(target, views, sharded, group), _share(target)), rows)
    scale = share / max(len(x_BD), 1)
    scratch, gradient = _scratch(x_BD), _scratch(x_BD)
    for start, part, unit_TD, length_T1 in tiles(weights_nD, rows, _tile(x_BD)):
        size = len(unit_TD)
        slope_TB = scratch[: size * len(x_BD)].view(size, -1)
        if logits is None:
            torch.mm(unit_TD, x_BD.T, out=slope_TB).sub_(log_sum_B).exp_()
        else:
            torch.sub(logits[start : start + size], log_sum_B, out=slope_TB).exp_()
        place, query, weight = pairs.between(start, start + size)
        slope_TB.index_put_((place - start, query), -weight.to(slope_TB.dtype), accumulate=True)
        gradient_TD = torch.mm(slope_TB, x_BD, out=gradient[: size * x_BD.shape[1]].view(size, -1))
        along_T1 = (gradient_TD * unit_TD).sum(1, keepdim=True)  # lengths do not matter: no gradient along the weight
        yield part, gradient_TD.addcmul_(unit_TD, along_T1, value=-1.0).mul_(scale / length_T1)


@torch.no_grad()
def sweep_classes(
    x_BD: Float[Tensor, "B D"],
    weights_nD: Float[Tensor, "n D"],
    *,
    rows: Int64[Tensor, "m"] | None = None,
    logits: Float[Tensor, "m B"] | None = None,
) -> Swept:
    """Log-sum and softmax average of the unit weights for queries that carry the temperature (x / t); see sweep.py.

    A loop of tiles with a running maximum (Milakov & Gimelshein 2018), classes first, so that kept logits are whole
    rows. One product for the logits, one for the average.
    """
    top_B = x_BD.new_full((len(x_BD),), torch.finfo(x_BD.dtype).min)
    sum_B, weighted_BD, scratch = torch.zeros_like(top_B), torch.zeros_like(x_BD), _scratch(x_BD)
    for start, _, unit_TD, _ in tiles(weights_nD, rows, _tile(x_BD)):
        size = len(unit_TD)
        weights_TB = scratch[: size * len(x_BD)].view(size, -1)
        logits_TB = weights_TB if logits is None else logits[start : start + size]
        torch.mm(unit_TD, x_BD.T, out=logits_TB)
        before_B, top_B = top_B, torch.maximum(top_B, logits_TB.amax(0))
        torch.sub(logits_TB, top_B, out=weights_TB).exp_()
        shrink_B = torch.exp(before_B - top_B)
        sum_B.mul_(shrink_B).add_(weights_TB.sum(0))
        weighted_BD.mul_(shrink_B[:, None]).addmm_(weights_TB.T, unit_TD)
    none_B = sum_B == 0
    mean_BD = weighted_BD / sum_B.masked_fill(none_B, 1.0)[:, None]
    return Swept((top_B + sum_B.log()).masked_fill(none_B, -torch.inf), mean_BD)


def tiles(
    weights_nD: Float[Tensor, "n D"], rows: Int64[Tensor, "m"] | None, tile: int
) -> Iterator[tuple[int, slice | Tensor, Tensor, Tensor]]:
    """(place of the first, which rows, these as unit rows, their lengths) of each tile of the classes that take part.

    The unit rows are overwritten by the next tile. A row of zeros has length 1e-12, as in torch's normalize.
    """
    total = len(weights_nD) if rows is None else len(rows)
    scratch = weights_nD.new_empty(min(tile, total), weights_nD.shape[1])
    for start in range(0, total, tile):
        part = slice(start, min(start + tile, total)) if rows is None else rows[start : start + tile]
        weights_TD = weights_nD[part]
        length_T1 = torch.linalg.vector_norm(weights_TD, dim=1, keepdim=True).clamp_min_(1e-12)
        yield start, part, torch.div(weights_TD, length_T1, out=scratch[: len(weights_TD)]), length_T1


class _Pairs(NamedTuple):
    """Entries of the targets on classes held here: row (or place among those that take part), query, weight."""

    place: Tensor
    query: Tensor
    weight: Tensor

    def between(self, start: int, stop: int) -> "_Pairs":
        """Those of a tile; the pairs are in order of their places."""
        first, last = torch.searchsorted(self.place, self.place.new_tensor([start, stop])).tolist()
        return _Pairs(*(column[first:last] for column in self))


def _pairs(target: ClassTarget, views: int, sharded: bool, group: Group) -> tuple[_Pairs, _Pairs]:
    """Pairs with the own class, each of weight 1, and with the others, which add up to 1 for each query."""
    others = target.own[:, None][:, :0] if target.others is None else target.others
    return _held(target.own[:, None], views, sharded, group), _held(others, views, sharded, group)


def _held(class_BK: Tensor, views: int, sharded: bool, group: Group) -> _Pairs:
    ranks, own = (world(group), rank(group)) if sharded else (1, 0)
    place = class_BK.repeat_interleave(views, 0)
    query = torch.arange(len(place), device=place.device)[:, None].expand_as(place)
    here = place % ranks == own
    weight = torch.full_like(place, 1.0, dtype=torch.float64) / max(class_BK.shape[1], 1)
    return _Pairs(place[here] // ranks, query[here], weight[here])


def _pull(pairs: _Pairs, weights_nD: Tensor, x_BD: Tensor) -> Tensor:
    """For each query the sum of its pairs' unit weights, weighted."""
    pull_BD = torch.zeros_like(x_BD)
    for place, query, weight in zip(*(column.split(PAIRS) for column in pairs), strict=True):
        unit_PD = torch.nn.functional.normalize(weights_nD[place], dim=1)
        pull_BD.index_add_(0, query, unit_PD * weight[:, None].to(unit_PD.dtype))
    return pull_BD


def _joined(both: tuple[_Pairs, _Pairs], share: float) -> _Pairs:
    """All pairs in order of their rows; the others have `share` of the target."""
    own, others = both[0]._replace(weight=both[0].weight * (1 - share)), both[1]._replace(weight=both[1].weight * share)
    joined = [torch.cat(columns) for columns in zip(own, others, strict=True)]
    order = torch.argsort(joined[0], stable=True)
    return _Pairs(*(column[order] for column in joined))


def _places(pairs: _Pairs, rows: Tensor | None) -> _Pairs:
    return pairs if rows is None else pairs._replace(place=torch.searchsorted(rows, pairs.place))


def _share(target: ClassTarget) -> float:
    """The part of the target that is on other classes."""
    return 0.0 if target.others is None or target.others.shape[1] == 0 else target.smoothing


def _gathered(x_bVD: Tensor, target: ClassTarget, sharded: bool, group: Group) -> tuple[Tensor, ClassTarget]:
    """Views and targets that this rank answers for: those of all ranks where classes are sharded."""
    x_bVD = x_bVD.detach()
    if sharded:
        others = None if target.others is None else gather_rows(target.others, group)
        target = target._replace(own=gather_rows(target.own, group), others=others)
        x_bVD = gather_rows(x_bVD, group)
    return x_bVD.flatten(0, 1), target


def _own_rows(samples: int, views: int, sharded: bool, group: Group) -> Tensor:
    ranks, own = (world(group), rank(group)) if sharded else (1, 0)
    return torch.arange(samples * views).view(samples, views)[own::ranks].flatten()


def _tile(x_BD: Tensor) -> int:
    """Classes at a time: a tile of logits or weights fits the cache of a CPU core, or keeps an accelerator busy."""
    entries = 2**18 if x_BD.device.type == "cpu" else 2**24
    return min(max(entries // max(*x_BD.shape, 1), 128), 2**16)


def _scratch(x_BD: Tensor) -> Tensor:
    return x_BD.new_empty(_tile(x_BD) * max(x_BD.shape))


def _check(temperature: float, target: ClassTarget) -> None:
    demand_temperature(temperature)
    if not 0 <= target.smoothing < 1:
        raise ValueError(f"smoothing is {target.smoothing}: give the other classes' share of the target, from 0 to 1")
