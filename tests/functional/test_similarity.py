"""Unit rows, cosines and BYOL's distance."""

import math

import pytest
import torch

from lookalike.functional import byol_distance, cosine, paired_cosine, unit

F64 = torch.float64


def test_unit_rows_have_length_one_at_any_scale():
    x_BD = torch.randn(6, 5, dtype=F64) * torch.logspace(-5, 6, 6, dtype=F64)[:, None]
    expected = [[v / math.sqrt(math.fsum(w * w for w in row)) for v in row] for row in x_BD.tolist()]
    torch.testing.assert_close(unit(x_BD), torch.tensor(expected, dtype=F64), rtol=1e-14, atol=1e-14)


def test_a_zero_row_stays_zero_with_a_finite_gradient():
    x_BD = torch.zeros(2, 3, requires_grad=True)
    y_BD = unit(x_BD)
    y_BD.sum().backward()
    assert not y_BD.any()
    assert x_BD.grad is not None
    assert x_BD.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(dtype):
    x_BD = (torch.randn(4, 300) * 100).to(dtype)  # the squares overflow float16
    assert unit(x_BD).dtype == torch.float32
    torch.testing.assert_close(unit(x_BD), unit(x_BD.float()), rtol=0, atol=0)


def test_cosines():
    a, b = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[0.0, 2.0], [-5.0, 0.0], [6.0, 8.0]])
    torch.testing.assert_close(cosine(a, b), torch.tensor([[0.8, -0.6, 1.0], [0.0, -1.0, 0.6]]))
    torch.testing.assert_close(paired_cosine(a, b[:2]), torch.tensor([0.8, -1.0]))


class TestByolDistance:
    @pytest.mark.parametrize(
        ("p", "z", "distance"),
        [([0.6, 0.8], [1.0, 0.0], 0.8), ([1.0, 0.0], [1.0, 0.0], 0.0), ([1.0, 0.0], [-1.0, 0.0], 4.0)],
        ids=["cosine 0.6", "equal", "opposite"],
    )
    def test_closed_forms(self, p, z, distance):
        found = byol_distance(torch.tensor([p], dtype=F64), torch.tensor([z], dtype=F64))
        assert found.item() == pytest.approx(distance, abs=1e-12)

    def test_is_two_minus_two_cosines_and_does_not_see_scales(self):
        p, z = torch.randn(5, 4, dtype=F64), torch.randn(5, 4, dtype=F64)
        torch.testing.assert_close(byol_distance(p, z), 2 - 2 * paired_cosine(p, z))
        torch.testing.assert_close(byol_distance(300 * p, z / 7), byol_distance(p, z), rtol=1e-13, atol=1e-13)

    def test_the_target_gets_no_gradient(self):
        p, z = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
        byol_distance(p, z).sum().backward()
        assert p.grad is not None
        assert p.grad.norm() > 0
        assert z.grad is None

    def test_finite_differences(self):
        z = torch.randn(3, 4, dtype=F64)
        p = torch.randn(3, 4, dtype=F64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: byol_distance(x, z), p)

    def test_close_vectors_keep_their_digits_in_float32(self):
        """2 - 2 cosine would round to 0."""
        p, z = torch.tensor([[1.0, 1e-4]]), torch.tensor([[1.0, 0.0]])
        assert byol_distance(p, z).item() == pytest.approx(1e-8, rel=1e-3)
