"""The parts of the page that show images: the frame of the map, and the sheet of views."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from lookalike.api.report.album import QUALITY, Album, World
from lookalike.api.report.markup import Html, filled, joined
from lookalike.api.report.sections import crisp, part
from lookalike.api.tiles import data_uri, fitted, picture, webp
from lookalike.api.views_sheet import Row, Sheet
from lookalike.data.decode import shown

TILE = 96  # pixels of a view on the page
LONGEST = 80  # characters of a name on the map: 20,000 of them have to fit
COLORS = range(2, 13)  # numbers of folders that are told apart by color


def map_frame(album: Album) -> Html:
    """What the script of the map draws into."""
    if album.world is None:
        return part("map", "Map", "", filled('<p class="quiet">$why</p>', {"why": album.lacking}))
    world, text = (
        album.world,
        """<div class="map-tools">
<div class="choice" role="group" aria-label="Layout">$layouts</div>$legend</div>
<div class="map"><canvas class="sky" tabindex="0" role="application" aria-roledescription="map"
aria-label="$label"></canvas>
<div class="zoom"><button type="button" data-act="in" aria-label="Zoom in">+</button>
<button type="button" data-act="out" aria-label="Zoom out">−</button>
<button type="button" data-act="whole" aria-label="Show the whole map">⌂</button></div>
<div class="tip" hidden><canvas width="252" height="252"></canvas><div></div></div></div>
<p class="map-note"></p>""",
    )
    count = len(world.found.names)
    button = '<button type="button" aria-pressed="false">$name</button>'
    values = {
        "layouts": joined(filled(button, {"name": layout.name}) for layout in world.layouts),
        "legend": _legend(world),
        "label": f"Map of {count:,} images. Arrow keys move it, plus and minus zoom, 0 shows all of it; the name of "
        "the image in the middle is said.",
    }
    return part("map", "Map", f"{album.about} {_counts(world)}", filled(text, values))


def _counts(world: World) -> str:
    found = world.found
    shown_of = f"{len(found.names):,} of {found.images:,} images" if len(found.names) < found.images else "All images"
    skipped = f" {found.skipped:,} could not be read and were left out." if found.skipped else ""
    how = "Drag, pinch or turn the wheel; point at an image for its name."
    return f"{shown_of}, {world.atlas.side} px each.{skipped} {how}"


def folders(names: Sequence[str]) -> tuple[list[str], list[int]] | None:
    """First folders in order, and which of them each name lies in; None where color could not tell them apart."""
    first = [name.partition("/")[0] if "/" in name else "" for name in names]
    known = sorted(Counter(first))
    if "" in known or len(known) not in COLORS:
        return None
    place = {folder: number for number, folder in enumerate(known)}
    return known, [place[folder] for folder in first]


def _legend(world: World) -> Html:
    groups = folders(world.found.names)
    if groups is None:
        return Html()
    text = '<button type="button" data-group="$number" aria-pressed="false"><i></i>$name</button>'
    buttons = [filled(text, {"number": number, "name": name}) for number, name in enumerate(groups[0])]
    return filled(
        '<div class="legend" role="group" aria-label="Folders: show one alone">$buttons</div>',
        {"buttons": joined(buttons)},
    )


def map_data(world: World) -> dict[str, Any]:
    """What the script of the map reads."""
    groups = folders(world.found.names)
    return {
        "names": [_short(shown(name)) for name in world.found.names],
        "groups": None if groups is None else {"names": groups[0], "of": groups[1]},
        "side": world.atlas.side,
        "across": world.atlas.across,
        "pages": world.atlas.pages,
        "layouts": [{"name": one.name, "note": one.note, "xy": one.packed()} for one in world.layouts],
    }


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"


def views(album: Album) -> Html:
    """Rows of images and their views, as the first epochs draw them."""
    if album.sheet is None:
        return Html()
    about = "Each row: an image as decoded, then what the first epochs of training see of it. Still the same thing?"
    plan = [filled("<dt>$name</dt><dd>$words</dd>", {"name": n, "words": w}) for n, w in album.sheet.plan.items()]
    rows = joined(_views_row(row, album.sheet) for row in album.sheet.rows)
    body = filled(
        '<div class="panel sheet $crisp"><dl class="plan">$plan</dl><div class="views">$rows</div></div>',
        {"plan": joined(plan), "rows": rows, "crisp": crisp(album.sheet.side)},
    )
    return part("views", "Augmentations", about, body)


def _views_row(row: Row, sheet: Sheet) -> Html:
    tiles = [_view(row.decoded, row.name.rpartition("/")[2], row.name, "asked", TILE)]
    for name, draws in row.draws.items():
        for epoch, pixels in enumerate(draws, start=1):
            label = f"{name} of {row.name} in epoch {epoch}"
            tiles.append(_view(pixels, name, label, "", max(1, round(TILE * len(pixels[0]) / sheet.side))))
    return filled('<div class="row">$tiles</div>', {"tiles": joined(tiles)})


def _view(pixels: Any, caption: str, label: str, kind: str, side: int) -> Html:
    text = (
        '<figure class="$kind"><img src="$uri" alt="$label"><figcaption title="$label">$caption</figcaption></figure>'
    )
    uri = Html(data_uri(webp(picture(fitted(pixels, side)), QUALITY)))
    return filled(text, {"kind": kind, "uri": uri, "label": label, "caption": caption})
