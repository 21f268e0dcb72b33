"""The overlap of boxes: counted on a grid, symmetric, 1 for equal ones, 0 for those that touch."""

import pytest
import torch

from lookalike.functional.boxes import overlap

GRID = 20


def counted(one: list[int], two: list[int]) -> float:
    """Cells of a grid inside both boxes, over those inside either."""

    def cells(box: list[int]) -> set[tuple[int, int]]:
        left, top, right, bottom = box
        return {(x, y) for x in range(left, right) for y in range(top, bottom)}

    return len(cells(one) & cells(two)) / len(cells(one) | cells(two))


def test_boxes_on_a_grid_are_counted() -> None:
    corners = torch.randint(GRID, (2, 40, 2, 2)).sort(2).values
    boxes = torch.stack([corners[:, :, 0], corners[:, :, 1] + 1], 2).flatten(2)
    found = overlap(*(boxes.double() / GRID))
    expected = [counted(one, two) for one, two in zip(*boxes.tolist(), strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert torch.equal(found, overlap(*(boxes.double() / GRID).flip(0)))
    assert 0 < min(value for value in expected if value) < max(expected)


def test_equal_boxes_share_all_and_those_that_touch_or_are_empty_nothing() -> None:
    box = torch.tensor([[0.1, 0.2, 0.5, 0.7], [0.0, 0.0, 0.5, 1.0], [0.3, 0.3, 0.3, 0.3]])
    other = torch.tensor([[0.1, 0.2, 0.5, 0.7], [0.5, 0.0, 1.0, 1.0], [0.3, 0.3, 0.3, 0.3]])
    assert overlap(box, other).tolist() == pytest.approx([1.0, 0.0, 0.0])
