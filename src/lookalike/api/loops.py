"""The losses once more, as loops over rows and keys: what `lookalike selftest` holds the shipped ones against.

Each loop takes a method in fp64 and its views, runs the networks as the paper says, and sums over pairs one by one;
nothing of `functional` is used but its random numbers. Gradient flows where the loop does not cut it.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lookalike.api.loop_steps import direction, log_shares, slow
from lookalike.api.loops_of_batches import (
    barlow_twins,
    byol,
    dcl,
    debiased,
    moco_v3,
    simclr,
    simsiam,
    supcon,
    vicreg,
)
from lookalike.api.loops_of_clusters import interclr
from lookalike.api.loops_of_crops import dino, relicv2, swav
from lookalike.functional import random

Loop: TypeAlias = Callable[[Any, Mapping[str, Tensor]], Tensor]


def moco(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """He et al. 2019, equation 1, one way."""
    queries, keys = method.projector(method.encoder(views["query"])), slow(method.momentum_encoder, views["key"])
    memory, total = [row.clone() for row in method.queue.rows()], torch.zeros((), dtype=torch.float64)
    for query, key in zip(queries, keys, strict=True):
        total = total - log_shares(direction(query), [direction(key), *memory], method.temperature)[0]
    return total / len(queries)


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


def nnclr(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Dwibedi et al. 2021, both ways; the nearest row of the support set stands for the view."""
    rows = {view: method.projector(method.encoder(pixels)) for view, pixels in views.items()}
    support, total = [row.clone() for row in method.queue.rows()], torch.zeros((), dtype=torch.float64)
    for one, two in (("view/1", "view/2"), ("view/2", "view/1")):
        predictions = [direction(row) for row in method.predictor(rows[two])]
        for own, row in enumerate(rows[one].detach()):
            products = [float((other * row).sum()) for other in support]
            friend = support[products.index(max(products))]
            total = total - log_shares(friend, predictions, method.temperature)[own] / (2 * len(predictions))
    return total


def ressl(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Zheng et al. 2021, equation 6, one strong view: both softmaxes are over the queue alone."""
    queries, keys = method.projector(method.encoder(views["strong"])), slow(method.momentum_encoder, views["weak"])
    memory, total = [row.clone() for row in method.queue.rows()], torch.zeros((), dtype=torch.float64)
    for query, key in zip(queries, keys, strict=True):
        relations = log_shares(direction(key), memory, method.momentum_temperature)
        shares = log_shares(direction(query), memory, method.temperature)
        for relation, share in zip(relations, shares, strict=True):
            total = total - relation.exp() * share
    return total / len(queries)


def npid(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Wu et al. 2018, equations 4 to 7, in a first step: Z is N times the mean of all exponentials of the batch."""
    rows, memory = method.projector(method.encoder(views["view"])), [row.clone() for row in method.bank.rows()]
    chances = random.uniform(random.key("batch", 0, 0, "negatives"), torch.arange(len(rows)), method.drawn)
    drawn = [Counter(int(len(memory) * chance) for chance in line) for line in chances.tolist()]  # row: how often
    exponentials = [
        [torch.exp((direction(row) * other).sum() / method.temperature) for other in memory] for row in rows
    ]
    sums = [own[i] + sum(times * own[j] for j, times in drawn[i].items()) for i, own in enumerate(exponentials)]
    normalizer = len(memory) * torch.stack(sums).detach().mean() / (1 + method.drawn)
    total, noise = torch.zeros((), dtype=torch.float64), method.drawn / len(memory)
    for i, own in enumerate(exponentials):
        p = [value / normalizer for value in own]
        total = total - torch.log(p[i] / (p[i] + noise))
        for j, times in drawn[i].items():
            total = total - times * torch.log(noise / (p[j] + noise))
    return total / len(rows)


def ascl(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Feng & Patras 2022, section 3, with a queue: the positive, and each key by its chance and the confidence."""
    queries, keys = method.projector(method.encoder(views["strong"])), slow(method.momentum_encoder, views["weak"])
    memory, total = [row.clone() for row in method.queue.rows()], torch.zeros((), dtype=torch.float64)
    for query, key in zip(queries, keys, strict=True):
        chances = log_shares(direction(key), memory, method.momentum_temperature)
        confidence = 1 + torch.stack([chance.exp() * chance for chance in chances]).sum() / math.log(len(memory))
        wanted = [min(1.0, float(confidence * method.neighbors * chance.exp())) for chance in chances]
        shares = log_shares(direction(query), [direction(key), *memory], method.temperature)
        for weight, share in zip([1.0, *wanted], shares, strict=True):
            total = total - weight / (1 + sum(wanted)) * share
    return total / len(queries)


def mochi(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Kalantidis et al. 2020, section 3: MoCo's loss with two kinds of mixed negatives, which have no gradient."""
    queries, keys = method.projector(method.encoder(views["query"])), slow(method.momentum_encoder, views["key"])
    memory, total = [row.clone() for row in method.queue.rows()], torch.zeros((), dtype=torch.float64)
    count = method.pairs + method.with_query
    chances = random.uniform(random.key("batch", 0, 0, "mixes"), torch.arange(len(queries)), 3 * count)
    for query, key, line in zip(queries, keys, chances.view(-1, count, 3).tolist(), strict=True):
        q, mixed = direction(query), list[Tensor]()
        fixed = q.detach()
        order = sorted(range(len(memory)), key=[-float((fixed * row).sum()) for row in memory].__getitem__)
        hard = [memory[place] for place in order[: method.hardest]]
        for number, (i, j, share) in enumerate(line):
            with_query = number >= method.pairs
            one, weight = (fixed, share / 2) if with_query else (hard[int(i * len(hard))], share)
            h = weight * one + (1 - weight) * hard[int(j * len(hard))]
            mixed.append(h / (h * h).sum().sqrt())
        total = total - log_shares(q, [direction(key), *memory, *mixed], method.temperature)[0]
    return total / len(queries)


def pic(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Cao et al. 2020, section 3: row i of the large crop is of class i, among all classes."""
    classes = [direction(row) for row in method.classes.weights.own]
    rows = method.projector(method.encoder(views["large/1"]))
    total = torch.zeros((), dtype=torch.float64)
    for number, row in enumerate(rows):
        total = total - log_shares(direction(row), classes, method.temperature)[number]
    return total / len(rows)


def instance_classifier(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Liu et al. 2021: each of two views, against the own class and what is noted as its hardest ones."""
    classes = [direction(row) for row in method.classes.weights.own]
    total = torch.zeros((), dtype=torch.float64)
    for view in ("view/1", "view/2"):
        rows = method.projector(method.encoder(views[view]))
        for number, row in enumerate(rows):
            shares = log_shares(direction(row), classes, method.temperature)
            total = total - (1 - method.smoothing) * shares[number] / len(rows)
            for other in method.hardest.own[number].tolist():
                total = total - method.smoothing / method.count * shares[other] / len(rows)
    return total / 2


LOOPS: Mapping[str, Loop] = {
    "simclr": simclr,
    "moco": moco,
    "byol": byol,
    "sce": sce,
    "swav": swav,
    "dino": dino,
    "relicv2": relicv2,
    "simsiam": simsiam,
    "barlow_twins": barlow_twins,
    "vicreg": vicreg,
    "moco_v3": moco_v3,
    "dcl": dcl,
    "debiased": debiased,
    "nnclr": nnclr,
    "ressl": ressl,
    "supcon": supcon,
    "npid": npid,
    "ascl": ascl,
    "mochi": mochi,
    "pic": pic,
    "instance_classifier": instance_classifier,
    "interclr": interclr,
}
