"""The losses once more, as loops over rows and keys: what `lookalike selftest` holds the shipped ones against.

Each loop takes a method in fp64 and its views, runs the networks as the paper says, and sums over pairs one by one;
nothing of `functional` is used. Gradient flows where the loop does not cut it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lookalike.api.tiny import moment

Loop: TypeAlias = Callable[[Any, Mapping[str, Tensor]], Tensor]


def simclr(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Chen et al. 2020, equation 1: each view among all others; both views share their batch statistics."""
    pixels = torch.cat([views["view/1"], views["view/2"]])
    z = [direction(row) for row in method.projector(method.encoder(pixels))]
    half, total = len(z) // 2, torch.zeros((), dtype=torch.float64)
    for a in range(len(z)):
        partner = (a + half) % len(z)
        others = [z[c] for c in range(len(z)) if c not in (a, partner)]
        total = total - log_shares(z[a], [z[partner], *others], method.temperature)[0]
    return total / len(z)


def moco(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """He et al. 2019, equation 1, one way."""
    queries, keys = method.projector(method.encoder(views["query"])), slow(method.momentum_encoder, views["key"])
    memory, total = [row.clone() for row in method.queue.rows()], torch.zeros((), dtype=torch.float64)
    for query, key in zip(queries, keys, strict=True):
        total = total - log_shares(direction(query), [direction(key), *memory], method.temperature)[0]
    return total / len(queries)


def byol(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Grill et al. 2020, equation 2, both ways; each view has batch statistics of its own."""
    total = torch.zeros((), dtype=torch.float64)
    for one, two in (("view/1", "view/2"), ("view/2", "view/1")):
        predictions = method.predictor(method.projector(method.encoder(views[one])))
        for prediction, target in zip(predictions, slow(method.target, views[two]), strict=True):
            total = total + (direction(prediction) - direction(target)).pow(2).sum() / len(predictions)
    return total


def sce(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Denize et al. 2021, equations 3 to 6, one weak and one strong view; the positive is left out of the relations."""
    queries, keys = method.projector(method.encoder(views["strong"])), slow(method.momentum_encoder, views["weak"])
    memory, total = [row.clone() for row in method.queue.rows()], torch.zeros((), dtype=torch.float64)
    for query, key in zip(queries, keys, strict=True):
        relations = [share.exp() for share in log_shares(direction(key), memory, method.momentum_temperature)]
        positive, *others = log_shares(direction(query), [direction(key), *memory], method.temperature)
        total = total - method.coefficient * positive
        for relation, share in zip(relations, others, strict=True):
            total = total - (1 - method.coefficient) * relation * share
    return total / len(queries)


def swav(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Caron et al. 2020, equations 2 to 4: each view predicts the codes of the others; all views in one forward."""
    pixels, count = torch.cat([views[view] for view in method.views]), len(method.views)
    z = [direction(row) for row in method.projector(method.encoder(pixels))]
    scores = [[(row * c).sum() for c in method.prototypes.weight] for row in z]
    rows, total = len(z) // count, torch.zeros((), dtype=torch.float64)
    for i, j in ((i, j) for i in range(len(method.codes)) for j in range(count) if i != j):
        codes = balanced(scores[i * rows : (i + 1) * rows], method.epsilon, method.iterations)
        for code, seen in zip(codes, scores[j * rows : (j + 1) * rows], strict=True):
            total = total - sum(
                q * share for q, share in zip(code, log_softmax([s / method.temperature for s in seen]), strict=True)
            )
    return total / rows / len(method.codes) / (count - 1)


def dino(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Caron et al. 2021, equations 2 to 4, before the center has moved; all views in one forward."""
    student = torch.cat([views[view] for view in method.student_views])
    teacher = torch.cat([views[view] for view in method.teacher_views])
    s = against_directions(method.projector(method.encoder(student)), method.prototypes.weight)
    (slow_weight,) = (p for p in method.teacher_prototypes.parameters() if p.shape == method.prototypes.weight.shape)
    t = against_directions(slow(method.teacher, teacher), slow_weight)
    rows, total = len(views["global/1"]), torch.zeros((), dtype=torch.float64)
    sharp = method.teacher_temperature.end
    pairs = [(i, j) for i in range(len(method.teacher_views)) for j in range(len(method.student_views)) if i != j]
    for i, j in pairs:
        for b in range(rows):
            target = [
                share.exp().item()
                for share in log_softmax([(x - c) / sharp for x, c in zip(t[i * rows + b], method.center, strict=True)])
            ]
            shares = log_softmax([x / method.temperature for x in s[j * rows + b]])
            total = total - sum(q * share for q, share in zip(target, shares, strict=True))
    return total / rows / len(pairs)


def relicv2(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Tomasev et al. 2022: -log p of the own image, and the divergence from the p of the views swapped."""
    large, sizes = method.large_views, {view: len(views[view]) for view in method.views}
    joined = method.projector(method.encoder(torch.cat([views[view] for view in method.views])))
    slowly = slow(method.target, torch.cat([views[view] for view in large]))
    o = dict(zip(method.views, joined.split([sizes[view] for view in method.views]), strict=True))
    t = dict(zip(large, slowly.split([sizes[view] for view in large]), strict=True))
    rows, total = sizes[large[0]], torch.zeros((), dtype=torch.float64)
    drawn = torch.randperm(rows - 1, generator=moment(0).generator("others")).tolist()[: method.others]
    for one, m in method.pairs:
        swapped = (m, one) if one in large else (large[(large.index(m) + 1) % len(large)], m)
        for i in range(rows):
            places = [i, *((i + 1 + ahead) % rows for ahead in drawn)]
            p, q = (
                log_shares(direction(o[a][i]), [direction(t[b][j]) for j in places], method.temperature)
                for a, b in ((one, m), swapped)
            )
            held = sum(x.exp().item() * x.item() for x in p)
            total = total - p[0] + method.invariance * (held - sum(x.exp() * y for x, y in zip(p, q, strict=True)))
    return total / rows / len(method.pairs)


LOOPS: Mapping[str, Loop] = {
    "simclr": simclr,
    "moco": moco,
    "byol": byol,
    "sce": sce,
    "swav": swav,
    "dino": dino,
    "relicv2": relicv2,
}


def direction(row: Tensor) -> Tensor:
    """The row divided by its length."""
    return row / torch.stack([number * number for number in row]).sum().sqrt()


def log_shares(row: Tensor, keys: Sequence[Tensor], temperature: float) -> list[Tensor]:
    """log of each key's share of the softmax over row . key / temperature."""
    return log_softmax([(row * key).sum() / temperature for key in keys])


def log_softmax(logits: Sequence[Tensor]) -> list[Tensor]:
    """log of each logit's share of the softmax."""
    top = max(logit.item() for logit in logits)
    log_sum = top + torch.stack([(logit - top).exp() for logit in logits]).sum().log()
    return [logit - log_sum for logit in logits]


def against_directions(rows: Tensor, weight: Tensor) -> list[list[Tensor]]:
    """Cosine of each row with each row of a weight."""
    return [[(direction(row) * direction(c)).sum() for c in weight] for row in rows]


def balanced(scores: Sequence[Sequence[Tensor]], epsilon: float, iterations: int) -> list[list[float]]:
    """Sinkhorn's codes, a row per sample: prototypes get equal weight, then samples, in turn."""
    q = [[math.exp(score.item() / epsilon) for score in row] for row in scores]
    for _ in range(iterations):
        sums = [sum(column) for column in zip(*q, strict=True)]
        q = [[value / of_prototype for value, of_prototype in zip(row, sums, strict=True)] for row in q]
        q = [[value / sum(row) for value in row] for row in q]
    return q


def slow(network: Any, pixels: Tensor) -> Tensor:
    """What a momentum encoder makes of a view: no gradient."""
    with torch.no_grad():
        return network(pixels)
