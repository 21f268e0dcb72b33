"""The compiled color jitter has the bits of the operations on tensors, in one thread and in several."""

import pytest
import torch
from torch import Tensor

from lookalike.functional import machine_code
from lookalike.transforms import ops

pytest.importorskip("numba")


@pytest.fixture(autouse=True)
def _few_numbers_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "FEW", 1)


def images(channels: int, side: int, whole: bool) -> Tensor:
    levels = torch.randint(0, 256, (24, channels, side, side)).float()
    return levels if whole else (levels + torch.rand_like(levels) - 0.5).clamp_(0, 255)


def drawn(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    order, amounts = torch.rand(24, 4).argsort(1), torch.rand(24, 4, dtype=dtype) * 1.6 + 0.2
    amounts[:, 3] = torch.rand(24) - 0.5
    amounts[3], amounts[4, :2], amounts[5, 3] = torch.tensor([1.0, 1, 1, 0]), 1.0, 0.0
    return order, amounts


def by_tensors(monkeypatch: pytest.MonkeyPatch, x: Tensor, order: Tensor, amounts: Tensor) -> Tensor:
    with monkeypatch.context() as without:
        without.setattr(ops, "kernels", lambda load: None)
        return ops.color_jitter_(x.clone(), order, amounts)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("channels", "side"), [(3, 32), (3, 7), (1, 16), (3, 1)])
def test_bits_are_those_of_the_tensors(
    monkeypatch: pytest.MonkeyPatch, channels: int, side: int, whole: bool, dtype: torch.dtype, threads: int
) -> None:
    x, (order, amounts) = images(channels, side, whole), drawn(dtype)
    expected = by_tensors(monkeypatch, x, order, amounts)
    torch.set_num_threads(threads)
    found = ops.color_jitter_(x.clone(), order, amounts)
    torch.set_num_threads(1)
    assert torch.equal(found, expected)
    assert not torch.equal(found, x)


def test_an_amount_that_is_neutral_for_all_is_no_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    x, (order, amounts) = images(3, 16, whole=False), drawn(torch.float32)
    amounts[:, 3] = 0.0
    assert torch.equal(ops.color_jitter_(x.clone(), order, amounts), by_tensors(monkeypatch, x, order, amounts))


def test_one_thread_has_a_kernel_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    x, (order, amounts) = images(3, 32, whole=True), drawn(torch.float32)
    expected = by_tensors(monkeypatch, x, order, amounts)
    monkeypatch.setattr(machine_code, "forked", lambda: True)
    assert torch.equal(ops.color_jitter_(x.clone(), order, amounts), expected)
