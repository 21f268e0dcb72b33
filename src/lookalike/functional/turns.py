"""Images turned by quarters, and cut into tiles: what auxiliary tasks make of a view."""

from jaxtyping import Int64, Shaped
from torch import Tensor


def turned(x: Shaped[Tensor, "B *depth H W"], quarters_B: Int64[Tensor, "B"]) -> Shaped[Tensor, "B *depth H W"]:
    """Each image turned counter-clockwise by its number of quarters, 0 to 3. Raises ValueError if they are not square.

    >>> turned(torch.tensor([[[1, 2], [3, 4]]]), torch.tensor([1]))
    tensor([[[2, 4],
             [1, 3]]])
    """
    height, width = x.shape[-2:]
    if height != width:
        raise ValueError(
            f"images of {height} x {width} pixels cannot be turned by a quarter: choose views with square crops"
        )
    y = x.clone()
    for quarter in (1, 2, 3):
        rows = quarters_B == quarter
        y[rows] = x[rows].rot90(quarter, (-2, -1))
    return y


def tiles(x: Shaped[Tensor, "B *depth H W"], count: int) -> Shaped[Tensor, "B {count*count} *depth h w"]:
    """The count x count tiles of each image, row by row; pixels left over at the right and below are cut off.

    Raises ValueError for images of fewer pixels than tiles.

    >>> tiles(torch.arange(16).view(1, 4, 4), 2)[0, 1]
    tensor([[2, 3],
            [6, 7]])
    """
    height, width = x.shape[-2] // count, x.shape[-1] // count
    if not height or not width:
        raise ValueError(f"images of {tuple(x.shape[-2:])} pixels have no {count} x {count} tiles: choose larger views")
    cut = x[..., : count * height, : count * width].unflatten(-2, (count, height)).unflatten(-1, (count, width))
    return cut.movedim((-4, -2), (1, 2)).flatten(1, 2)
