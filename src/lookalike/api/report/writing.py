"""report: one HTML file about a run, written once, or again and again while it trains."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from lookalike.api.folder import RunFolder
from lookalike.api.report.album import Album, album
from lookalike.api.report.collect import told
from lookalike.api.report.page import page
from lookalike.training.checkpoint import write_atomic
from lookalike.training.progress import Line

MOST = 20_000  # images on the map
SECONDS = 5.0  # between two looks at a run that trains


@dataclass(frozen=True)
class Reported:
    """The file, its bytes, the images on its map (0: there is none), and those that could not be read."""

    path: Path
    size: int
    images: int
    skipped: int


def report(
    run: str | PathLike[str],
    *,
    data: Any = None,
    out: str | PathLike[str] | None = None,
    watch: bool = False,
    images: int = MOST,
    device: str = "auto",
    quiet: bool = True,
) -> Reported:
    """Writes RUN/report.html, or `out`: verdict, scores, curves, map, neighbors, views, recipe, machine.

    The page needs no network and no server. data: images to show (default: the training images, if they still lie
    where the manifest says); `images` of them at the most, chosen by the run's seed. The same run gives the same bytes.
    watch: the file is written anew whenever metrics.jsonl grows, without map and neighbors, until the run has finished;
    the page then loads itself anew. Ctrl-C ends that with a page that stands still. Raises ValueError in one sentence
    where the folder is no run, `data` holds no images, or the file cannot be written; that is looked at first.
    """
    folder = RunFolder(Path(run))
    folder.recipe()
    place = folder.path / "report.html" if out is None else Path(out)
    demand_writable(place)
    if images < 2:
        raise ValueError(f"a map of {images} images is none: ask for 2 or more")
    with Line(quiet=quiet) as line:
        if watch:
            until_finished(folder, _live(folder, place, data, line), say=line.say)
        now = told(folder, checked=True)
        pictures = album(now, data, most=images, device=device, line=line)
        written = page(now, pictures, live=False)
        write_atomic(place, written)
    found = pictures.world.found if pictures.world else None
    return Reported(place, len(written), len(found.names) if found else 0, found.skipped if found else 0)


def _live(folder: RunFolder, place: Path, data: Any, line: Line) -> Callable[[bool], None]:
    """Writes the page of a run that trains; its views are drawn once, its length is learned once."""
    pictures: Album | None = None
    steps: int | None = None

    def write(live: bool) -> None:
        nonlocal pictures, steps
        now = told(folder, checked=False, steps=steps)
        steps = now.steps
        if pictures is None:
            pictures = album(now, data, most=MOST, device="cpu", line=line)
        write_atomic(place, page(now, pictures, live=live))

    return write


def until_finished(
    folder: RunFolder, write: Callable[[bool], None], *, say: Callable[[str], None], seconds: float = SECONDS
) -> None:
    """Calls `write` whenever there are new metrics, until the run has finished; Ctrl-C writes a last time."""
    try:
        for first in growths(folder, seconds):
            write(True)
            if first:
                say("watching; open the report in a browser, it keeps itself up to date. Ctrl-C ends the watch")
    except KeyboardInterrupt:
        write(False)
        raise


def growths(folder: RunFolder, seconds: float) -> Iterator[bool]:
    """Once at the start and then whenever metrics.jsonl has grown, until the run has finished: is it the first time?"""
    seen: int | None = None
    while not folder.finished():
        size = folder.metrics.stat().st_size if folder.metrics.exists() else 0
        if size != seen:
            yield seen is None
            seen = size
        time.sleep(seconds)


def demand_writable(place: Path) -> None:
    """Before anything takes time. Raises ValueError where `place` is a folder, or cannot be written."""
    if place.is_dir():
        raise ValueError(f"--out {place} is a folder: name the file that is wanted, as {place / 'report.html'}")
    if not place.parent.is_dir():
        raise ValueError(f"the folder {place.parent} does not exist: make it, or choose another --out")
    if not os.access(place.parent, os.W_OK):
        raise ValueError(f"{place.parent} cannot be written to: choose another place with --out FILE")
