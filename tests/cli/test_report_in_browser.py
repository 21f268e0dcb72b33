"""The report in a browser: nothing fails, nothing is asked of the network, the map moves, phones need no scroll."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lookalike.api import report
from lookalike.api.folder import RunFolder
from lookalike.api.report.album import Album
from lookalike.api.report.collect import told
from lookalike.api.report.page import page

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CALM = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, found on PATH or named by LOOKALIKE_BROWSER; the tests are skipped where it is absent."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    found = os.environ.get("LOOKALIKE_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("needs Chromium on PATH, or LOOKALIKE_BROWSER")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found, args=list(CALM))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def file(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the finished run. Not to be changed."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    report(finished, out=out)
    return out


@pytest.fixture
def visit(browser: Any) -> Iterator[Open]:
    """Opens a file at a width; at the end nothing has failed, and nothing was asked for but that file."""
    said: list[str] = []
    asked: list[str] = []
    contexts = []

    def opened(file: Path, width: int = 1280, scheme: str = "light", motion: str = "reduce") -> Any:
        size = {"width": width, "height": 900}
        contexts.append(browser.new_context(viewport=size, color_scheme=scheme, reduced_motion=motion))
        shown = contexts[-1].new_page()
        shown.on("console", lambda message: said.append(message.text))
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(file.as_uri())
        return shown

    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:") and not url.endswith(".html")] == []


def canvas(shown: Any) -> str:
    """The map as it is drawn, after two frames."""
    return shown.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => "
        "done(document.querySelector('.sky').toDataURL()))))"
    )


def to_map(shown: Any) -> tuple[float, float]:
    """Scrolls to the map; its middle on the screen."""
    shown.locator(".map").scroll_into_view_if_needed()
    shown.wait_for_timeout(400)  # a wheel that comes sooner belongs to the scrolling
    box = shown.locator(".map").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_the_map_pans_and_zooms(file, visit) -> None:
    shown = visit(file)
    x, y = to_map(shown)
    start = canvas(shown)
    shown.mouse.move(x, y)
    shown.mouse.wheel(0, -400)
    zoomed = canvas(shown)
    shown.mouse.down()
    shown.mouse.move(x + 90, y + 40, steps=3)
    shown.mouse.up()
    panned = canvas(shown)
    shown.mouse.move(0, 0)
    shown.get_by_label("Show the whole map").click()
    shown.mouse.move(0, 0)
    assert len({start, zoomed, panned}) == 3
    assert canvas(shown) == start


def test_pointing_at_an_image_tells_its_name(file, visit, photos) -> None:
    shown = visit(file)
    x, y = to_map(shown)
    names = {path.name for path in photos.iterdir()}
    seen = set()
    for across in range(-200, 201, 40):
        shown.mouse.move(x + across, y)
        seen.add(shown.locator(".tip").inner_text().strip() if shown.locator(".tip").is_visible() else "")
    assert len(seen & names) > 1
    assert seen <= names | {""}


def test_the_map_is_worked_by_keys(file, visit, photos) -> None:
    shown = visit(file)
    shown.locator(".legend, .choice").first.scroll_into_view_if_needed()
    shown.locator(".choice button").last.focus()
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.className") == "sky"
    assert shown.locator(".tip").inner_text().strip() in {path.name for path in photos.iterdir()}
    pictures = [canvas(shown)]
    for key in ("+", "ArrowRight", "ArrowDown", "-", "Home"):
        shown.keyboard.press(key)
        pictures.append(canvas(shown))
    assert len(set(pictures[:-1])) == len(pictures) - 1
    assert shown.locator("[aria-live]").inner_text() in {path.name for path in photos.iterdir()}


def test_two_fingers_zoom(file, visit) -> None:
    shown = visit(file, width=400)
    to_map(shown)
    start = canvas(shown)
    shown.evaluate(
        """() => {
          const map = document.querySelector(".sky"), box = map.getBoundingClientRect();
          map.setPointerCapture = () => {};
          const send = (kind, id, x) => map.dispatchEvent(new PointerEvent(kind, {
            pointerId: id, clientX: box.left + x, clientY: box.top + 100, bubbles: true }));
          send("pointerdown", 1, 100); send("pointerdown", 2, 140);
          send("pointermove", 2, 240);
          send("pointerup", 1, 100); send("pointerup", 2, 240);
        }"""
    )
    assert canvas(shown) != start
    assert shown.evaluate("[...document.querySelectorAll('.sky')].length") == 1


def test_the_layouts_differ(file, visit) -> None:
    shown = visit(file)
    to_map(shown)
    first = canvas(shown)
    shown.get_by_role("button", name="PCA").click()
    assert canvas(shown) != first
    assert shown.get_by_role("button", name="PCA").get_attribute("aria-pressed") == "true"
    assert "largest variance" in shown.locator(".map-note").inner_text()


def test_curves_tell_their_values(file, visit, finished) -> None:
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if not row.get("probe")]
    shown = visit(file)
    loss = shown.locator(".chart").first
    loss.scroll_into_view_if_needed()
    assert float(loss.locator("output").inner_text()) == pytest.approx(losses[-1], rel=1e-3)
    loss.locator(".plot").focus()
    shown.keyboard.press("Home")
    assert float(loss.locator("output").inner_text()) == pytest.approx(losses[0], rel=1e-3)
    shown.get_by_label("log scale").check()
    shown.get_by_label("smooth").check()
    assert loss.locator("path.line").count() >= 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_no_scrolling_sideways(file, visit, width, scheme) -> None:
    shown = visit(file, width, scheme, motion="no-preference")
    shown.wait_for_timeout(200)
    assert shown.evaluate("document.documentElement.scrollWidth") == width


def test_colors_follow_the_system_and_the_switch(file, visit) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    light, dark = (visit(file, scheme=scheme).evaluate(paper) for scheme in ("light", "dark"))
    assert light != dark
    shown = visit(file, scheme="light")
    shown.locator("#theme").click()
    assert shown.evaluate(paper) == light
    shown.locator("#theme").click()
    assert shown.evaluate(paper) == dark


def test_a_live_page_loads_itself_anew_where_it_was(finished, own_run, visit, tmp_path) -> None:
    file, nothing = tmp_path / "live.html", Album("", None, None, "later")
    file.write_bytes(page(told(RunFolder(finished), checked=False), nothing, live=True))
    shown = visit(file)
    shown.evaluate("scrollTo(0, 700)")
    shown.get_by_label("smooth").check()
    file.write_bytes(page(told(RunFolder(own_run), checked=False), nothing, live=False))
    with shown.expect_navigation(timeout=15_000):
        pass
    shown.wait_for_function("scrollY > 600")
    assert shown.evaluate("JSON.parse(document.getElementById('data').textContent).live") is False
