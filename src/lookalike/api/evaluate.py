"""evaluate: honest scores of a trained encoder on labelled images, beside raw pixels and random weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from lookalike.api.folder import RunFolder
from lookalike.data import Files, Labelled, Skips, cached, labelled, read_or_next
from lookalike.evaluation import (
    PROTOCOLS,
    KnnResult,
    Protocol,
    RawPixels,
    Score,
    extract,
    fingerprint,
    nearest,
    random_weights,
    vote,
)
from lookalike.recipes import Recipe, view_size
from lookalike.training.processes import pick
from lookalike.training.progress import Line, steps_of
from lookalike.transforms import Views, eval_chain

KNOWN = ("knn",)
CHUNK = 256


@dataclass(frozen=True)
class Report:
    """Scores by what was scored: "trained", "random weights", "raw pixels"; each carries its protocol."""

    scores: dict[str, list[Score]]

    @property
    def best(self) -> Score:
        """The trained encoder's score under the first protocol."""
        return self.scores["trained"][0]

    def lines(self) -> list[str]:
        """One line per score, the trained encoder's last."""
        order = sorted(self.scores, key=lambda name: name == "trained")
        return [f"{name + ':':15} {score.line()}" for name in order for score in self.scores[name]]

    def as_dict(self) -> dict[str, list[dict]]:
        return {name: [score.as_dict() for score in scores] for name, scores in self.scores.items()}


def evaluate(
    run: str | PathLike[str],
    data: str | PathLike[str],
    *,
    protocols: str | Sequence[str] = ("knn",),
    references: bool = True,
    device: str = "auto",
    max_bad: float = 0.001,
    quiet: bool = True,
) -> Report:
    """Scores the run's encoder on `data`: train/<class>/ and test/<class>/, or one folder of classes.

    knn: cosine k-NN of backbone features of the central view, (k, T) of the field: (200, 0.1) and (20, 0.07).
    The test images choose nothing; the backbone's fingerprint is equal before and after; an unreadable image is
    counted, and no readable one is dropped. Raises ValueError in one sentence for an unknown protocol, labels that are
    missing, or a folder that is no finished run.
    """
    _demand_known(protocols.split(",") if isinstance(protocols, str) else protocols)
    folder = RunFolder(Path(run))
    encoder, recipe = folder.encoder(), folder.recipe()
    halves = labelled(data, channels=recipe.data.channels)
    place, size = pick(device), view_size(recipe)
    models: dict[str, nn.Module] = {"trained": encoder}
    if references:
        models |= {"random weights": random_weights(encoder, recipe.seed), "raw pixels": RawPixels()}
    with Line(quiet=quiet) as line:
        _tell(halves, line)
        sets = [Prepared(source, size, line, max_bad) for source in (halves.train, halves.test)]
        scores = {}
        for name, model in models.items():
            before = fingerprint(model)
            scores[name] = knn_scores(model.to(place), name, sets, halves, place, line, recipe)
            if fingerprint(model) != before:
                raise RuntimeError(f"evaluation changed {name}: this is a defect of lookalike, please report it")
        for part in sets:
            part.tell()
    return Report(scores)


def _tell(halves: Labelled, line: Line) -> None:
    """Says which images are test images, where the folder does not."""
    if halves.by_name:
        text = f"{len(halves.test):,} of {len(halves.test) + len(halves.train):,} images are for the test"
        line.say(f"no train/ and test/ here: {text}, chosen by the hash of their names")


def _demand_known(protocols: Sequence[str]) -> None:
    unknown = [name for name in protocols if name not in KNOWN]
    if unknown or not protocols:
        raise ValueError(
            f"there is no protocol {', '.join(map(repr, unknown)) or 'given'}: known are {', '.join(KNOWN)}"
        )


class Prepared:
    """The central view of each readable image of a source, in order; labels belong to the images that are kept."""

    def __init__(self, source: Files, size: int, line: Line, max_bad: float) -> None:
        with line.track(f"Decoding {len(source):,} images", len(source)) as advance:
            self.source = cached(source, on_progress=steps_of(advance))
        self.views, self.line = Views({"center": eval_chain(size)}), line
        self.skips = Skips(None, len(source), allowed=max_bad)
        self.size = size

    def tell(self) -> None:
        """Says which images were left out."""
        if self.skips.met:
            names = ", ".join(one.name for one in list(self.skips.met.values())[:5])
            self.line.say(f"unreadable images, left out: {len(self.skips.met):,} of {self.skips.size:,}, first {names}")

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.arange(len(self.source)).split(CHUNK):
            images, found, skipped = read_or_next(self.source, torch.arange(len(self.source)), index, stride=CHUNK)
            self.skips.add(skipped)
            kept = found == index
            if kept.any():
                images = [image for image, keep in zip(images, kept, strict=True) if keep]
                parameters = self.views.draw(index[kept], seed=0, epoch=(0, 0))
                yield index[kept], self.views.render(images, parameters)["center"]


def knn_scores(
    model: nn.Module,
    name: str,
    sets: Sequence[Prepared],
    halves: Labelled,
    place: torch.device,
    line: Line,
    recipe: Recipe,
) -> list[Score]:
    """Both k-NN protocols from one search."""
    features = []
    for part, what in zip(sets, ("train", "test"), strict=True):
        with line.track(f"{name}: {what} features", len(part.source)) as advance:
            features.append(extract(model, part.batches(), device=place, on_progress=steps_of(advance)))
    train, test = features
    found = nearest(test.rows, train.rows, max(k for k, _ in PROTOCOLS), exclude_self=False)
    assert halves.train.labels is not None
    assert halves.test.labels is not None
    labels = halves.train.labels[train.index], halves.test.labels[test.index]
    results = [vote(found, *labels, k=k, temperature=t, classes=len(halves.classes)) for k, t in PROTOCOLS]
    for result in results:
        if result.note and name == "trained":
            line.say(result.note)
    return [card(result, model, name, sets[0].size, recipe) for result in results]


def card(result: KnnResult, model: nn.Module, name: str, size: int, recipe: Recipe) -> Score:
    """The result with its protocol and what was scored."""
    learned, pixels = name == "trained", name == "raw pixels"
    return Score(
        value=result.accuracy,
        protocol=Protocol(
            probe="knn",
            n_train=result.n_train,
            n_test=result.n_test,
            features="pixels" if pixels else "backbone",
            crop=f"center {size} px",
            settings={"k": result.k, "temperature": result.temperature},
        ),
        interval=result.interval,
        seed=None if pixels else recipe.seed,
        epochs=recipe.epochs if learned else None,
        backbone="" if pixels else fingerprint(model),
    )
