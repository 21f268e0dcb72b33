"""lookalike evaluate: honest scores of a run's encoder on labelled images."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from lookalike.cli.copies_tables import show_copies
from lookalike.cli.parts_table import show_parts

if TYPE_CHECKING:
    from lookalike.api import Report
    from lookalike.evaluation import Score

RunPath = Annotated[str, typer.Argument(metavar="RUN", help="The folder that pretrain made")]
Labelled = Annotated[
    str,
    typer.Option(
        "--data", metavar="DIR", help="train/CLASS/ and test/CLASS/, or one folder of classes; else as --protocol says"
    ),
]
Protocols = Annotated[
    str,
    typer.Option(
        "--protocol",
        metavar="LIST",
        help="Of knn,linear,few,retrieval,finetune,linear_sgd; or one of copy, disc21, segments, propagation",
    ),
]
References = Annotated[
    list[str] | None,
    typer.Option(
        "--reference", metavar="WHAT", help="Score this too: timm:NAME, FILE.safetensors, a run; copies: FILE.hdf5"
    ),
]
NoReferences = Annotated[bool, typer.Option("--no-references", help="Skip raw pixels, random weights and the like")]
Role = Annotated[str, typer.Option(metavar="NAME", help="Which network of the run")]
Out = Annotated[
    str | None, typer.Option(metavar="DIR", help="copy: where the benchmark is built; RUN/copy-benchmark if not given")
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda")]
MaxBad = Annotated[float, typer.Option(metavar="X", help="Share of images that may be unreadable")]


def evaluate(
    run: RunPath,
    data: Labelled,
    protocol: Protocols = "knn",
    reference: References = None,
    no_references: NoReferences = False,
    role: Role = "encoder",
    out: Out = None,
    device: Device = "auto",
    max_bad: MaxBad = 0.001,
) -> None:
    """Score an encoder on labelled images, on copies, or by masks.

    With --protocol copy edited copies are made of photos; segments and propagation read masks. Raw pixels and random
    weights are scored beside it, and what --reference names; how far it is ahead of the best is said for each protocol.
    The encoder is not changed. Scores are added to RUN/evaluation.json; the last line is the trained encoder's first.
    """
    from lookalike.api import evaluate as measure

    kept(Path(run))  # what cannot be added to is told before the work
    report = measure(
        run,
        data,
        protocols=tuple(name.strip() for name in protocol.split(",") if name.strip()),
        references=not no_references,
        others=tuple(reference or ()),
        role=role,
        out=out,
        device=device,
        max_bad=max_bad,
        quiet=False,
    )
    keep(Path(run), data, report)  # before anything is shown: who reads it may go away
    (show_copies if report.best.name == "uAP" else show)(report)
    for line in report.verdicts():
        print(line)
    print(f"kept in {Path(run) / 'evaluation.json'}; next: {embedding(run, role)}")
    print(report.best.line())


def embedding(run: str, role: str) -> str:
    """The command that embeds with the network that was scored; of a pair with that for originals."""
    from lookalike.api.folder import RunFolder

    roles = RunFolder(Path(run)).roles()
    shown = role if role in roles else roles[0]
    which = "" if shown == "encoder" else f" --role {shown}"
    return f"lookalike embed {run} FOLDER{which} --out rows.parquet"


def show(report: "Report") -> None:
    """For each protocol a line with its settings, and below it what was scored, the trained encoder last."""
    from lookalike.evaluation import brief

    order, console = sorted(report.scores, key=lambda name: name == "trained"), Console(highlight=False)
    for first in report.scores["trained"]:
        settings = ", ".join(f"{key}={brief(value)}" for key, value in first.protocol.settings.items())
        console.print(f"\n{first.name} ({settings})")
        columns = (Column(no_wrap=True), Column(no_wrap=True, justify="right"), Column(no_wrap=True), Column())
        table = Table(*columns, box=None, show_header=False, pad_edge=False, padding=(0, 1))
        under = [(name, score) for name in order for score in report.scores[name] if _alike(score, first)]
        for name, score in under:
            low, high = score.interval or (score.value, score.value)
            found = ", ".join(f"{key}={brief(value)}" for key, value in score.found.items())
            interval = f"95 %: {100 * low:.1f} to {100 * high:.1f}"
            table.add_row(f"  {name}", f"{100 * score.value:.1f} %", interval, found)
        console.print(table)
    console.print()
    show_parts(report)


def _alike(one: "Score", other: "Score") -> bool:
    """Whether both stand under one protocol; pixels are not fine-tuned, for example."""
    return (one.name, one.protocol.settings) == (other.name, other.protocol.settings)


def kept(run: Path) -> list[Any]:
    """What RUN/evaluation.json holds. Raises ValueError where it is damaged."""
    path = run / "evaluation.json"
    try:
        earlier = json.loads(path.read_text()) if path.exists() else []
    except ValueError:
        earlier = None
    if not isinstance(earlier, list):
        raise ValueError(f"{path} is no list of scores: move it away, and evaluate again")
    return earlier


def keep(run: Path, data: str, report: "Report") -> None:
    """Adds the scores to RUN/evaluation.json, whole or not at all."""
    from lookalike.training.checkpoint import write_atomic

    date = datetime.now(UTC).isoformat(timespec="seconds")
    new: dict[str, Any] = {"date": date, "data": str(Path(data).absolute()), "scores": report.as_dict()}
    if report.worth:
        new |= {"worth": [one.as_dict() for one in report.worth], "hours": report.hours}
    if report.edits:
        new["edits"] = [{name: _number(value) for name, value in vars(row).items()} for row in report.edits]
    if report.parts:
        new["parts"] = [{"name": part.name, "objects": part.objects, **part.values} for part in report.parts]
    write_atomic(run / "evaluation.json", (json.dumps([*kept(run), new], indent=2) + "\n").encode())


def _number(value: object) -> object:
    """None for NaN, which JSON does not have."""
    return None if isinstance(value, float) and math.isnan(value) else value
