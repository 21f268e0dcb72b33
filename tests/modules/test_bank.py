"""One row per sample: filling, writing, and what is saved."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lookalike.modules import Bank


def dealt(rows_ND: Tensor, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
    for index in torch.randperm(len(rows_ND)).split(chunk):
        yield index, rows_ND[index]


def test_fill_puts_every_row_at_its_index() -> None:
    bank, rows_ND = Bank(10, 3), torch.randn(10, 3)
    bank.fill(dealt(rows_ND, chunk=4))
    assert torch.equal(bank.rows(), rows_ND)


def test_fill_refuses_a_gap() -> None:
    bank, rows_ND = Bank(10, 3, derived=True), torch.randn(10, 3)
    with pytest.raises(ValueError, match="2 of the bank's 10 rows were not filled, the first is 8"):
        bank.fill([(torch.arange(8), rows_ND[:8])])
    with pytest.raises(RuntimeError, match="has not been filled"):
        bank.rows()


def test_write_replaces_only_its_rows() -> None:
    bank = Bank(5, 2)
    bank.write(torch.tensor([3, 0]), torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True))
    assert bank.rows().tolist() == [[3.0, 4.0], [0, 0], [0, 0], [1.0, 2.0], [0, 0]]
    assert not bank.rows().requires_grad
    with pytest.raises(IndexError):
        bank.write(torch.tensor([5]), torch.zeros(1, 2))
    with pytest.raises(IndexError):
        bank.write(torch.tensor([-1]), torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"1 rows of 2 numbers .* \(1, 3\) was given"):
        bank.write(torch.tensor([1]), torch.zeros(1, 3))


def test_rows_are_saved_unless_derived() -> None:
    bank, again = Bank(4, 2), Bank(4, 2)
    bank.fill(dealt(torch.randn(4, 2), chunk=3))
    again.load_state_dict(bank.state_dict())
    assert torch.equal(again.rows(), bank.rows())
    assert Bank(4, 2, derived=True).state_dict() == {}


def test_half_precision_stays_when_the_module_is_converted() -> None:
    bank = Bank(4, 2, dtype=torch.float16, derived=True).to(torch.float32)
    bank.fill([(torch.arange(4), torch.full((4, 2), 0.1))])
    assert bank.rows().dtype == torch.float16
    assert Bank(4, 2).double().rows().dtype == torch.float64


def test_size_is_checked() -> None:
    with pytest.raises(ValueError, match="0 x 2 was given"):
        Bank(0, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_in_a_file_are_those_in_memory(dtype: torch.dtype, tmp_path: Path) -> None:
    rows_ND = torch.randn(10, 3)
    memory, file = Bank(10, 3, dtype=dtype), Bank(10, 3, dtype=dtype, derived=True, folder=tmp_path)
    for bank in (memory, file):
        bank.fill(dealt(rows_ND, chunk=4))
    assert torch.equal(file.rows(), memory.rows())
    assert file.rows().dtype == dtype
    assert list(tmp_path.iterdir()) == []  # nothing is left of it, however the process ends
    assert file.state_dict() == {}
    assert Bank.bytes(10, 3, dtype) == file.rows().numel() * file.rows().element_size()


def test_a_bank_in_a_file_stays_there_when_the_module_is_converted(tmp_path: Path) -> None:
    bank = Bank(10, 3, derived=True, folder=tmp_path)
    place = bank.table.data_ptr()
    assert bank.double().table.data_ptr() == place
    assert bank.table.dtype == torch.float32


def test_rows_that_are_saved_do_not_lie_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="derived=True"):
        Bank(10, 3, folder=tmp_path)


def test_a_folder_without_room_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"a bank needs 4,503,599\.6 GB"):
        Bank(2**40, 2**10, derived=True, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
