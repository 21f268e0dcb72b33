"""The batch in a random order and back: the rows of two and three processes are those of one."""

import pytest
import torch

from gloo import Gloo
from lookalike.functional import random
from lookalike.functional.collectives import rank, world
from lookalike.functional.shuffle import shuffled


def rows(count: int) -> torch.Tensor:
    """Row i holds 10 i, 10 i + 1, 10 i + 2: a wrong row shows."""
    return 10.0 * torch.arange(count)[:, None] + torch.arange(3)


def there_and_back(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """This rank's mixed rows, those rows back in order, and rows back that were marked with their mixed place."""
    mixed, in_order = shuffled(rows(count)[rank() :: world()], random.generator("shuffle", count))
    place = torch.arange(rank(), count, world())
    return mixed, in_order(mixed), in_order(place)


def test_the_way_back_undoes_the_permutation() -> None:
    mixed, back, place = there_and_back(50)
    assert not torch.equal(mixed, rows(50))
    assert torch.equal(mixed[:, 0].sort().values, rows(50)[:, 0])
    assert torch.equal(back, rows(50))
    assert torch.equal(mixed[place], rows(50))


def test_rows_of_another_width_find_their_way_back() -> None:
    """What comes back is an encoder's output, not its input."""
    mixed, in_order = shuffled(rows(9), random.generator("shuffle"))
    assert torch.equal(in_order(mixed.sum(1)), rows(9).sum(1))
    assert torch.equal(in_order(mixed[:, :, None, None].expand(-1, -1, 2, 2))[:, :, 1, 0], rows(9))


def test_gradients_go_back_with_their_rows() -> None:
    x = rows(9).requires_grad_()
    mixed, in_order = shuffled(x, random.generator("shuffle"))
    (in_order(mixed**2) * torch.arange(9)[:, None]).sum().backward()
    assert torch.equal(x.grad, 2 * rows(9) * torch.arange(9)[:, None])


def test_the_generator_alone_decides() -> None:
    first, again, other = (shuffled(rows(30), random.generator("shuffle", s))[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("processes", "count"), [(2, 12), (2, 7), (3, 12), (3, 7), (3, 8)])
def test_the_shares_of_several_processes_are_those_of_one(processes: int, count: int, gloo: Gloo) -> None:
    whole_mixed, whole_back, whole_place = there_and_back(count)
    for r, (mixed, back, place) in enumerate(gloo.run(processes, there_and_back, count)):
        assert torch.equal(mixed, whole_mixed[r::processes])
        assert torch.equal(back, whole_back[r::processes])
        assert torch.equal(back, rows(count)[r::processes])
        assert torch.equal(place, whole_place[r::processes])
    assert any((whole_place % processes != torch.arange(count) % processes).tolist()), "rows change processes"
