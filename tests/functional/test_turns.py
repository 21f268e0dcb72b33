"""Turned images and tiles: the papers' matrices, and what undoes them."""

import numpy as np
import pytest
import torch

from lookalike.functional.turns import tiles, turned

SMALL = torch.tensor([[1, 2], [3, 4]])


def test_quarters_of_a_small_image() -> None:
    expected = [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]
    assert turned(SMALL.expand(4, 2, 2), torch.arange(4)).tolist() == expected


def test_turned_back_is_the_image_and_clips_turn_frame_by_frame() -> None:
    clips, quarters = torch.randint(256, (9, 3, 4, 5, 5), dtype=torch.uint8), torch.randint(4, (9,))
    there = turned(clips, quarters)
    assert torch.equal(turned(there, -quarters % 4), clips)
    for clip, other, quarter in zip(clips.numpy(), there.numpy(), quarters.tolist(), strict=True):
        assert np.array_equal(np.rot90(clip, quarter, (-2, -1)), other)


def test_crops_that_are_not_square_cannot_be_turned() -> None:
    with pytest.raises(ValueError, match="images of 4 x 6 pixels cannot be turned by a quarter: choose views with sq"):
        turned(torch.zeros(2, 3, 4, 6), torch.tensor([0, 1]))


def test_tiles_are_those_of_loops_and_drop_what_is_left_over() -> None:
    x = torch.randn(2, 3, 7, 11)
    found = tiles(x, 3)
    assert found.shape == (2, 9, 3, 2, 3)
    for number in range(9):
        row, column = divmod(number, 3)
        assert torch.equal(found[:, number], x[:, :, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3])
    with pytest.raises(ValueError, match=r"images of \(2, 8\) pixels have no 3 x 3 tiles: choose larger views"):
        tiles(torch.zeros(1, 3, 2, 8), 3)
