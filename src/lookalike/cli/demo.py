"""lookalike demo: the whole story on digits that come with a dependency."""

from typing import Annotated

import typer

Out = Annotated[str, typer.Option(metavar="DIR", help="Where digits, run and picture go")]


def demo(out: Out = "lookalike-demo") -> None:
    """Train on scanned digits, score, draw neighbors.

    1,797 images that come with scikit-learn, without their labels; no network. A minute and a half on two cores.
    Needs scikit-learn and matplotlib: pip install 'lookalike[demo]'
    """
    from lookalike.api import demo as tell
    from lookalike.cli.evaluate import show

    print("Training on scanned digits, without their labels; this takes a minute or two.", flush=True)
    story = tell(out, quiet=False)
    show(story.report)
    print(
        f"Of the {story.shown} nearest images in {story.picture}, {story.before} show the digit that was asked for "
        f"before training, and {story.after} after it."
    )
    print(f"{story.seconds:.0f} s in all")
    print(f"next: open {story.picture}")
    print(f"next: lookalike evaluate {story.run.path} --data {story.images}")
    print("next: lookalike pretrain FOLDER_OF_YOUR_IMAGES")
    print(story.report.best.line())
