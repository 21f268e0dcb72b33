"""Sinkhorn's codes: closed forms, a slow loop, the authors' numbers, balance, invariances, extremes, processes."""

import math

import pytest
import torch

from lookalike.functional.collectives import rank, world
from lookalike.functional.sinkhorn import sinkhorn
from methods.fixtures import keyed

F64 = torch.float64


def slow(scores: list[list[float]], epsilon: float, iterations: int) -> list[list[float]]:
    """The matrix Q by plain loops: samples in columns, prototypes in rows (Caron et al. 2020, section 3.1)."""
    B, K = len(scores), len(scores[0])
    q = [[math.exp(scores[b][k] / epsilon) for b in range(B)] for k in range(K)]
    for _ in range(iterations):
        for k in range(K):
            total = math.fsum(q[k])
            q[k] = [value / total / K for value in q[k]]
        for b in range(B):
            total = math.fsum(q[k][b] for k in range(K))
            for k in range(K):
                q[k][b] = q[k][b] / total / B
    return [[q[k][b] * B for k in range(K)] for b in range(B)]


def scores(rows: int, prototypes: int, seed: int = 0, dtype: torch.dtype = F64) -> torch.Tensor:
    """Cosines."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.nn.functional.normalize(torch.randn(rows + prototypes, 8, dtype=F64, generator=generator), dim=1)
    return (z[:rows] @ z[rows:].T).to(dtype)


@pytest.mark.parametrize(
    ("given", "iterations", "expected"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], 3, [[0.880797, 0.119203], [0.119203, 0.880797]]),
        ([[0.8, 0.2], [0.3, 0.7]], 3, [[0.731059, 0.268941], [0.268941, 0.731059]]),
        ([[1.0, 0.0], [0.5, 0.0]], 3, [[0.622358, 0.377642], [0.377439, 0.622561]]),
        ([[1.0, 0.0], [0.5, 0.0]], 50, [[0.622459, 0.377541], [0.377541, 0.622459]]),
    ],
)
def test_closed_forms(given, iterations, expected):
    codes = sinkhorn(torch.tensor(given, dtype=F64), epsilon=0.5, iterations=iterations)
    torch.testing.assert_close(codes, torch.tensor(expected, dtype=F64), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("rows", "prototypes"), [(6, 4), (3, 9), (1, 5), (40, 30)])
@pytest.mark.parametrize(("epsilon", "iterations"), [(0.05, 3), (0.5, 1), (0.03, 10)])
def test_codes_by_loops(rows, prototypes, epsilon, iterations):
    given = scores(rows, prototypes)
    codes = sinkhorn(given, epsilon=epsilon, iterations=iterations)
    expected = torch.tensor(slow(given.tolist(), epsilon, iterations), dtype=F64)
    torch.testing.assert_close(codes, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("epsilon", "iterations", "weighed", "first", "last"),
    [
        (0.05, 3, 491.01151913381693, 0.010402123907844394, 3.9016428921878755e-06),
        (0.03, 10, 491.56748042564817, 0.0007180828753696917, 5.85819907040554e-10),
    ],
)
def test_the_numbers_of_the_official_code(epsilon, iterations, weighed, first, last):
    """facebookresearch/swav at 06b1b7c, main_swav.py: distributed_sinkhorn in fp64, on the rows of `keyed`."""
    codes = sinkhorn(keyed("queue", 9) @ keyed("bank", 12).T, epsilon=epsilon, iterations=iterations)
    places = torch.arange(1.0, 109.0, dtype=F64).view(9, 12)
    assert (codes * places).sum().item() == pytest.approx(weighed, rel=1e-12)
    assert [codes[0, 0].item(), codes[-1, -1].item()] == pytest.approx([first, last], rel=1e-10)


def test_identical_rows_and_a_single_one_get_the_uniform_code():
    for rows in (1, 5):
        codes = sinkhorn(scores(1, 6).expand(rows, 6))
        torch.testing.assert_close(codes, torch.full((rows, 6), 1 / 6, dtype=F64), rtol=0, atol=1e-12)


def test_every_code_sums_to_one_and_prototypes_share_evenly_in_the_limit():
    codes = sinkhorn(scores(24, 6), iterations=3)
    torch.testing.assert_close(codes.sum(1), torch.ones(24, dtype=F64))
    assert (codes.sum(0) - 4).abs().max() > 1e-3  # the column comes last
    torch.testing.assert_close(sinkhorn(scores(24, 6), iterations=2000).sum(0), torch.full((6,), 4.0, dtype=F64))


def test_a_constant_per_sample_or_prototype_leaves_the_converged_codes():
    given, per_sample, per_prototype = scores(8, 5), scores(8, 1, seed=1), scores(5, 1, seed=2).T
    codes = sinkhorn(given, epsilon=0.2, iterations=500)
    for other in (given + per_sample, given + per_prototype):
        torch.testing.assert_close(sinkhorn(other, epsilon=0.2, iterations=500), codes, rtol=0, atol=1e-10)


def test_a_constant_for_all_scores_leaves_every_iteration():
    torch.testing.assert_close(sinkhorn(scores(8, 5) + 100), sinkhorn(scores(8, 5)), rtol=1e-9, atol=0)


def test_permutations_of_samples_and_prototypes_are_kept():
    given, order, columns = scores(8, 5), torch.randperm(8), torch.randperm(5)
    codes = sinkhorn(given[order][:, columns])
    torch.testing.assert_close(codes, sinkhorn(given)[order][:, columns])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("epsilon", [0.05, 0.03, 0.001])
def test_fp32_is_fp64_but_for_rounding(dtype, epsilon):
    """Also where exp(1 / epsilon) overflows fp32, and fp64."""
    given = scores(300, 70, dtype=dtype)
    codes = sinkhorn(given, epsilon=epsilon)
    assert codes.dtype == torch.float32
    torch.testing.assert_close(
        codes.double(), sinkhorn(given.double(), epsilon=epsilon), rtol=0, atol=1e-3 * 1e-3 / epsilon
    )


def test_half_precision_and_autocast_do_not_lower_the_precision():
    given = scores(30, 7, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sinkhorn(given), sinkhorn(given.clone()))


def test_earlier_samples_take_part_and_get_no_code():
    given = scores(12, 5)
    codes = sinkhorn(given[8:], earlier=given[:8])
    torch.testing.assert_close(codes, sinkhorn(given)[8:])
    assert (codes - sinkhorn(given[8:])).abs().max() > 1e-3


def test_there_is_no_gradient():
    given = scores(4, 3).requires_grad_()
    assert not sinkhorn(given).requires_grad


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"epsilon": 0.0}, "epsilon is 0.0"), ({"epsilon": math.nan}, "nan"), ({"iterations": 0}, "0 iterations")],
)
def test_settings_without_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        sinkhorn(scores(4, 3), **settings)


def share(rows: int, earlier: int) -> torch.Tensor:
    given, queue = scores(rows, 5), scores(earlier, 5, seed=1)
    return sinkhorn(given[rank() :: world()], earlier=queue if earlier else None)


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize(("rows", "earlier"), [(12, 0), (7, 0), (7, 10), (2, 0), (2, 1)])
def test_processes_share_the_prototypes(processes, rows, earlier, gloo):
    """Uneven shares, and ranks without a sample of the batch or of the queue."""
    whole = share(rows, earlier)
    for number, codes in enumerate(gloo.run(processes, share, rows, earlier)):
        torch.testing.assert_close(codes, whole[number::processes], rtol=0, atol=1e-12)
