"""Gathers, sums and means over processes equal one process with the joined batch, values and gradients."""

import threading

import pytest
import torch
import torch.distributed as dist

from gloo import Gloo
from lookalike.functional import collectives


def joined(rows: int, width: int = 3, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Row i holds i, i + 0.5 ...: a wrong order shows."""
    return (torch.arange(rows)[:, None] + torch.arange(width) / 2).to(dtype)


def share(x_BD: torch.Tensor) -> torch.Tensor:
    return x_BD[collectives.rank() :: collectives.world()].clone()


def gathered(rows: int, dtype: torch.dtype) -> torch.Tensor:
    return collectives.gather_rows(share(joined(rows, dtype=dtype)))


def gather_gradient(rows: int, weight_BD: torch.Tensor) -> torch.Tensor:
    """Each rank's loss weighs every gathered row by weight x (own rank + 1); the gradient of own rows."""
    x_bD = share(joined(rows)).requires_grad_()
    (collectives.gather_rows(x_bD) * weight_BD * (collectives.rank() + 1)).sum().backward()
    assert x_bD.grad is not None
    return x_bD.grad


def wrong_share() -> None:
    collectives.gather_rows(torch.zeros(1 + 2 * collectives.rank(), 2))


def summed(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    own = (x * (collectives.rank() + 1)).requires_grad_()
    total = collectives.all_sum(own)
    (total * (collectives.rank() + 1)).sum().backward()
    assert own.grad is not None
    return total.detach(), own.grad


def largest() -> torch.Tensor:
    return collectives.all_max(torch.tensor([collectives.rank(), -collectives.rank()]).double())


def agreed(dissenter: int) -> bool:
    return collectives.agree(collectives.rank() != dissenter)


def mean(rows: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    x_b = share(joined(rows, 1, dtype)[:, 0].square()).requires_grad_()
    value = collectives.global_mean(x_b)
    value.backward()
    assert x_b.grad is not None
    return value.detach(), x_b.grad


def mean_in_subgroup() -> tuple[float, int, int]:
    """Ranks 0 and 2 average among themselves; rank 1 does so alone."""
    groups = [dist.new_group([0, 2]), dist.new_group([1])]
    group = groups[collectives.rank() % 2]
    x_b = torch.tensor([float(collectives.rank())])
    return collectives.global_mean(x_b, group).item(), collectives.world(group), collectives.rank(group)


def fails_on(rank: int) -> None:
    if collectives.rank() == rank:
        raise KeyError("the reason")


def hangs() -> None:
    threading.Event().wait()


class TestOneProcess:
    def test_everything_is_the_identity(self):
        x_BD = joined(5).requires_grad_()
        assert collectives.gather_rows(x_BD) is x_BD
        assert collectives.all_sum(x_BD) is x_BD
        assert (collectives.world(), collectives.rank()) == (1, 0)
        assert collectives.agree(True)
        assert not collectives.agree(False)
        torch.testing.assert_close(collectives.all_max(x_BD), x_BD.detach())

    def test_global_mean_is_the_mean(self):
        x_b = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
        value = collectives.global_mean(x_b)
        value.backward()
        assert value.item() == 3.0
        torch.testing.assert_close(x_b.grad, torch.full((3,), 1 / 3))

    def test_mean_of_nothing_is_refused(self):
        with pytest.raises(ValueError, match="at least one row"):
            collectives.global_mean(torch.zeros(0))


@pytest.mark.parametrize("world", [2, 3, 4])
class TestSeveralProcesses:
    @pytest.mark.parametrize("rows", [1, 7, 8])
    def test_rows_come_in_position_order(self, gloo, world, rows):
        for x_BD in gloo.run(world, gathered, rows, torch.float64):
            assert torch.equal(x_BD, joined(rows))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
    def test_any_dtype_is_gathered(self, gloo, world, dtype):
        for x_BD in gloo.run(world, gathered, 5, dtype):
            assert torch.equal(x_BD, joined(5, dtype=dtype))

    @pytest.mark.parametrize("rows", [2, 7])
    def test_gradient_of_gathered_rows_is_the_sum_over_ranks(self, gloo, world, rows):
        weight_BD = torch.randn(rows, 3, dtype=torch.float64)
        everyone = sum(r + 1 for r in range(world))
        for r, gradient_bD in enumerate(gloo.run(world, gather_gradient, rows, weight_BD)):
            torch.testing.assert_close(gradient_bD, everyone * weight_BD[r::world], rtol=0, atol=1e-12)

    def test_shares_not_dealt_in_turn_are_refused_by_every_rank(self, gloo, world):
        with pytest.raises(ValueError, match=r"ranks hold \[1, 3"):
            gloo.run(world, wrong_share)

    def test_all_sum_and_its_gradient(self, gloo, world):
        x = torch.randn(2, 3, dtype=torch.float64)
        everyone = sum(r + 1 for r in range(world))
        for total, gradient in gloo.run(world, summed, x):
            torch.testing.assert_close(total, everyone * x, rtol=0, atol=1e-12)
            torch.testing.assert_close(gradient, torch.full_like(x, everyone), rtol=0, atol=1e-12)

    def test_half_precision_is_summed_in_float(self, gloo, world):
        ones = torch.full((1,), 256.0, dtype=torch.bfloat16)
        for total, gradient in gloo.run(world, summed, ones):
            assert total.dtype == gradient.dtype == torch.bfloat16
            assert total.item() == torch.tensor(256.0 * sum(r + 1 for r in range(world))).bfloat16().item()

    def test_all_max(self, gloo, world):
        for value in gloo.run(world, largest):
            assert value.tolist() == [world - 1, 0]

    def test_agree_needs_everyone(self, gloo, world):
        assert gloo.run(world, agreed, -1) == [True] * world
        assert gloo.run(world, agreed, world - 1) == [False] * world

    @pytest.mark.parametrize("rows", [1, 7, 8])
    def test_global_mean_of_uneven_and_empty_shares(self, gloo, world, rows):
        expected = joined(rows, 1)[:, 0].square().mean()
        answers = gloo.run(world, mean, rows)
        for value, gradient_b in answers:
            torch.testing.assert_close(value, expected)
            torch.testing.assert_close(gradient_b, torch.full_like(gradient_b, world / rows))

    def test_global_mean_of_half_precision_is_float(self, gloo, world):
        for value, gradient_b in gloo.run(world, mean, 7, torch.bfloat16):
            assert value.dtype == torch.float32
            assert gradient_b.dtype == torch.bfloat16


def test_a_subgroup_is_respected(gloo):
    assert gloo.run(3, mean_in_subgroup) == [(1.0, 2, 0), (1.0, 1, 0), (1.0, 2, 1)]


class TestPool:
    def test_an_exception_of_a_rank_is_raised_here_with_its_traceback(self, gloo):
        with pytest.raises(KeyError, match="the reason") as caught:
            gloo.run(2, fails_on, 1)
        assert "rank 1 of 2" in str(caught.value.__cause__)
        assert "fails_on" in str(caught.value.__cause__)

    def test_a_hang_fails_and_the_pool_recovers(self):
        pool = Gloo()
        assert pool.run(1, agreed, -1) == [True]
        with pytest.raises(TimeoutError, match=r"ranks \[0\] of 1"):
            pool.run(1, hangs, patience=0.5)
        assert pool.run(1, agreed, -1) == [True]
        pool.close()
