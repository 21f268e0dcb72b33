"""What a model is worth by masks: its score, the bootstrap of it, and the classes or clips that it is made of."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lookalike.api.maps import CELLS, Mapped
from lookalike.evaluation import Protocol, Score, Worth, fingerprint
from lookalike.evaluation.worth import percentiles, worth_of_draws

SEED = 0  # of the bootstrap; our choice


@dataclass(frozen=True, kw_only=True)
class Part:
    """A class or a clip: how many objects it has, and what was measured on it alone, from 0 to 1."""

    name: str
    objects: int
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A score, its bootstrap values, and its parts."""

    score: Score
    draws: Tensor
    parts: list[Part]


def card(
    model: Mapped,
    probe: str,
    value: float,
    draws: Tensor,
    *,
    images: tuple[int, int],
    settings: Mapping[str, float | int | str],
    found: Mapping[str, float | int | str],
) -> Score:
    """A model's score with how it was measured; images: those that are searched or given, and those asked for."""
    learns = model.scored.learns
    return Score(
        value=value,
        protocol=Protocol(
            probe=probe,
            n_train=images[0],
            n_test=images[1],
            features=model.features,
            crop=model.crop,
            settings={**settings, "cells": CELLS},
        ),
        interval=percentiles(draws),
        seed=model.scored.seed,
        epochs=model.scored.epochs,
        backbone=fingerprint(model.scored.module) if learns else "",
        found=found,
    )


def ahead(judged: Mapping[str, Judged]) -> list[Worth]:
    """The trained encoder against the best of the others, on the same samples; nothing without others."""
    values = {name: (one.score.value, one.draws) for name, one in judged.items()}
    found = worth_of_draws(judged["trained"].score.name, values.pop("trained"), values)
    return [] if found is None else [found]
