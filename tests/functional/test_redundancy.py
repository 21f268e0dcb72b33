"""Correlations and covariances of the batch: closed forms, slow loops, invariances, several processes."""

import math

import jaxtyping
import pytest
import torch

from functional.joined import demand_joined
from lookalike.functional import barlow_twins, cross_correlation, spread
from lookalike.functional.collectives import rank, world

F64 = torch.float64
CORNERS = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=F64)
TWICE = CORNERS[:, [0, 0]]  # both dimensions say the same


def rows(count: int = 7, width: int = 4) -> torch.Tensor:
    return torch.randn(count, width, dtype=F64)


def standard(column: list[float], eps: float) -> list[float]:
    mean = math.fsum(column) / len(column)
    variance = math.fsum((x - mean) ** 2 for x in column) / len(column)
    return [(x - mean) / math.sqrt(variance + eps) for x in column]


def slow_correlation(z1: torch.Tensor, z2: torch.Tensor, eps: float) -> list[list[float]]:
    one, two = ([standard(column, eps) for column in z.T.tolist()] for z in (z1, z2))
    return [[math.fsum(x * y for x, y in zip(a, b, strict=True)) / len(a) for b in two] for a in one]


def slow_covariance(z: torch.Tensor) -> list[list[float]]:
    count, columns = len(z), z.T.tolist()
    centered = [[x - math.fsum(column) / count for x in column] for column in columns]
    return [[math.fsum(x * y for x, y in zip(a, b, strict=True)) / (count - 1) for b in centered] for a in centered]


class TestBarlowTwins:
    @pytest.mark.parametrize(
        ("one", "two", "loss"),
        [
            (CORNERS, CORNERS, 0.0),
            (CORNERS, -CORNERS, 8.0),  # 4 D
            (CORNERS, CORNERS.flip(1), 2.0102),  # 2 + 2 redundancy
            (TWICE, TWICE, 0.0102),  # 2 redundancy
        ],
    )
    def test_corners(self, one, two, loss):
        assert barlow_twins(one, two, eps=0.0).item() == pytest.approx(loss, abs=1e-12)

    def test_hsic_adds_one_off_the_diagonal(self):
        assert barlow_twins(CORNERS, CORNERS, eps=0.0, variant="hsic").item() == pytest.approx(0.0102, abs=1e-12)
        one, two = rows(), rows()
        correlation = slow_correlation(one, two, 1e-5)
        total = 0.0
        for i in range(4):
            for j in range(4):
                c = correlation[i][j]
                total += (1 - c) ** 2 if i == j else 0.3 * (c + 1) ** 2
        found = barlow_twins(one, two, redundancy=0.3, variant="hsic").item()
        assert found == pytest.approx(total, abs=1e-12)

    def test_the_variance_is_the_biased_one(self):
        """An unbiased deviation would leave (N - 1) / N on the diagonal: a loss of 2 / 16 for equal corners."""
        assert cross_correlation(CORNERS, CORNERS, eps=0.0).diagonal().tolist() == pytest.approx([1.0, 1.0])
        other = CORNERS / CORNERS.std(0)
        assert ((1 - (other.T @ other / 4).diagonal()) ** 2).sum().item() == pytest.approx(0.125)
        assert barlow_twins(CORNERS, CORNERS, eps=0.0).item() == pytest.approx(0.0, abs=1e-12)

    def test_plain_loops(self):
        one, two = rows(), rows()
        correlation = slow_correlation(one, two, 1e-5)
        torch.testing.assert_close(
            cross_correlation(one, two), torch.tensor(correlation, dtype=F64), rtol=0, atol=1e-12
        )
        total = 0.0
        for i in range(4):
            for j in range(4):
                total += (1 - correlation[i][j]) ** 2 if i == j else 0.0051 * correlation[i][j] ** 2
        assert barlow_twins(one, two).item() == pytest.approx(total, abs=1e-12)

    def test_invariances(self):
        one, two = rows(), rows()
        loss, order = barlow_twins(one, two, eps=0.0), torch.randperm(7)
        scale, offset = torch.tensor([0.1, 3.0, 7.0, 100.0], dtype=F64), rows(1)
        for a, b in ((two, one), (one[order], two[order]), (one * scale + offset, two), (one, two * scale - offset)):
            torch.testing.assert_close(barlow_twins(a, b, eps=0.0), loss, rtol=0, atol=1e-10)

    @pytest.mark.parametrize("variant", ["barlow_twins", "hsic"])
    def test_finite_differences(self, variant):
        pair = rows(5, 3).requires_grad_(), rows(5, 3).requires_grad_()
        assert torch.autograd.gradcheck(lambda a, b: barlow_twins(a, b, redundancy=0.2, variant=variant), pair)

    def test_small_correlations_keep_their_digits_beside_a_large_diagonal(self):
        """512 dimensions that agree: what is off the diagonal is 1e-5 of the sum of squares."""
        z = torch.randn(4096, 512, dtype=F64)
        exact = barlow_twins(z, z, redundancy=1e-4).item()
        assert barlow_twins(z.float(), z.float(), redundancy=1e-4).item() == pytest.approx(exact, rel=1e-3)

    def test_half_precision_is_computed_in_float32(self):
        one, two = rows(64, 8), rows(64, 8)
        exact = barlow_twins(one, two).item()
        found = barlow_twins(one.bfloat16(), two.bfloat16())
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(exact, rel=2e-2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert barlow_twins(one.float(), two.float()).item() == pytest.approx(exact, rel=1e-5)

    def test_mistakes_are_sentences(self):
        with pytest.raises(ValueError, match="at least 2 rows, and there is 1: use a larger batch"):
            barlow_twins(rows(1), rows(1))
        jaxtyping.config.update("jaxtyping_disable", True)  # as in a user's script
        try:
            with pytest.raises(ValueError, match="variant is 'hisc'"):
                barlow_twins(rows(), rows(), variant="hisc")
        finally:
            jaxtyping.config.update("jaxtyping_disable", False)


class TestSpread:
    def test_corners(self):
        """Variance 4/3 in both dimensions, and none in common."""
        assert [x.item() for x in spread(CORNERS)] == pytest.approx([0.0, 0.0], abs=1e-12)
        assert spread(TWICE).covariance.item() == pytest.approx((4 / 3) ** 2, abs=1e-12)

    def test_a_constant_has_all_of_the_penalty_but_the_root_of_eps(self):
        assert spread(torch.ones(5, 3, dtype=F64)).variance.item() == pytest.approx(0.99, abs=1e-12)

    def test_plain_loops(self):
        z = rows() * 0.7
        covariance, hinge, outside = slow_covariance(z), 0.0, 0.0
        for i in range(4):
            hinge += max(0.0, 1 - math.sqrt(covariance[i][i] + 1e-4)) / 4
            outside += math.fsum(covariance[i][j] ** 2 for j in range(4) if j != i) / 4
        assert hinge > 0
        assert [x.item() for x in spread(z)] == pytest.approx([hinge, outside], abs=1e-12)

    def test_an_offset_and_the_order_of_rows_do_not_matter(self):
        z = rows()
        for other in (z + 5, z[torch.randperm(7)], -z):
            torch.testing.assert_close(tuple(spread(other)), tuple(spread(z)), rtol=0, atol=1e-12)

    def test_finite_differences(self):
        z = (rows(5, 3) * 0.6).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: torch.stack(spread(x)), (z,))

    def test_one_row_is_a_sentence(self):
        with pytest.raises(ValueError, match="at least 2 rows, and there is 1: use a larger batch"):
            spread(rows(1))


def on_a_rank(z1_BD: torch.Tensor, z2_BD: torch.Tensor) -> list[torch.Tensor]:
    a, b = (z[rank() :: world()].clone().requires_grad_() for z in (z1_BD, z2_BD))
    first = spread(a)
    loss = barlow_twins(a, b, redundancy=0.3) + first.variance + 2 * first.covariance
    return [loss.detach(), *torch.autograd.grad(loss, (a, b))]


@pytest.mark.parametrize(("processes", "batch"), [(2, 6), (2, 7), (3, 7)])
def test_several_processes_equal_the_joined_batch(processes: int, batch: int, gloo) -> None:
    """Gradients averaged as DDP does, cross-rank terms included."""
    demand_joined(gloo, processes, on_a_rank, rows(batch), rows(batch))
