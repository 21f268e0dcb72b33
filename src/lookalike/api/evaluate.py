"""evaluate: honest scores of a trained encoder on labelled images, beside references, and whether it was worth it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from lookalike.api.by_masks import MASKS, ByMasks, by_masks
from lookalike.api.copies import COPIES, Copies, copies
from lookalike.api.copy_benchmark import build_copy_benchmark
from lookalike.api.folder import RunFolder
from lookalike.api.frozen import demand_frozen
from lookalike.api.judged import Part
from lookalike.api.leaks import cautioned, leaks
from lookalike.api.models import Scored, models
from lookalike.api.prepared import Prepared
from lookalike.api.protocols import FOR_WEIGHTS, PROBES, Exam
from lookalike.api.sides import entries, models_of_copies
from lookalike.data import CopyFolder, Labelled, copy_folder, holds_copies, labelled
from lookalike.evaluation import EditRow, Score, Worth, fingerprint, worth
from lookalike.training.processes import pick
from lookalike.training.progress import Line


@dataclass(frozen=True)
class Report:
    """Scores by what was scored: "trained", "random weights", "raw pixels" ...; each carries its protocol.

    worth: the trained encoder beside the best reference, protocol by protocol; hours: what its training took, None
    where the run does not say; edits: of copy detection, the trained encoder's copies edit by edit; parts: its classes
    or clips where masks were given.
    """

    scores: dict[str, list[Score]]
    worth: list[Worth] = field(default_factory=list)
    hours: float | None = None
    edits: list[EditRow] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    @property
    def best(self) -> Score:
        """The trained encoder's score under the first protocol."""
        return self.scores["trained"][0]

    def lines(self) -> list[str]:
        """One line per score, the trained encoder's last."""
        order = sorted(self.scores, key=lambda name: name == "trained")
        return [f"{name + ':':15} {score.line()}" for name in order for score in self.scores[name]]

    def verdicts(self) -> list[str]:
        """Whether it was worth it, a sentence for each protocol, and what it cost; nothing without references."""
        if not self.worth:
            return []
        cost = "" if self.hours is None else f"it cost {self.hours:.2g} hours of training"
        return [one.line() for one in self.worth] + [cost] * bool(cost)

    def as_dict(self) -> dict[str, list[dict[str, Any]]]:
        return {name: [score.as_dict() for score in scores] for name, scores in self.scores.items()}


def evaluate(
    run: str | PathLike[str],
    data: str | PathLike[str],
    *,
    protocols: str | Sequence[str] = ("knn",),
    references: bool = True,
    others: Sequence[str] = (),
    role: str = "encoder",
    out: str | PathLike[str] | None = None,
    device: str = "auto",
    max_bad: float = 0.001,
    quiet: bool = True,
) -> Report:
    """Scores the run's encoder on `data`: train/<class>/ and test/<class>/, or one folder of classes.

    protocols: of knn, linear, few, retrieval, finetune and linear_sgd, as docs/evaluation.md describes them. All read
    the same features of the central view, extracted once for each model; the last two draw views of their own. Alone:
    copy (photos, of which a benchmark of edited copies is built in the folder `out`, RUN/copy-benchmark if not given,
    or a folder that holds one), disc21 (a folder that holds one), segments and propagation (images, clips with masks).
    references: raw pixels and random weights are scored too; others: more references, each timm:NAME (which timm
    downloads), FILE.safetensors or a run folder; of copies also FILE.hdf5. role: which network, if it has several.
    The test images choose nothing; the backbone's fingerprint is equal before and after; unreadable images are counted.
    Raises ValueError for an unknown protocol or reference, missing labels or masks, and what is no finished run.
    """
    names, folder = _known(protocols.split(",") if isinstance(protocols, str) else protocols), RunFolder(Path(run))
    _demand_possible(names[0], role, others, out)
    if names[0] in COPIES:
        sides = models_of_copies(folder, references=references, others=others)
        with Line(quiet=quiet) as line:
            benchmark, seen = _benchmark(folder, others, data, names[0], out, line)
            given = entries(others, benchmark)
            found = copies(benchmark, sides, given, protocol=names[0], device=pick(device), max_bad=max_bad, line=line)
        return _of_copies(found, seen, folder)
    scored, place = models(folder, references=references, others=others, role=role), pick(device)
    with Line(quiet=quiet) as line:
        if names[0] in MASKS:
            return _of_masks(by_masks(data, scored, names[0], device=place, max_bad=max_bad, line=line), folder)
        halves = _told(labelled(data, channels=folder.recipe().data.channels), line)
        scores = _of_labels(scored, names, halves, place, max_bad, line)
    return Report(scores, worth=_worth(scores), hours=folder.hours())


def _demand_possible(protocol: str, role: str, others: Sequence[str], out: str | PathLike[str] | None) -> None:
    if twice := sorted({name for name in others if others.count(name) > 1}):
        raise ValueError(f"the reference {twice[0]} is given twice: name it once")
    if protocol in COPIES and role != "encoder":
        raise ValueError(f"{protocol} compares all networks of a run, each in its role: leave --role out")
    if protocol not in COPIES and out is not None:
        raise ValueError(f"--out is where copy builds its benchmark, and {protocol} builds none: leave it out")


def _benchmark(
    folder: RunFolder,
    others: Sequence[str],
    data: str | PathLike[str],
    protocol: str,
    out: str | PathLike[str] | None,
    line: Line,
) -> tuple[CopyFolder, list[str]]:
    """The benchmark that `data` holds; under copy, one of its photos otherwise, built once. And who has seen it."""
    photos = data
    if protocol == "copy" and not holds_copies(data):
        data = build_copy_benchmark(data, out or folder.path / "copy-benchmark", line=line)
    elif out is not None:
        raise ValueError(f"--out is where a benchmark is built, and {data} is to hold one already: leave it out")
    else:
        demand_frozen(Path(data), line)
    benchmark = copy_folder(data, channels=folder.recipe().data.channels)
    runs = {"trained": folder} | {name: RunFolder.at(name) for name in others}
    return benchmark, leaks(runs, photos, benchmark, line)


def _of_copies(found: Copies, seen: Sequence[str], folder: RunFolder) -> Report:
    """The scores of runs that have seen the photos in training say so."""
    scores = {name: cautioned(of) if name in seen else of for name, of in found.scores.items()}
    return Report(scores, worth=found.worth, hours=folder.hours(), edits=found.edits)


def _of_masks(found: ByMasks, folder: RunFolder) -> Report:
    return Report(found.scores, worth=found.worth, hours=folder.hours(), parts=found.parts)


def _of_labels(
    scored: Sequence[Scored],
    names: Sequence[str],
    halves: Labelled,
    place: torch.device,
    max_bad: float,
    line: Line,
) -> dict[str, list[Score]]:
    """The scores of all models on images that are decoded once."""
    sets = [Prepared(source, line, max_bad) for source in (halves.train, halves.test)]
    scores = {model.name: _examined(model, names, sets, halves, place, line) for model in scored}
    for part in sets:
        part.tell()
    return scores


def _examined(
    model: Scored, names: Sequence[str], sets: Sequence[Prepared], halves: Labelled, place: torch.device, line: Line
) -> list[Score]:
    """The model's scores in the order of the protocols. It leaves the examination as it came."""
    before = fingerprint(model.module)
    model.module.to(place)
    train, test = sets
    exam = Exam(model=model, train=train, test=test, classes=len(halves.classes), device=place, line=line)
    scores = [score for name in names if model.learns or name not in FOR_WEIGHTS for score in PROBES[name](exam)]
    if fingerprint(model.module) != before:
        raise RuntimeError(f"evaluation changed {model.name}: this is a defect of lookalike, please report it")
    return scores


def _worth(scores: dict[str, list[Score]]) -> list[Worth]:
    """For each score of the trained encoder, the best reference that was measured in the same way."""
    found = []
    for own in scores["trained"]:
        rivals = {
            name: score
            for name, others in scores.items()
            for score in others
            if name != "trained" and (score.name, score.protocol.settings) == (own.name, own.protocol.settings)
        }
        if rivals:
            found.append(worth(own, rivals))
    return found


def _told(halves: Labelled, line: Line) -> Labelled:
    """Says which images are test images, where the folder does not."""
    if halves.by_name:
        text = f"{len(halves.test):,} of {len(halves.test) + len(halves.train):,} images are for the test"
        line.say(f"no train/ and test/ here: {text}, chosen by the hash of their names")
    return halves


def _known(protocols: Sequence[str]) -> list[str]:
    """The names asked for, each once."""
    known, names = (*PROBES, *COPIES, *MASKS), list(dict.fromkeys(protocols))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(
            f"there is no protocol {', '.join(map(repr, unknown)) or 'given'}: known are {', '.join(known)}"
        )
    alone = [name for name in names if name in (*COPIES, *MASKS)]
    if alone and len(names) > 1:
        raise ValueError(f"the protocol {alone[0]} reads other data than {', '.join(names)} together: ask for it alone")
    return names
