"""The losses once more, as loops over rows and keys: what `lookalike selftest` holds the shipped ones against.

Each loop takes a method in fp64 and its views, runs the networks as the paper says, and sums over pairs one by one;
nothing of `functional` is used but its random numbers. Gradient flows where the loop does not cut it.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import permutations
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lookalike.api.loop_steps import direction, log_shares, slow
from lookalike.api.loops_of_clusters import interclr
from lookalike.api.loops_of_crops import dino, relicv2, swav
from lookalike.api.tiny import CLASSES
from lookalike.functional import random

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


def simsiam(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Chen and He 2020, equation 2; each view has batch statistics of its own, and targets get no gradient."""
    rows = {view: method.projector(method.encoder(pixels)) for view, pixels in views.items()}
    total = torch.zeros((), dtype=torch.float64)
    for one, two in (("view/1", "view/2"), ("view/2", "view/1")):
        for prediction, target in zip(method.predictor(rows[one]), rows[two].detach(), strict=True):
            total = total - (direction(prediction) * direction(target)).sum() / (2 * len(rows[one]))
    return total


def barlow_twins(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Zbontar et al. 2021, equations 1 and 2; each dimension is standardized as BatchNorm does, 1e-5 under the root."""
    one, two = (
        [
            (column - column.mean()) / (column.var(correction=0) + 1e-5).sqrt()
            for column in method.projector(method.encoder(views[view])).T
        ]
        for view in ("view/1", "view/2")
    )
    total = torch.zeros((), dtype=torch.float64)
    for i, a in enumerate(one):
        for j, b in enumerate(two):
            correlation = (a * b).mean()
            total = total + ((1 - correlation).pow(2) if i == j else method.redundancy * correlation.pow(2))
    return total


def vicreg(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Bardes et al. 2021, equations 1 to 6, with the mean of the squared distances over dimensions."""
    both = [method.projector(method.encoder(views[view])) for view in ("view/1", "view/2")]
    total = method.invariance * (both[0] - both[1]).pow(2).mean()
    for z in both:
        columns = list((z - z.mean(0)).T)
        for a in columns:
            deviation = ((a * a).sum() / (len(z) - 1) + 1e-4).sqrt()
            total = total + method.variance * (1 - deviation).clamp(min=0) / len(columns)
        for a, b in permutations(columns, 2):
            total = total + method.covariance * ((a * b).sum() / (len(z) - 1)).pow(2) / len(columns)
    return total


def moco_v3(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Chen et al. 2021, equation 1 and algorithm 1, both ways; keys of all images of the batch, without gradient."""
    total = torch.zeros((), dtype=torch.float64)
    for one, two in (("view/1", "view/2"), ("view/2", "view/1")):
        queries = method.predictor(method.projector(method.encoder(views[one])))
        keys = [direction(key) for key in slow(method.momentum_encoder, views[two])]
        for own, query in enumerate(queries):
            share = log_shares(direction(query), keys, method.temperature)[own]
            total = total - 2 * method.temperature * share / len(queries)
    return total


def dcl(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Yeh et al. 2021, equation 6, without weights."""
    total = torch.zeros((), dtype=torch.float64)
    own = pairs(method, views)
    for positive, negatives in own:
        total = total - positive + torch.stack([negative.exp() for negative in negatives]).sum().log()
    return total / len(own)


def debiased(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Chuang et al. 2020, with one positive."""
    total = torch.zeros((), dtype=torch.float64)
    own = pairs(method, views)
    for positive, negatives in own:
        seen = torch.stack([negative.exp() for negative in negatives]).sum()
        corrected = (seen - method.prior * len(negatives) * positive.exp()) / (1 - method.prior)
        rest = corrected.clamp(min=len(negatives) * math.exp(-1 / method.temperature))
        total = total - (positive.exp() / (positive.exp() + rest)).log()
    return total / len(own)


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


def supcon(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Khosla et al. 2020, equation 2: each view among all others, several of them of its class."""
    z = [direction(row) for row in method.projector(method.encoder(torch.cat([views["view/1"], views["view/2"]])))]
    half, total = len(z) // 2, torch.zeros((), dtype=torch.float64)
    for a in range(len(z)):
        others = [c for c in range(len(z)) if c != a]
        shares = log_shares(z[a], [z[c] for c in others], method.temperature)
        alike = [share for c, share in zip(others, shares, strict=True) if (c - a) % half % CLASSES == 0]
        total = total - torch.stack(alike).mean()
    return total / len(z)


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


def pairs(method: Any, views: Mapping[str, Tensor]) -> list[tuple[Tensor, list[Tensor]]]:
    """Of every view the logit of its partner, and those of all views of other images."""
    z = [direction(row) for view in ("view/1", "view/2") for row in method.projector(method.encoder(views[view]))]
    images, found = len(z) // 2, []
    for a, row in enumerate(z):
        logits = [(row * other).sum() / method.temperature for other in z]
        found.append((logits[(a + images) % len(z)], [x for c, x in enumerate(logits) if (c - a) % images]))
    return found
