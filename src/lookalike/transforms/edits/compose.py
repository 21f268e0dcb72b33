"""All families of edits by name, those that training never sees, and pictures edited by one to four of them.

A picture's edits are a pure function of COLUMNS uniform numbers; its pixels of the picture, the edits and the other
pictures that they name. Families, strengths and what is left out: docs/edits.md.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from PIL import Image

from lookalike.transforms.edits.color import COLOR
from lookalike.transforms.edits.family import NUMBERS, STRENGTHS, Edit, Family
from lookalike.transforms.edits.ink import INK
from lookalike.transforms.edits.quality import QUALITY
from lookalike.transforms.edits.scene import SCENE, stand_in
from lookalike.transforms.edits.shape import SHAPE

FAMILIES: Mapping[str, Family] = {family.name: family for family in (*SHAPE, *COLOR, *QUALITY, *INK, *SCENE)}
# kept out of training, so that a benchmark shows how an encoder fares with edits it has never seen
HELD_OUT = ("perspective", "shuffle", "invert", "posterize", "screenshot", "blend")
TRAINED = tuple(name for name in FAMILIES if name not in HELD_OUT)
MOST = 4  # edits of one picture
OTHERS = max(family.others for family in FAMILIES.values())
SLOT = 2 + NUMBERS + OTHERS  # numbers of one edit: which family, how strong, its settings, its other pictures
COLUMNS = 1 + MOST * SLOT

Other: TypeAlias = Callable[[float], Image.Image | None]  # another picture for a number in [0, 1), if there is one


def drawn(name: str, strength: int, numbers: Sequence[float]) -> Edit:
    """An edit of the family at the strength, from NUMBERS + OTHERS uniform numbers.

    Raises ValueError for a family or strength that does not exist.
    """
    if name not in FAMILIES or strength not in STRENGTHS:
        raise ValueError(
            f"there is no edit {name!r} of strength {strength}: strengths are 1 to 5, families {', '.join(FAMILIES)}"
        )
    family = FAMILIES[name]
    others = tuple(numbers[NUMBERS : NUMBERS + family.others])
    return Edit(name, strength, family.draw(strength, numbers), others)


def composed(
    numbers: Sequence[float], families: Sequence[str] = TRAINED, fewest: int = 1, most: int = MOST, strongest: int = 5
) -> list[Edit]:
    """`fewest` to `most` edits of different families, in the order in which they happen, from COLUMNS uniform numbers.

    Numbers of edits, families and strengths up to `strongest` are as likely as one another.
    """
    left, edits = list(families), []
    for slot in range(fewest + int(numbers[0] * (most - fewest + 1))):
        which, how_strong, *rest = numbers[1 + slot * SLOT : 1 + (slot + 1) * SLOT]
        edits.append(drawn(left.pop(int(which * len(left))), 1 + int(how_strong * strongest), rest))
    return edits


def edited(image: Image.Image, edits: Sequence[Edit], other: Other = lambda share: None) -> Image.Image:
    """The RGB picture after its edits, of whatever size they make it."""
    for edit in edits:
        family = FAMILIES[edit.family]
        if family.others:
            others = [other(share) or stand_in(share, image.size) for share in edit.others]
            image = family.change(image, others, **edit.settings)
        else:
            image = family.change(image, **edit.settings)
    return image
