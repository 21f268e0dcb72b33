"""The page put together: one file that holds all it needs, and forbids itself the network."""

import base64
import hashlib
import json
import shlex
from importlib import resources
from importlib.metadata import version
from typing import Any

from lookalike.api.report import drawings, sections
from lookalike.api.report.album import Album
from lookalike.api.report.collect import Told
from lookalike.api.report.curves import Curve, curves
from lookalike.api.report.marks import Mark, marks
from lookalike.api.report.markup import Html, filled, joined
from lookalike.api.report.scores import cards
from lookalike.api.report.verdict import verdict

ASSETS = resources.files("lookalike.api.report") / "assets"
LINKS = {
    "scores": "Scores",
    "curves": "Curves",
    "map": "Map",
    "neighbors": "Neighbors",
    "views": "Augmentations",
    "recipe": "Recipe",
}


def page(told: Told, album: Album, *, live: bool) -> bytes:
    """The report of a run at one moment; the same run and album give the same bytes. live: it loads itself anew."""
    found, drawn = marks(told.findings, told.rows), curves(told.rows)
    scored = cards(told.evaluations, told.rows, told.encoder)
    said = verdict(told, found, scored, live=live)
    parts = {
        "scores": sections.cards(scored, f"lookalike evaluate {shlex.quote(str(told.folder.path))} --data LABELLED"),
        "curves": sections.charts(drawn),
        "map": drawings.map_frame(album),
        "neighbors": sections.neighbors(album),
        "views": drawings.views(album),
        "recipe": sections.recipe_and_facts(told),
    }
    style, script = _asset("page.css"), joined(map(_asset, ("curves.js", "map.js", "page.js")))
    values = {
        "policy": policy(style, script),
        "name": told.name,
        "headline": f"{said.headline}.",
        "tone": said.tone,
        "style": style,
        "script": script,
        "links": joined(_link(name) for name, body in parts.items() if body),
        "sentences": joined(filled('<p class="lead">$text</p>', {"text": text}) for text in said.sentences),
        "chips": sections.chips(told),
        "found": sections.found(found),
        "next": told.next,
        "sections": joined(parts.values()),
        "version": version("lookalike"),
        "data": quoted(_data(told, album, drawn, found, live)),
    }
    return filled(_asset("page.html"), values).encode()


def policy(style: str, script: str) -> str:
    """Nothing may be fetched; only this style and this script count, so that no name of a file can act."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def quoted(data: Any) -> Html:
    """JSON that can stand in a script element: no <, > or & is left in it."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return Html(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _link(name: str) -> Html:
    return filled('<a href="#$name">$title</a>', {"name": name, "title": LINKS[name]})


def _asset(name: str) -> Html:
    return Html((ASSETS / name).read_text(encoding="utf-8"))


def _data(told: Told, album: Album, drawn: list[Curve], found: list[Mark], live: bool) -> dict[str, Any]:
    """What the scripts read."""
    epochs = [(row["epoch"], row["step"]) for row in told.rows if isinstance(row.get("epoch"), int | float)]
    return {
        "name": told.name,
        "live": live,
        "step": told.step,
        "epochs_per_step": epochs[-1][0] / epochs[-1][1] if epochs and epochs[-1][1] else 0,
        "curves": [curve.as_dict() for curve in drawn],
        "marks": [mark.as_dict() for mark in found],
        "map": None if album.world is None else drawings.map_data(album.world),
    }
