"""What a run folder says of itself: recipe, manifest, metrics, scores, and what doctor finds."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lookalike.api.doctor import as_built, doctor, ended, last_step, skipped
from lookalike.api.folder import RunFolder
from lookalike.api.symptoms import Finding, collapsed, dropped, flat, starved
from lookalike.recipes import Recipe
from lookalike.training.checkpoint import CheckpointError
from lookalike.training.metrics import Metrics


@dataclass(frozen=True, kw_only=True)
class Told:
    """A run at one moment.

    manifest: {} where it is lost; rows: the lines of metrics.jsonl; next: the command to type; steps: the length of the
    run, None where it is not known; evaluations: the entries of evaluation.json; encoder: fingerprint of the weights
    that training wrote, "" before the end.
    """

    folder: RunFolder
    recipe: Recipe
    manifest: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    findings: Sequence[Finding]
    next: str
    steps: int | None
    evaluations: Sequence[Mapping[str, Any]]
    encoder: str

    @property
    def name(self) -> str:
        return self.folder.path.resolve().name

    @property
    def step(self) -> int:
        """The last step that is written down."""
        return max((row["step"] for row in self.rows), default=0)


def told(folder: RunFolder, *, checked: bool, steps: int | None = None) -> Told:
    """The run as it stands. checked: with doctor's look at checkpoints and weights, which takes its time. steps: the
    length of the run, where it is known: to learn it, the network is built.

    Raises ValueError where the folder is no run.
    """
    recipe, manifest, rows = folder.recipe(), known(folder), Metrics(folder.metrics).rows()
    if checked:
        checkup = doctor(folder.path)
        findings, command = checkup.findings, checkup.next
    else:
        findings = (*ended(folder), *skipped(folder, manifest), *of_metrics(rows, recipe))
        command = f"lookalike doctor {shlex.quote(str(folder.path))}"
    return Told(
        folder=folder,
        recipe=recipe,
        manifest=manifest,
        rows=rows,
        findings=findings,
        next=command,
        steps=steps or last_step(as_built(recipe, manifest), recipe, manifest),
        evaluations=evaluations(folder),
        encoder=fingerprint(folder),
    )


def of_metrics(rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> tuple[Finding, ...]:
    """What the lines alone show, as doctor reads them."""
    collapse = collapsed(rows, recipe)
    return (*(collapse or flat(rows)), *dropped(rows, recipe), *starved(rows, recipe))


def known(folder: RunFolder) -> Mapping[str, Any]:
    """The manifest, or nothing where it cannot be read: doctor then says so."""
    try:
        return folder.manifest()
    except CheckpointError:
        return {}


def evaluations(folder: RunFolder) -> list[Mapping[str, Any]]:
    """What `evaluate` has kept, oldest first; nothing where the file is no list of scores."""
    found = _json(folder, "evaluation.json")
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def fingerprint(folder: RunFolder) -> str:
    card = _json(folder, "encoder.json") if folder.finished() else None
    return str(card.get("fingerprint", "")) if isinstance(card, dict) else ""


def _json(folder: RunFolder, name: str) -> Any:
    try:
        return json.loads((folder.path / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
