"""The hardest classes of each class: against all cosines at once, over tiles, blocks and ranks."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lookalike.functional import hardest
from lookalike.functional.collectives import rank, world
from lookalike.functional.hardest import hardest_classes


def full_matrix(weights_ND: Tensor, k: int) -> Tensor:
    unit_ND = normalize(weights_ND, dim=1)
    return (unit_ND @ unit_ND.T).fill_diagonal_(-2.0).topk(k, dim=1).indices


def shard(weights_ND: Tensor, k: int, block: int, tile: int) -> Tensor:
    hardest.BLOCK, hardest.TILE = block, tile  # in a process of its own
    return hardest_classes(weights_ND[rank() :: world()], k, sharded=True)


@pytest.mark.parametrize("k", [1, 5, 36])
@pytest.mark.parametrize(("block", "tile"), [(512, 1024), (1, 7), (10, 1)])
def test_equals_the_full_matrix(k, block, tile, monkeypatch):
    monkeypatch.setattr(hardest, "BLOCK", block)
    monkeypatch.setattr(hardest, "TILE", tile)
    weights_ND = torch.randn(37, 6, dtype=torch.float64)
    assert torch.equal(hardest_classes(weights_ND, k), full_matrix(weights_ND, k))


def test_lengths_do_not_matter_and_a_class_is_not_its_own():
    weights_ND = torch.tensor([[9.0, 0.0], [0.1, 0.01], [0.0, 2.0]])
    assert hardest_classes(weights_ND, 1).tolist() == [[1], [0], [1]]


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize(("count", "block", "tile"), [(37, 512, 1024), (38, 4, 5), (5, 1, 1)])
def test_classes_dealt_over_ranks(gloo, processes, count, block, tile):
    weights_ND = torch.randn(count, 6, dtype=torch.float64)
    expected = full_matrix(weights_ND, 4)
    for r, found in enumerate(gloo.run(processes, shard, weights_ND, 4, block, tile)):
        assert torch.equal(found, expected[r::processes])


@pytest.mark.parametrize("k", [0, 4])
def test_an_impossible_number_is_a_sentence(k):
    with pytest.raises(ValueError, match=f"the {k} hardest of 3 other classes"):
        hardest_classes(torch.randn(4, 2), k)
