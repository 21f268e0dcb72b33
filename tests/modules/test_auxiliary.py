"""Auxiliary tasks: what the encoder is shown, and that the right answer can be read from it."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lookalike.functional import random
from lookalike.functional.boxes import overlap
from lookalike.modules import CropOverlap, Jigsaw, RelativePosition, Rotation, Scene
from lookalike.modules.auxiliary import distant_orders

SIDE = 9


def pictures(rows: int = 12, side: int = SIDE) -> Tensor:
    return torch.randint(256, (rows, 3, side, side), dtype=torch.uint8)


def scene(views: Mapping[str, Tensor], encode: Callable[[Tensor], Tensor], boxes: Mapping[str, Tensor] = {}) -> Scene:
    def draw(name: str, columns: int) -> Tensor:
        return random.uniform(random.key(name), torch.arange(len(next(iter(views.values())))), columns)

    return Scene(views=views, boxes=boxes, draw=draw, encode=encode, encoded=lambda view: encode(views[view]))


class Shown:
    """An encoder that remembers its pixels, and makes flat rows of them."""

    def __init__(self) -> None:
        self.pixels: list[Tensor] = []

    def __call__(self, pixels: Tensor) -> Tensor:
        self.pixels.append(pixels)
        return pixels.flatten(1).float()


def test_each_view_is_turned_by_quarters_of_its_own() -> None:
    views, shown = {"a": pictures(40), "b": pictures(40)}, Shown()
    one, two = Rotation(3 * SIDE * SIDE)(scene(views, shown))
    for (view, pixels), turned, answers in zip(views.items(), shown.pixels, (one, two), strict=True):
        for image, other, quarter in zip(pixels.numpy(), turned.numpy(), answers.right.tolist(), strict=True):
            assert np.array_equal(np.rot90(image, quarter, (-2, -1)), other), view
        assert answers.right.bincount(minlength=4).min() > 2  # of 40 uniform ones
    assert not torch.equal(one.right, two.right)


def test_tiles_lie_in_the_order_that_is_the_answer() -> None:
    numbered = torch.arange(9).repeat_interleave(3).view(3, 9).repeat_interleave(3, 0).expand(12, 3, 9, 9)
    task, shown = Jigsaw(27, orders=20, width=4), Shown()
    (answers,) = task(scene({"a": numbered.to(torch.uint8)}, shown))
    seen = shown.pixels[0][:, 0, 0, 0].view(9, 12).T.long()  # tile after tile
    assert torch.equal(seen, task.orders[answers.right])
    assert answers.logits.shape == (12, 20)


def test_orders_are_permutations_far_from_one_another() -> None:
    orders = distant_orders(100, 9)
    assert torch.equal(orders.sort(1).values, torch.arange(9).expand(100, 9))
    apart = (orders[:, None] != orders[None]).sum(2) + 9 * torch.eye(100, dtype=torch.int64)
    assert apart.min() >= 6
    assert torch.equal(orders, distant_orders(100, 9))


def test_the_other_tile_lies_on_the_side_that_is_the_answer() -> None:
    numbered = torch.arange(9).repeat_interleave(3).view(3, 9).repeat_interleave(3, 0).expand(30, 3, 9, 9)
    shown = Shown()
    (answers,) = RelativePosition(27)(scene({"a": numbered.to(torch.uint8)}, shown))
    middle, other = shown.pixels[0][:, 0, 0, 0].long().chunk(2)
    assert set(middle.tolist()) == {4}
    assert torch.equal(other, torch.tensor([0, 1, 2, 3, 5, 6, 7, 8])[answers.right])
    assert len(set(answers.right.tolist())) > 4


def test_the_overlap_of_crops_is_asked_of_what_is_encoded_already() -> None:
    boxes = {"a": torch.rand(12, 2).repeat(1, 2), "b": torch.rand(12, 2).repeat(1, 2)}
    boxes = {view: box + torch.tensor([0, 0, 0.5, 0.5]) for view, box in boxes.items()}
    features = {view: torch.randn(12, 6) for view in boxes}
    views = {view: pictures() for view in boxes}

    def never(pixels: Tensor) -> Tensor:
        raise AssertionError("no image need be encoded")

    seen = Scene(
        views=views, boxes=boxes, draw=lambda name, n: torch.rand(12, n), encode=never, encoded=features.__getitem__
    )
    task = CropOverlap(6, bins=4)
    (answers,) = task(seen)
    assert answers.right.tolist() == [min(int(4 * iou), 3) for iou in overlap(boxes["a"], boxes["b"]).tolist()]
    assert task.questions == 1
    with pytest.raises(ValueError, match="the overlap of crops needs two views with boxes, and there are"):
        task(scene(views, Shown()))


def test_rotation_of_crops_that_are_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match="images of 9 x 6 pixels cannot be turned by a quarter"):
        Rotation(5)(scene({"a": pictures()[..., :6]}, Shown()))


@pytest.mark.parametrize("kind", [Rotation, Jigsaw, RelativePosition])
def test_a_task_is_learned(kind: type) -> None:
    """Images that are darker above and to the left say how they are turned and where their tiles come from."""
    ramp = torch.linspace(0, 1, 12)
    images = 0.5 * ramp[:, None] + 0.2 * ramp[None] + 0.01 * torch.rand(64, 3, 12, 12)
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(32))
    task = Jigsaw(32, orders=4, width=8) if kind is Jigsaw else kind(32)
    seen = scene({"a": images}, net)
    task(seen)  # builds the lazy layer
    optimizer = torch.optim.SGD([*net.parameters(), *task.parameters()], lr=0.3, momentum=0.9)
    for _ in range(40):
        (answers,) = task(seen)
        optimizer.zero_grad()
        nn.functional.cross_entropy(answers.logits, answers.right).backward()
        optimizer.step()
    assert (answers.logits.argmax(1) == answers.right).float().mean() > 0.9
