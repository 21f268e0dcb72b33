"""The moving average against its formula, and where it must not move at all."""

import pytest
import torch

from lookalike.functional.ema import ema_


@pytest.mark.parametrize(
    ("target", "source", "momentum", "moved"),
    [(1.0, 0.0, 0.99, 0.99), (1.0, 0.0, 0.996, 0.996), (2.0, 4.0, 0.75, 2.5), (-1.0, 3.0, 0.0, 3.0)],
)
def test_closed_forms(target: float, source: float, momentum: float, moved: float) -> None:
    targets = [torch.tensor([target], dtype=torch.float64)]
    ema_(targets, [torch.tensor([source], dtype=torch.float64)], momentum)
    assert targets[0].item() == pytest.approx(moved, abs=1e-15)


def test_every_element_follows_the_formula_over_many_steps() -> None:
    targets = [torch.randn(3, 2, dtype=torch.float64), torch.randn(5, dtype=torch.float64)]
    slow = [target.flatten().tolist() for target in targets]
    for momentum in (0.9, 0.3, 0.999, 0.5):
        sources = [torch.randn(3, 2, dtype=torch.float64), torch.randn(5, dtype=torch.float64)]
        ema_(targets, sources, momentum)
        for row, source in zip(slow, sources, strict=True):
            for i, value in enumerate(source.flatten().tolist()):
                row[i] = row[i] * momentum + value * (1 - momentum)
    for target, row in zip(targets, slow, strict=True):
        torch.testing.assert_close(target.flatten(), torch.tensor(row, dtype=torch.float64), rtol=0, atol=1e-15)


def test_momentum_one_changes_no_bit_and_zero_copies_all() -> None:
    awkward = torch.tensor([-0.0, 1e-45, 3.0, float("inf")])
    target, before = awkward.clone(), awkward.clone().view(torch.int32)
    ema_([target], [torch.randn(4)], 1.0)
    assert torch.equal(target.view(torch.int32), before)
    source = torch.randn(4)
    finite = torch.randn(4)
    ema_([finite], [source], 0.0)
    assert torch.equal(finite, source)


def test_dtypes_may_differ_between_and_within_pairs() -> None:
    targets = [torch.ones(2), torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.bfloat16)]
    sources = [torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16)]
    ema_(targets, sources, 0.75)
    assert [t.dtype for t in targets] == [torch.float32, torch.float64, torch.bfloat16]
    assert all(t.tolist() == [0.75, 0.75] for t in targets)


def test_parameters_move_in_place_without_gradient() -> None:
    target, source = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.zeros(3))
    place = target.data_ptr()
    ema_([target], [source], 0.5)
    assert target.data_ptr() == place
    assert target.grad_fn is None
    assert target.tolist() == [0.5] * 3
    assert source.tolist() == [0.0] * 3


def test_mistakes_are_sentences() -> None:
    with pytest.raises(ValueError, match=r"lies in \[0, 1\], and 1.5"):
        ema_([torch.ones(1)], [torch.ones(1)], 1.5)
    with pytest.raises(ValueError, match="1 tensors cannot follow 2"):
        ema_([torch.ones(1)], [torch.ones(1)] * 2, 0.5)
    with pytest.raises(ValueError, match=r"tensor 1 .* \(2,\) and cannot follow \(3,\)"):
        ema_([torch.ones(1), torch.ones(2)], [torch.ones(1), torch.ones(3)], 0.5)
    with pytest.raises(ValueError, match="int64 was given"):
        ema_([torch.ones(1, dtype=torch.int64)], [torch.ones(1, dtype=torch.int64)], 0.5)
    ema_([], [], 0.5)
