"""The slow loops of methods with views of several sizes: SwAV, DINO, ReLICv2, Revisiting-Contrastive; see loops.py."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lookalike.api.loop_steps import direction, log_shares, log_softmax, slow
from lookalike.api.tiny import moment


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


def revisiting(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Van Gansbeke et al. 2021: each crop finds its image's key, and resembles the keys whose features are near."""
    keys = [direction(row) for row in slow(method.momentum_encoder, views["key"])]
    memory = [row.clone() for row in method.queue.rows()]
    features = [row.clone() for row in method.features.rows()]
    h = method.encoder(torch.cat([views[view] for view in method.queries]))
    queries, total = [direction(row) for row in method.projector(h)], torch.zeros((), dtype=torch.float64)
    for place, (query, feature) in enumerate(zip(queries, h, strict=True)):
        key = keys[place % len(keys)]
        total = total - log_shares(query, [key, *memory], method.temperature)[0]
        apart = [-(direction(feature) * row).sum().item() for row in features]
        near = [j for _, j in sorted(zip(apart, range(len(memory)), strict=True))][: method.neighbors]
        shares = log_shares(query, memory, method.temperature)
        total = total - method.weight * sum(shares[j] for j in near) / method.neighbors
    return total / len(queries)


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
