"""The pictures of a report: what is drawn from images, as far as there are images and an encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lookalike.api.embed import Work
from lookalike.api.report.atlas import Atlas, atlas
from lookalike.api.report.collect import Told
from lookalike.api.report.encoded import BATCH, Encoded, encoded, images_of
from lookalike.api.report.kin import Group, kin, places
from lookalike.api.report.layout import Layout, layouts
from lookalike.api.tiles import data_uri, fitted, picture, webp
from lookalike.api.views_sheet import Sheet, sheet
from lookalike.data import Images, Skipped
from lookalike.recipes import view_size
from lookalike.training.progress import Line

SIDE, QUALITY = 112, 82  # pixels of an image on the neighbor sheet
ROWS = 5  # images on the sheet of views


@dataclass(frozen=True)
class World:
    """The map and the neighbors of one sample: pictures maps places in the sample to data URIs."""

    found: Encoded
    layouts: Sequence[Layout]
    atlas: Atlas
    groups: Sequence[Group]
    pictures: Mapping[int, str]


@dataclass(frozen=True)
class Album:
    """about: which images, or why there are none; lacking: why there is no map, "" where there is one."""

    about: str
    sheet: Sheet | None
    world: World | None
    lacking: str


def album(told: Told, data: Any, *, most: int, device: str, line: Line) -> Album:
    """All that can be drawn now. A map needs an encoder, hence a finished run.

    Raises ValueError where `data` is given and holds no images.
    """
    source, about = images_of(told, data, line)
    if source is None:
        return Album(about, None, None, about)
    try:
        drawn = sheet(source, told.recipe, ROWS)
    except ValueError as error:
        return Album(f"{about} {error}.", None, None, str(error))
    if not told.folder.finished():
        return Album(about, drawn, None, "Map and neighbors come when training has finished.")
    try:
        found = encoded(told, source, most, device, line)
    except ValueError as error:  # weights that were changed, features that are not finite
        return Album(about, drawn, None, f"There is no map: {error}.")
    if found is None or len(found.names) < 2:
        return Album(about, drawn, None, "A map needs two images that can be read.")
    return Album(about, drawn, _world(told, source, found, line), "")


def _world(told: Told, source: Images, found: Encoded, line: Line) -> World:
    groups = kin(found, told.recipe.seed)
    return World(
        found, layouts(found.rows, line), atlas(found.thumbs), groups, _pictures(told, source, found, places(groups))
    )


def _pictures(told: Told, source: Images, found: Encoded, wanted: Sequence[int]) -> dict[int, str]:
    """The images of the neighbor sheet, larger than on the map where they are."""
    size = view_size(told.recipe)
    views = {place: found.thumbs[place] for place in wanted}
    if found.thumbs.shape[-1] < min(size, SIDE):
        numbers = {int(found.index[place]): place for place in wanted}
        work = Work(told.folder.shown(), source, size, BATCH, len(numbers), found.rows.device)
        gone = list[Skipped]()  # since they were encoded: the small picture stays
        for index, pixels in work.batches(list(numbers), gone):
            views |= {numbers[int(i)]: fitted(view, SIDE) for i, view in zip(index, pixels, strict=True)}
    return {place: data_uri(webp(picture(view), QUALITY)) for place, view in views.items()}
