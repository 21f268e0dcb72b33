"""The slow loops of methods that keep no rows of earlier batches: SimCLR and its kin, BYOL, VICReg; see loops.py."""

import math
from collections.abc import Mapping
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from lookalike.api.loop_steps import direction, log_shares, slow
from lookalike.api.tiny import CLASSES


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


def byol(method: Any, views: Mapping[str, Tensor]) -> Tensor:
    """Grill et al. 2020, equation 2, both ways; each view has batch statistics of its own."""
    total = torch.zeros((), dtype=torch.float64)
    for one, two in (("view/1", "view/2"), ("view/2", "view/1")):
        predictions = method.predictor(method.projector(method.encoder(views[one])))
        for prediction, target in zip(predictions, slow(method.target, views[two]), strict=True):
            total = total + (direction(prediction) - direction(target)).pow(2).sum() / len(predictions)
    return total


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


def pairs(method: Any, views: Mapping[str, Tensor]) -> list[tuple[Tensor, list[Tensor]]]:
    """Of every view the logit of its partner, and those of all views of other images."""
    z = [direction(row) for view in ("view/1", "view/2") for row in method.projector(method.encoder(views[view]))]
    images, found = len(z) // 2, []
    for a, row in enumerate(z):
        logits = [(row * other).sum() / method.temperature for other in z]
        found.append((logits[(a + images) % len(z)], [x for c, x in enumerate(logits) if (c - a) % images]))
    return found
