"""demo: the whole story on the digits that come with scikit-learn: images, training, scores, a picture. No network."""

import time
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from lookalike.api.evaluate import Report, evaluate
from lookalike.api.folder import RunFolder
from lookalike.api.picture import Rows, draw
from lookalike.api.prepared import Prepared
from lookalike.api.pretrain import pretrain, resume
from lookalike.api.run import Run
from lookalike.data import labelled
from lookalike.data.images import evenly
from lookalike.evaluation import extract, nearest, random_weights
from lookalike.recipes import view_size
from lookalike.training.progress import Line

RECIPE = "demo"
SIDE = 32  # pixels of a written digit; scikit-learn has 8
FIFTH = 5  # every fifth digit of a class is a test image
QUERIES, NEIGHBORS = 8, 6


@dataclass(frozen=True)
class Story:
    """What the demo leaves: the run, its scores beside the references, the picture, the seconds that it took.

    Of the `shown` neighbors on each side of the picture, `before` and `after` are of their query's class.
    """

    run: Run
    images: Path
    report: Report
    picture: Path
    shown: int
    before: int
    after: int
    seconds: float


def demo(out: str | PathLike[str] = "lookalike-demo", *, quiet: bool = True) -> Story:
    """Writes out/digits, trains without labels to out/run, scores it, and draws out/neighbors.png.

    A demo that was stopped goes on; one that has finished is scored again. Raises ValueError where scikit-learn or
    matplotlib is missing.
    """
    start, folder = time.monotonic(), Path(out)
    demand_extras()
    images = write_digits(folder / "digits")
    if RunFolder(folder / "run").begun():
        run = resume(folder / "run", quiet=quiet)
    else:
        run = pretrain(images / "train", recipe=RECIPE, out=folder / "run", quiet=quiet)
    report = evaluate(run.path, images, quiet=quiet)
    encoder = run.encoder
    before, after = (neighbors(model, images, run) for model in (random_weights(encoder, run.recipe.seed), encoder))
    picture = folder / "neighbors.png"
    draw(picture, before, after)
    return Story(
        run=run,
        images=images,
        report=report,
        picture=picture,
        shown=after.same.numel(),
        before=int(before.same.sum()),
        after=int(after.same.sum()),
        seconds=time.monotonic() - start,
    )


def demand_extras() -> None:
    """Before anything takes time. Raises ValueError with the command that installs what is missing."""
    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ValueError(f"the demo needs {error.name}: pip install 'lookalike[demo]'") from error


def write_digits(folder: Path) -> Path:
    """folder/train/<digit>/ and folder/test/<digit>/: 1,797 scanned digits, every fifth of a class to test.

    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998; the
    copy in scikit-learn. 8 x 8 pixels of 17 grays, enlarged by bicubic interpolation.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    seen = [0] * 10
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target.tolist(), strict=True)):
        half = "test" if seen[digit] % FIFTH == 0 else "train"
        seen[digit] += 1
        path = folder / half / str(digit) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        gray = Image.fromarray(np.uint8(np.round(pixels * (255 / 16))))
        gray.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
    return folder


def neighbors(model: nn.Module, images: Path, run: Run) -> Rows:
    """The nearest training digits of test digits that lie evenly over the classes, by a model's features."""
    halves, size = labelled(images, channels=run.recipe.data.channels), view_size(run.recipe)
    with Line(quiet=True) as line:
        train, test = (extract(model, Prepared(half, line, 0.0).batches(size)) for half in (halves.train, halves.test))
    chosen = torch.tensor(evenly(len(halves.test), QUERIES))
    rows = nearest(test.rows[chosen], train.rows, NEIGHBORS, exclude_self=False).rows
    assert halves.train.labels is not None
    assert halves.test.labels is not None
    return Rows(
        queries=torch.stack([halves.test.read(index) for index in chosen.tolist()]),
        neighbors=torch.stack([torch.stack([halves.train.read(i) for i in row]) for row in rows.tolist()]),
        same=halves.train.labels[rows] == halves.test.labels[chosen][:, None],
    )
