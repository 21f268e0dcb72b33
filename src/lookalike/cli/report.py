"""lookalike report: one HTML file about a run, to be opened without Python or network."""

from typing import Annotated

import typer

RunPath = Annotated[str, typer.Argument(metavar="RUN", help="The folder that pretrain made")]
Data = Annotated[str | None, typer.Option(metavar="DATA", help="Images to show; default: those of the training")]
Out = Annotated[str | None, typer.Option(metavar="FILE", help="Default: RUN/report.html")]
Watch = Annotated[bool, typer.Option("--watch", help="Write it anew while the run trains, until it has finished")]
Count = Annotated[int, typer.Option(metavar="N", help="Images on the map at the most")]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda")]


def report(
    run: RunPath,
    data: Data = None,
    out: Out = None,
    watch: Watch = False,
    images: Count = 20_000,
    device: Device = "auto",
) -> None:
    """Write one HTML file about a run.

    Verdict, scores, curves, map, nearest neighbors, augmentations, recipe and machine. It needs no network. Without
    scikit-learn (pip install 'lookalike[demo]') the map has principal components alone.
    """
    from lookalike.api import report as write

    done = write(run, data=data, out=out, watch=watch, images=images, device=device, quiet=False)
    shown = f", {done.images:,} images on its map" if done.images else ""
    skipped = f", {done.skipped:,} could not be read" if done.skipped else ""
    print(f"wrote {done.path}: {done.size / 1e6:.1f} MB{shown}{skipped}")
    print(f"next: open {done.path}")
