"""How well a batch agrees: the picture of two clusters, loops, invariances, and the distance of distributions."""

import math

import pytest
import torch
from torch import Tensor

from lookalike.functional.agreement import Agreement, frechet
from lookalike.recipes.wrappers import CurationSection

KINDS = ("worst", "mean", "nearest")


def clusters() -> tuple[Tensor, Tensor]:
    """Two images, whose views lie together and far from those of the other."""
    return torch.tensor([[0.0, 0.0], [5.0, 5.0]]), torch.tensor([[0.0, 0.1], [5.0, 5.1]])


def views(rows: int = 7, dim: int = 5) -> tuple[Tensor, Tensor]:
    one = torch.randn(rows, dim, dtype=torch.float64)
    return one, one + 0.8 * torch.randn(rows, dim, dtype=torch.float64)


def apart(a: list[float], b: list[float], kind: str) -> float:
    if kind == "cosine":
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return 1 - dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    power = 1 if kind == "l1" else 2
    return sum(abs(x - y) ** power for x, y in zip(a, b, strict=True)) ** (1 / power)


def oracle(one: Tensor, two: Tensor, agreement: Agreement) -> list[float]:
    """By loops over views: the partner's distance, and those of all views of other images."""
    rows, count = torch.cat([one, two]).tolist(), len(one)
    own = [apart(rows[i], rows[i + count], agreement.distance) for i in range(count)]
    others = [
        [apart(rows[a], rows[b], agreement.distance) for b in range(2 * count) if b % count != a % count]
        for a in range(2 * count)
    ]
    missed = [sum(d <= own[a % count] for d in others[a]) >= agreement.neighbors for a in range(2 * count)]
    of_pair = [others[i] + others[i + count] for i in range(count)]
    everything = [d for of_one in others for d in of_one]
    whole = {
        "worst": max(own) - min(everything),
        "mean": sum(own) / count - sum(everything) / len(everything),
        "nearest": sum(missed) / len(missed),
    }
    each = {
        "worst": [own[i] - min(of_pair[i]) for i in range(count)],
        "mean": [own[i] - sum(of_pair[i]) / len(of_pair[i]) for i in range(count)],
        "nearest": [float(missed[i] or missed[i + count]) for i in range(count)],
    }
    return each[agreement.kind] if agreement.pairs else [whole[agreement.kind]]


@pytest.mark.parametrize("kind", KINDS)
def test_clusters_are_accepted_and_partners_across_them_are_not(kind: str) -> None:
    one, two = clusters()
    agreement = Agreement(kind=kind, threshold=0.0, distance="l2")
    assert agreement.score(one, two).item() <= 0
    assert agreement.score(one, two.flip(0)).item() > 0
    swapped = Agreement(kind=kind, threshold=0.0, distance="l2", pairs=True).score(one, two.flip(0))
    assert (swapped > 0).tolist() == [True, True]


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("distance", ["cosine", "l2", "l1"])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_loops(kind: str, distance: str, pairs: bool) -> None:
    one, two = views()
    agreement = Agreement(kind=kind, distance=distance, pairs=pairs, neighbors=2)
    assert agreement.score(one, two).tolist() == pytest.approx(oracle(one, two, agreement), abs=1e-12)


@pytest.mark.parametrize("kind", [*KINDS, "frechet"])
def test_scores_know_no_order_of_images_or_views(kind: str) -> None:
    one, two = views()
    order, agreement = torch.randperm(len(one)), Agreement(kind=kind)
    score = agreement.score(one, two)
    torch.testing.assert_close(agreement.score(two, one), score)
    torch.testing.assert_close(agreement.score(one[order], two[order]), score)
    if kind != "frechet":  # which compares distributions: another partner is none
        assert agreement.score(one, two.roll(1, 0)) > score


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_of_a_pair_goes_with_it_wherever_it_stands(kind: str) -> None:
    one, two = views()
    order, agreement = torch.randperm(len(one)), Agreement(kind=kind, pairs=True)
    score_B = agreement.score(one, two)
    torch.testing.assert_close(agreement.score(two, one), score_B)
    torch.testing.assert_close(agreement.score(one[order], two[order]), score_B[order])


@pytest.mark.parametrize("distance", ["cosine", "l2", "l1"])
@pytest.mark.parametrize("value", [1.0, 0.0, math.nan])
def test_collapsed_or_broken_features_have_the_worst_share(value: float, distance: str) -> None:
    rows = torch.full((4, 3), value)
    assert Agreement(distance=distance).score(rows, rows).item() == 1
    assert Agreement(distance=distance, pairs=True).score(rows, rows).tolist() == [1.0] * 4


@pytest.mark.parametrize("kind", ["worst", "mean"])
def test_what_is_no_number_is_never_accepted(kind: str) -> None:
    one, two = views()
    one[0] = math.nan
    assert Agreement(kind=kind).score(one, two).item() == math.inf


def test_the_threshold_is_that_of_recipes() -> None:
    assert CurationSection().threshold == Agreement().threshold


def test_one_bad_pair_is_the_one_that_fails() -> None:
    one = torch.eye(4)
    two = one.clone()
    two[2] = one[3]
    for kind in ("worst", "nearest"):
        score_B = Agreement(kind=kind, pairs=True).score(one, two)
        assert score_B[2] > max(score_B[0], score_B[1])


def test_frechet_is_the_formula_with_the_root_of_a_matrix() -> None:
    one, two = views(rows=40, dim=4)
    a, b = one.T.cov(), two.T.cov()
    values, vectors = torch.linalg.eigh(a)
    root = vectors @ values.sqrt().diag() @ vectors.T
    trace = torch.linalg.eigvalsh(root @ b @ root).sqrt().sum()
    expected = (one.mean(0) - two.mean(0)).square().sum() + a.trace() + b.trace() - 2 * trace
    torch.testing.assert_close(frechet(one, two), expected)
    assert frechet(one, one).item() == pytest.approx(0, abs=1e-12)
    shifted = one + torch.tensor([3.0, 0, 0, 4.0], dtype=torch.float64)
    assert frechet(one, shifted).item() == pytest.approx(25.0)


def test_a_single_image_has_no_others_and_frechet_no_pairs() -> None:
    assert Agreement().score(torch.ones(1, 2), torch.zeros(1, 2)).item() == -math.inf
    with pytest.raises(ValueError, match="frechet compares all views with all: it has no score of a pair"):
        Agreement(kind="frechet", pairs=True)
