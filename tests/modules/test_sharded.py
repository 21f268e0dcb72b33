"""Rows dealt over ranks: written by their numbers, saved whole, taken up by any number of processes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lookalike.functional.collectives import rank
from lookalike.modules import Sharded, sharded_buffers
from lookalike.training.checkpoint import Checkpoints

ROWS = torch.arange(21.0).view(7, 3)


def filled() -> Sharded:
    table = Sharded(7, 3)
    order = torch.tensor([6, 0, 3, 1, 5, 2, 4])
    for index in order.split(3):
        table.write(index, ROWS[index])
    return table


def own_and_whole() -> tuple[Tensor, Tensor]:
    table = filled()
    return table.own, table.state_dict()["own"]


def load_whole(state: dict[str, Tensor]) -> Tensor:
    table = Sharded(7, 3)
    table.load_state_dict(state)
    return table.own


def save(folder: Path) -> None:
    state = {f"method/{name}": value for name, value in filled().state_dict().items()}
    if rank() == 0:
        Checkpoints(folder).save(1, state, {})


def take_up(folder: Path) -> Tensor:
    found = Checkpoints(folder).load()
    assert found is not None
    return load_whole({"own": found.tensors["method/own"]})


@pytest.mark.parametrize("processes", [2, 3])
def test_each_rank_holds_its_rows_and_saves_all(gloo, processes):
    for r, (own, whole) in enumerate(gloo.run(processes, own_and_whole)):
        assert torch.equal(own, ROWS[r::processes])
        assert torch.equal(whole, ROWS)


@pytest.mark.parametrize("readers", [1, 3])
def test_a_checkpoint_of_two_processes_is_read_by_others(gloo, readers, tmp_path):
    gloo.run(2, save, tmp_path)
    found = gloo.run(readers, take_up, tmp_path) if readers > 1 else [take_up(tmp_path)]
    for r, own in enumerate(found):
        assert torch.equal(own, ROWS[r::readers])


def test_another_number_of_rows_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch for own"):
        Sharded(6, 3).load_state_dict(filled().state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        Sharded(6, 3).load_state_dict({})


def test_its_buffers_are_named():
    net = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.ModuleDict({"c": Sharded(4)})})
    assert list(sharded_buffers(net)) == ["b.c.own"]
    assert list(sharded_buffers(Sharded(4))) == ["own"]


def test_no_rows_is_a_sentence():
    with pytest.raises(ValueError, match="at least 1 row, and 0"):
        Sharded(0, 2)


def test_more_ranks_than_rows(gloo):
    answers = gloo.run(4, few)
    assert [len(own) for own, _ in answers] == [1, 1, 0, 0]
    assert all(whole.tolist() == [0.0, 1.0] for _, whole in answers)


def few() -> tuple[Tensor, Tensor]:
    table = Sharded(2)
    table.write(torch.tensor([1, 0]), torch.tensor([1.0, 0.0]))
    return table.own, table.state_dict()["own"]
