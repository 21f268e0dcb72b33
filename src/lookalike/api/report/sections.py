"""The parts of the page that need no script: cards, charts' frames, neighbors, views, recipe, facts."""

from collections.abc import Mapping, Sequence
from typing import Any

from lookalike.api.report.album import Album, World
from lookalike.api.report.collect import Told
from lookalike.api.report.curves import GROUPS, Curve
from lookalike.api.report.kin import Query, Shown
from lookalike.api.report.marks import Mark
from lookalike.api.report.markup import Html, filled, joined
from lookalike.api.report.scores import TRAINED, Bar, Card
from lookalike.recipes import dump, method_name

NAMES = {"learning": "Learning", "health": "Health of the projections", "speed": "Speed", "method": "Of this method"}
PART = '<section class="part" id="$id" aria-labelledby="$id-title"><h2 id="$id-title">$title</h2>$about$body</section>'
SMALL = 64  # pixels of an image below which its pixels are shown as squares


def part(name: str, title: str, about: str, body: Html) -> Html:
    said = filled('<p class="about">$about</p>', {"about": about}) if about else Html()
    return filled(PART, {"id": name, "title": title, "about": said, "body": body})


def found(marks: Sequence[Mark]) -> Html:
    """The list of what is wrong, with the numbers that curves show."""
    item = '<li><span class="number" aria-hidden="true">$number</span><div><h3>$what</h3><p>$sentence</p></div></li>'
    rows = [
        filled(item, {"number": number, "what": mark.what, "sentence": mark.sentence})
        for number, mark in enumerate(marks, start=1)
    ]
    return filled('<ol class="found">$rows</ol>', {"rows": joined(rows)}) if rows else Html()


def chips(told: Told) -> Html:
    recipe = told.recipe
    values = {
        "method": method_name(recipe),
        "backbone": recipe.backbone.name,
        "batch": recipe.batch,
        "optimizer": recipe.optimizer.kind,
        "precision": recipe.runtime.precision,
        "seed": recipe.seed,
    }
    items = [filled("<li><b>$name</b>$value</li>", {"name": k, "value": v}) for k, v in values.items()]
    return filled('<ul class="chips">$items</ul>', {"items": joined(items)})


def cards(shown: Sequence[Card], command: str) -> Html:
    if not shown:
        text = "No scores yet. With labelled images: $command"
        return part("scores", "Scores", "", filled(f'<p class="quiet">{text}</p>', {"command": command}))
    about = "Every number carries its protocol. Compare only what was measured in the same way."
    return part(
        "scores", "Scores", about, filled('<div class="cards">$cards</div>', {"cards": joined(map(_card, shown))})
    )


def _card(card: Card) -> Html:
    own = card.bars[0]
    ends = "" if own.interval is None else "95 %: {:.1f} to {:.1f}".format(*(100 * end for end in own.interval))
    text = """<article class="card"><h3>$title</h3>
<p class="value">$value %<small>$ends</small></p><div class="bars">$bars</div>
<dl class="terms">$terms</dl>$note</article>"""
    term = "<div><dt>$name</dt><dd>$value</dd></div>"
    terms = [filled(term, {"name": name, "value": value}) for name, value in card.protocol]
    note = filled('<p class="note">$note</p>', {"note": card.note}) if card.note else Html()
    values = {"title": card.title, "value": f"{100 * own.value:.1f}", "ends": ends, "note": note}
    return filled(text, {**values, "bars": joined(map(_bar, card.bars)), "terms": joined(terms)})


def _bar(bar: Bar) -> Html:
    text = (
        '<span>$who</span><svg class="$kind" role="img" aria-label="$who: $value %"><rect width="100%"/>'
        '<rect class="share" width="$value%"/></svg><span>$value %</span>'
    )
    kind = "own" if bar.who == TRAINED else "reference"
    return filled(text, {"who": bar.who, "kind": kind, "value": f"{100 * bar.value:.1f}"})


def charts(curves: Sequence[Curve]) -> Html:
    """Frames that the script draws into; what a screen reader says of each stands here."""
    if not curves:
        body = Html('<p class="quiet">There are no curves yet: metrics.jsonl is missing or empty.</p>')
        return part("curves", "Curves", "", body)
    switches = Html(
        '<div class="switches"><label><input type="checkbox" id="log">log scale</label>'
        '<label><input type="checkbox" id="smooth">smooth</label></div>'
    )
    groups = [
        filled(
            '<h3 class="charts-title">$name</h3><div class="charts">$frames</div>',
            {
                "name": NAMES[group],
                "frames": joined(_frame(n, curve) for n, curve in enumerate(curves) if curve.group == group),
            },
        )
        for group in GROUPS
        if any(curve.group == group for curve in curves)
    ]
    about = "Point at a curve, or focus it and use the arrow keys: all curves show the same step."
    return part("curves", "Curves", about, joined([switches, *groups]))


def _frame(number: int, curve: Curve) -> Html:
    text = """<figure class="chart $wide" data-curve="$number"><figcaption><h3>$title</h3><output></output></figcaption>
<div class="plot" tabindex="0" role="img" aria-label="$label"></div><p class="note">$note</p></figure>"""
    finite = [value for value in curve.values if value is not None]
    thin = f" {len(curve.steps):,} of {curve.whole:,} points are shown." if len(curve.steps) < curve.whole else ""
    label = (
        f"{curve.title}: from {finite[0]:.4g} at step {curve.steps[0]} to {finite[-1]:.4g} at step {curve.steps[-1]}, "
        f"lowest {min(finite):.4g}, highest {max(finite):.4g}. Arrow keys tell single values."
    )
    wide = "wide" if curve.key == "loss" else ""
    values = {"wide": wide, "number": number, "title": curve.title, "label": label, "note": curve.note + thin}
    return filled(text, values)


def neighbors(album: Album) -> Html:
    title = "Nearest neighbors"
    if album.world is None:
        return Html()
    about = "An image, the six nearest others by cosine, the one in the middle of all, and the farthest."
    groups = [
        filled(
            '<div class="panel sheet $crisp"><header><h3>$title</h3><p>$note</p></header>$rows</div>',
            {
                "title": group.title,
                "note": group.note,
                "crisp": crisp(album.world.found.thumbs.shape[-1]),
                "rows": joined(_row(query, album.world) for query in group.queries),
            },
        )
        for group in album.world.groups
    ]
    return part("neighbors", title, about, joined(groups)) if groups else Html()


def crisp(side: int) -> str:
    return "pixels" if side < SMALL else ""


def _row(query: Query, world: World) -> Html:
    near = [_tile(one, "", world, "near") for one in query.nearest]
    others = [_tile(query.median, "middle", world, "far"), _tile(query.farthest, "farthest", world, "far")]
    name = world.found.names[query.place]
    asked = filled(
        '<figure class="asked"><img src="$uri" alt="$name" title="$name"><figcaption title="$name">$short</figcaption>'
        "</figure>",
        {"uri": Html(world.pictures[query.place]), "name": name, "short": name.rpartition("/")[2]},
    )
    return filled('<div class="row">$tiles</div>', {"tiles": joined([asked, *near, *others])})


def _tile(one: Shown, what: str, world: World, kind: str) -> Html:
    text = (
        '<figure class="$kind"><img src="$uri" alt="$name" title="$name"><figcaption><b>$similarity</b> $what'
        "</figcaption></figure>"
    )
    values = {"name": world.found.names[one.place], "what": what, "similarity": f"{one.similarity:.3f}", "kind": kind}
    return filled(text, {"uri": Html(world.pictures[one.place]), **values})


def recipe_and_facts(told: Told) -> Html:
    text = '<div class="panel"><h3>Resolved recipe</h3><pre tabindex="0">$recipe</pre></div>'
    recipe = filled(text, {"recipe": dump(told.recipe)})
    entry = "<dt>$name</dt><dd>$value</dd>"
    rows = [filled(entry, {"name": name, "value": value}) for name, value in facts(told.manifest).items()]
    table = filled('<div class="panel"><h3>Where it ran</h3><dl class="facts">$rows</dl></div>', {"rows": joined(rows)})
    return part(
        "recipe", "Recipe and machine", "", filled('<div class="two">$both</div>', {"both": joined([recipe, table])})
    )


def facts(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What the manifest tells, a line each; nested values are named by both names."""
    flat: dict[str, str] = {}
    for name, value in manifest.items():
        if isinstance(value, dict):
            flat |= {
                (inner if name == "versions" else f"{name}: {inner}"): str(v)
                for inner, v in value.items()
                if v is not None
            }
        elif name == "resumed" and isinstance(value, list):
            flat[name] = f"{len(value)} time{'s' * (len(value) != 1)}"
        elif value is not None:
            flat[{"identity": "data hash", "code": "code hash"}.get(name, name)] = (
                f"{value:,}" if isinstance(value, int) else str(value)
            )
    return flat or {"manifest": "missing or damaged"}
