"""Items of foreign data sets as pixels."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from lookalike.data import Images, Unreadable, Wrapped, open_source

PIXELS = np.random.default_rng(1).integers(0, 256, (5, 7, 3)).astype(np.uint8)
PLANES = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)


class Items(Dataset):
    """A data set of the map style: items by number, or the errors among them raised."""

    def __init__(self, *items: object) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> object:
        if isinstance(self.items[index], Exception):
            raise self.items[index]
        return self.items[index]


@pytest.mark.parametrize(
    "item",
    [
        Image.fromarray(PIXELS),
        PIXELS,
        PIXELS[::-1][::-1],
        PIXELS.astype(np.uint16) * 257,
        (PIXELS.astype(np.uint16) * 257).astype(">u2"),
        (PIXELS / 255).astype(np.float64),
        PLANES,
        PLANES.float() / 255,
        (PLANES.double() / 255).requires_grad_(),
        (PLANES, 3),
        [Image.fromarray(PIXELS), {"label": 3}],
    ],
    ids=lambda item: type(item).__name__,
)
def test_every_kind_of_item_gives_the_same_pixels(item):
    source = open_source(Items(item))
    pixels = source.read(0)
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous() or pixels.permute(1, 2, 0).is_contiguous()
    assert (pixels == PLANES).all()
    assert source.size(0) == (5, 7)
    assert source.name(0) == "0"
    assert isinstance(source, Images)


@pytest.mark.parametrize(
    "item", [PIXELS[..., 0], PIXELS[..., :1], PLANES[0], PLANES[:1], Image.fromarray(PIXELS[..., 0])]
)
def test_gray_items(item):
    assert (Wrapped([item]).read(0) == PLANES[:1]).all()
    assert Wrapped([item]).read(0).shape == (3, 5, 7)
    assert (Wrapped([item], channels=1).read(0) == PLANES[:1]).all()


def test_color_items_as_luma():
    expected = torch.from_numpy(np.array(Image.fromarray(PIXELS).convert("L")))
    assert (Wrapped([PLANES], channels=1).read(0) == expected).all()


def test_pillow_items_are_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(PIXELS)
    image.info["exif"] = exif.tobytes()
    assert (Wrapped([image]).read(0).permute(1, 2, 0).numpy() == np.rot90(PIXELS, -1)).all()


def test_labels_are_left_aside():
    source = open_source(TensorDataset(PLANES[None].repeat(4, 1, 1, 1), torch.arange(4)))
    assert len(source) == 4
    assert source.labels is None
    assert (source.read(3) == PLANES).all()


@pytest.mark.parametrize(
    ("item", "found"),
    [
        ({"image": PLANES}, "item 0 of the data set is of type dict: give Pillow images"),
        (b"bytes", "is of type bytes"),
        ((), "is of type tuple"),
        (torch.zeros(4, 5, 5, dtype=torch.uint8), r"has the shape \(4, 5, 5\)"),
        (np.zeros((3, 5, 5), np.uint8), r"has the shape \(5, 3, 5\)"),
        (torch.zeros(3, 0, 5), r"has the shape \(3, 0, 5\)"),
        (torch.zeros(7), r"has the shape \(7,\)"),
        (PLANES.float(), "has values from 5 to 251"),
        (PLANES.float() / 255 - 0.5, r"has values from -0\.4804 to 0\.4843"),
        (torch.full((3, 2, 2), torch.nan), "has values from nan"),
        (PLANES.long(), "has values of type torch.int64"),
        (np.array([["a"]]), "has values of type <U1"),
    ],
)
def test_items_of_the_wrong_kind_are_a_mistake_found_at_once(item, found):
    with pytest.raises(ValueError, match=found) as caught:
        open_source(Items(item, PLANES))
    assert not isinstance(caught.value, Unreadable)


def test_an_item_that_the_data_set_fails_to_give_is_unreadable():
    source = Wrapped(Items(OSError("broken\nstream"), PLANES, KeyError("image"), Image.new("F", (2, 2))))
    assert (source.read(1) == PLANES).all()
    for index, reason in [(0, "OSError: broken stream"), (2, "KeyError: 'image'"), (3, "ValueError: pixels of type F")]:
        with pytest.raises(Unreadable, match=f"^{index} cannot be read: {reason}"):
            source.read(index)


def test_a_stream_is_no_data_set():
    class Stream(IterableDataset):
        def __iter__(self):
            yield PLANES

    with pytest.raises(ValueError, match="come from Stream, which has no length"):
        open_source(Stream())


def test_identity_follows_length_and_pixels():
    def identity(items: list[Tensor | Exception]) -> str:
        return Wrapped(Items(*items)).identity()

    many = [PLANES + i for i in range(100)]
    first = identity(many)
    assert identity([item.clone() for item in many]) == first
    assert identity([(item, 1) for item in many]) == first
    others = [many[:99], [PLANES + 1, *many[1:]], [OSError(), *many[1:]], [PLANES.flip(1), *many[1:]]]
    assert len({first, *map(identity, others)}) == 5
