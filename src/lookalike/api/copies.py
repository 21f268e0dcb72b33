"""evaluate --protocol copy or disc21: how well a run finds edited copies among other images, beside what is cheap."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lookalike.api.haystack import Described, Haystack, haystack
from lookalike.api.sides import Entry, Sides
from lookalike.data import CopyFolder
from lookalike.data.copies import Edits
from lookalike.evaluation import (
    CopyResult,
    EditRow,
    Protocol,
    Score,
    Worth,
    by_edit,
    copy_detection,
    fingerprint,
    whitening,
)
from lookalike.evaluation.worth import RESAMPLES, percentiles, worth_of_draws
from lookalike.functional.normalization import ISC2021, SSCD, Normalization
from lookalike.functional.ranking import DIMENSIONS
from lookalike.training.progress import Line, steps_of
from lookalike.transforms.edits import HELD_OUT

COPIES = ("copy", "disc21")
SEED = 0  # of the bootstrap; our choice


@dataclass(frozen=True, kw_only=True)
class Column:
    """How scores are made of rows: lowered by the background or not, whitened on the background or not."""

    form: Normalization | None
    whiten: bool = False

    @property
    def reads(self) -> int:
        """Background images that it takes."""
        return int(self.whiten) if self.form is None else self.form.last + 1

    @property
    def name(self) -> str:
        whitened = f", PCAW{DIMENSIONS}" if self.whiten else ""
        return f"uAP (normalization {self.form or 'none'}{whitened})"


COLUMNS = (Column(form=None), Column(form=SSCD), Column(form=ISC2021), Column(form=SSCD, whiten=True))
LEGAL = tuple(Column(form=form, whiten=True) for form in (None, SSCD, ISC2021))


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A score, what it was read from, and its bootstrap values."""

    column: Column
    score: Score
    result: CopyResult
    draws: Tensor


@dataclass(frozen=True)
class Copies:
    """Scores by what was scored, the trained run against the best of the others, and its edits one by one."""

    scores: dict[str, list[Score]]
    worth: list[Worth]
    edits: list[EditRow]


def copies(
    benchmark: CopyFolder,
    models: Sequence[Sides],
    entries: Sequence[Entry] = (),
    *,
    protocol: str,
    device: torch.device,
    max_bad: float,
    line: Line,
) -> Copies:
    """Scores the models, of which one is "trained", on a benchmark. In disc21 no row has more than 256 dimensions.

    Entries have one column, since their background is not known. The models are left as they were. Raises ValueError
    where there is no background set, or too small a one.
    """
    line.say(_told(benchmark))
    _demand_background(benchmark, line)
    modules = [module for model in models for module in model.modules]
    before = [fingerprint(module) for module in modules]
    for module in modules:
        module.to(device)
    hay = haystack(benchmark, models, entries, device=device, max_bad=max_bad, line=line)
    scored: list[Sides | Entry] = [*models, *entries]
    judged = {one.name: found for one in scored if (found := _judged(one, hay, protocol, line))}
    if [fingerprint(module) for module in modules] != before:
        raise RuntimeError("evaluation changed a model: this is a defect of lookalike, please report it")
    edits = [] if hay.edits is None else _edits(judged["trained"][0].result, hay.edits)
    return Copies(
        scores={name: [one.score for one in found] for name, found in judged.items()},
        worth=_worth(judged),
        edits=edits,
    )


def _told(folder: CopyFolder) -> str:
    background = 0 if folder.background is None else len(folder.background)
    return (
        f"{len(folder.queries):,} queries, {folder.without:,} of them without an original, look for "
        f"{len(folder.truth):,} true pairs among {len(folder.references):,} references; "
        f"background: {background:,} images"
    )


def _demand_background(folder: CopyFolder, line: Line) -> None:
    """Says which columns are left out; none but the plain one is none."""
    count = 0 if folder.background is None else len(folder.background)
    if count <= SSCD.last:
        raise ValueError(
            f"there are {count} background images, and score normalization and whitening need {SSCD.last + 1} or more: "
            "add training/, a folder of images that are neither references nor sources of queries"
        )
    for column in COLUMNS:
        if column.reads > count:
            line.say(f"{column.name} reads {column.reads} background images, and there are {count}: it is left out")


def _judged(model: Sides | Entry, hay: Haystack, protocol: str, line: Line) -> list[Judged]:
    """The model under each column that the background allows. In disc21 rows of too many dimensions are whitened."""
    rows = hay.rows[model.name]
    legal = protocol == "disc21" and rows.query.shape[1] > DIMENSIONS
    columns = [column for column in (LEGAL if legal else COLUMNS) if column.reads <= len(rows.background)]
    short = _whitened(rows) if any(column.whiten for column in columns) else rows
    if short is None:
        line.say(f"{model.name} gives all background images the same row: what is whitened is left out")
        columns = [column for column in columns if not column.whiten]
    if not columns and model.name == "trained":
        raise ValueError(
            "the run gives all background images the same row, and disc21 wants it whitened: it has collapsed, look at "
            "its report"
        )
    used = [(column, short if column.whiten and short is not None else rows) for column in columns]
    return [_column(model, column, those, hay, line) for column, those in used]


def _whitened(rows: Described) -> Described | None:
    """None where the background does not vary."""
    try:
        fitted = whitening(rows.background, DIMENSIONS)
    except ValueError:
        return None
    return Described(query=fitted(rows.query), reference=fitted(rows.reference), background=fitted(rows.background))


def _column(model: Sides | Entry, column: Column, rows: Described, hay: Haystack, line: Line) -> Judged:
    with line.track(f"{model.name}: search for {column.name}", len(rows.query)) as advance:
        result = copy_detection(
            rows.query,
            rows.reference,
            hay.truth,
            background_rows=rows.background,
            normalization=column.form,
            on_progress=steps_of(advance),
        )
    with line.track(f"{model.name}: interval of {column.name}", RESAMPLES) as advance:
        draws = result.resampled(seed=SEED, on_progress=steps_of(advance))
    return Judged(column=column, score=_score(model, column, result, rows, draws), result=result, draws=draws)


def _score(model: Sides | Entry, column: Column, result: CopyResult, rows: Described, draws: Tensor) -> Score:
    point = result.point
    found: dict[str, float | int | str] = {
        "recall@P90": point.recall if point else "never",
        "recall@1": result.recall(1),
        "recall@10": result.recall(10),
    }
    if point:
        found |= {"threshold": point.threshold, "false positives": result.false_positives(point.threshold)}
    return Score(
        value=result.uap,
        protocol=Protocol(
            probe="uAP",
            n_train=len(rows.background),
            n_test=result.n_query,
            features=model.features,
            crop=model.crop,
            settings={
                "normalization": str(column.form or "none"),
                "whitening": f"PCAW{DIMENSIONS}" if column.whiten else "none",
                "dim": result.dim,
                "pairs": len(result.ranks),
                "references": result.n_reference,
            },
        ),
        interval=percentiles(draws),
        seed=model.seed,
        epochs=model.epochs,
        backbone=_backbone(model),
        found=found,
    )


def _backbone(model: Sides | Entry) -> str:
    """The fingerprint of the queries' network, and that of the references' where it is another; "" for none."""
    learned = [module for module in dict.fromkeys(model.modules) if any(True for _ in module.parameters())]
    return " ".join(fingerprint(module) for module in learned)


def _edits(result: CopyResult, made: Edits) -> list[EditRow]:
    """First the queries with a family that training is to do without, and those edited otherwise; then each family."""
    groups = [
        [("held out" if any(family in HELD_OUT for family, _ in edits) else "not held out", 1)] if edits else []
        for edits in made
    ]
    return [row for row in by_edit(result, groups) if row.strength is None] + by_edit(result, made)


def _worth(judged: dict[str, list[Judged]]) -> list[Worth]:
    """Column by column: the run against the best of those scored alike, on the same samples of the queries."""
    tables = {name: {one.column: one for one in of} for name, of in judged.items()}
    found = []
    for column, own in tables.pop("trained").items():
        rivals = {name: table[column] for name, table in tables.items() if column in table}
        values = {name: (one.result.uap, one.draws) for name, one in rivals.items()}
        found.append(worth_of_draws(column.name, (own.result.uap, own.draws), values))
    return [one for one in found if one is not None]
