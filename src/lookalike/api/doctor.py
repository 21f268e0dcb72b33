"""doctor: reads a run folder and says in plain words what is wrong with it and which setting to change."""

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from lookalike.api.folder import RunFolder
from lookalike.api.symptoms import Finding, collapsed, dropped, flat, starved, unlearned, unmoved
from lookalike.api.symptoms_of_state import parts, stale, unfed
from lookalike.data.decode import shown
from lookalike.methods.method import Method
from lookalike.modules import MomentumEncoder, Queue
from lookalike.recipes import Recipe, build_encoder, build_method, view_size
from lookalike.training.checkpoint import NAME, Checkpoint, CheckpointError, Checkpoints
from lookalike.training.metrics import Metrics
from lookalike.training.progress import ENDED
from lookalike.training.timeline import timeline

TAIL = 65_536  # bytes of log.txt that are looked at
UNKNOWN = 2**40  # images, where the manifest does not say: no queue is capped


@dataclass(frozen=True)
class Checkup:
    """What is wrong with a run (no finding: nothing), what was looked at, and the command to type next."""

    findings: tuple[Finding, ...]
    looked: tuple[str, ...]
    next: str


def doctor(run: str | PathLike[str]) -> Checkup:
    """Looks at recipe, metrics, checkpoints, weights, log and skipped images of a run, and changes none of them.

    The run may be finished, stopped or still training. Raises ValueError where the folder is no run.
    """
    folder = RunFolder(Path(run))
    recipe, rows = folder.recipe(), Metrics(folder.metrics).rows()
    saves, torn = checkpoints(folder.path)
    manifest, lost = known_facts(folder, saves)
    method = as_built(recipe, manifest)
    step = max([*(save.step for save in saves), *(int(row["step"]) for row in rows)], default=0)
    findings = [*lost, *torn, *weights(folder), *ended(folder), *skipped(folder, manifest)]
    findings += collapse if (collapse := collapsed(rows, recipe)) else flat(rows)
    findings += unmoved(rows, recipe)
    findings += [] if findings else unlearned(rows, recipe, images_of(manifest), manifest.get("labels") is not None)
    findings += [*dropped(rows, recipe), *starved(rows, recipe)]
    if saves:
        same = manifest.get("init") is None and torch.__version__ == (manifest.get("versions") or {}).get("torch")
        findings += [*unfed(method, saves, same), *stale(method, saves, recipe, same)]
    looked = [f"{len(rows):,} lines of metrics.jsonl to step {step:,} of {steps(method, recipe, manifest)}"]
    looked += [f"checkpoints of step {' and '.join(f'{save.step:,}' for save in saves)}"] if saves else []
    looked += [f"the queue {name}" for name, _ in parts(method, Queue)] if saves else []
    looked += [f"the momentum encoder {name}" for name, _ in parts(method, MomentumEncoder)] if saves else []
    looked += [path.name for path in (folder.log, folder.skipped) if path.exists()]
    return Checkup(tuple(findings), tuple(looked), next_command(folder, manifest, findings, saves))


def checkpoints(run: Path) -> tuple[list[Checkpoint], list[Finding]]:
    """The whole checkpoints of a run, oldest first, and a finding where others are damaged."""
    kept, found, bad = Checkpoints(run), list[Checkpoint](), list[str]()
    for path in _folders(run):
        step = int(path.name[5:13])
        try:
            save = kept.load(step)
        except CheckpointError as error:
            if path.exists():  # training may have removed it meanwhile
                bad.append(f"{path.name} ({error})")
            continue
        if save is not None and all(step != other.step for other in found):
            found = [replace(other, tensors={}) for other in found[:-1]] + found[-1:] + [save]  # two are compared
    if not bad:
        return found, []
    rest = f"resuming goes on at step {found[-1].step:,}" if found else "none is whole, so nothing can be resumed"
    return found, [
        Finding("damaged checkpoint", f"{'; '.join(bad)}: {rest}. Bring it back from a copy, or check the disk.")
    ]


def known_facts(folder: RunFolder, saves: Sequence[Checkpoint]) -> tuple[Mapping[str, Any], list[Finding]]:
    """The manifest; where it is lost, the copy in a checkpoint, and a finding."""
    try:
        return folder.manifest(), []
    except CheckpointError as error:
        copy = saves[-1].facts.get("manifest") if saves else None
        return copy if isinstance(copy, dict) else {}, [Finding("lost manifest", f"{error}.")]


def as_built(recipe: Recipe, manifest: Mapping[str, Any]) -> Method:
    """The method with the weights and queues that the run began with, but for --init."""
    encoder = build_encoder(recipe.backbone, channels=recipe.data.channels, size=view_size(recipe), seed=recipe.seed)
    return build_method(recipe, encoder, images_of(manifest), lambda note: None)


def images_of(manifest: Mapping[str, Any]) -> int:
    """How many images the run has, or more than any has."""
    images = manifest.get("images")
    return images if isinstance(images, int) and images > 0 else UNKNOWN


def weights(folder: RunFolder) -> list[Finding]:
    """Weights of a finished run that are not what training wrote."""
    if not folder.finished():
        return []
    found = []
    for path in sorted(folder.path.glob("*.safetensors")):
        try:
            folder.encoder(path.stem)
        except CheckpointError as error:
            found.append(Finding("changed weights", f"{error}."))
    return found


def ended(folder: RunFolder) -> list[Finding]:
    """The error that stopped the run, if that is the last line of its log."""
    if folder.finished() or not folder.log.is_file():
        return []
    with open(folder.log, "rb") as file:
        file.seek(max(0, folder.log.stat().st_size - TAIL))
        last = file.read().decode("utf-8", errors="replace").rstrip().rpartition("\n")[2]
    _, found, reason = last.partition(ENDED)
    return [Finding("stopped by an error", f"{reason}.")] if found else []


def skipped(folder: RunFolder, manifest: Mapping[str, Any]) -> list[Finding]:
    """Images that could not be read."""
    rows = dict[Any, Mapping[str, Any]]()
    with suppress(FileNotFoundError):
        for line in folder.skipped.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                rows[row["name"]] = row
    if not rows:
        return []
    first = next(iter(rows.values()))
    images = manifest.get("images")
    of = f" of {images:,} images ({len(rows) / images:.2%})" if isinstance(images, int) and images else " images"
    return [
        Finding(
            "skipped images",
            f"{len(rows):,}{of} could not be read, the first {shown(str(first['name']))} "
            f"({shown(str(first.get('reason')))}): repair or remove those that {folder.skipped} lists.",
        )
    ]


def steps(method: Method, recipe: Recipe, manifest: Mapping[str, Any]) -> str:
    """The length of the run, or "an unknown number"."""
    last = last_step(method, recipe, manifest)
    return "an unknown number" if last is None else f"{last:,}"


def last_step(method: Method, recipe: Recipe, manifest: Mapping[str, Any]) -> int | None:
    """The length of the run; None where its images are not known."""
    images = manifest.get("images")
    try:
        return timeline(method.plan(recipe.epochs), size=int(images or 0), batch=recipe.batch)[-1].stop
    except (TypeError, ValueError):
        return None


def next_command(
    folder: RunFolder, manifest: Mapping[str, Any], findings: Sequence[Finding], saves: Sequence[Checkpoint]
) -> str:
    """A new run with the changes that the findings name; else what is to be done with this one."""
    changes = list(dict.fromkeys(finding.change for finding in findings if finding.change))
    data = shlex.quote(manifest["data"]) if isinstance(manifest.get("data"), str) else "DATA"
    path = shlex.quote(str(folder.path))
    if changes:
        return f"lookalike pretrain {data} --recipe {shlex.quote(str(folder.path / 'recipe.yaml'))} {' '.join(changes)}"
    if folder.finished():
        return f"lookalike evaluate {path} --data LABELLED"
    if saves or not _folders(folder.path):
        return f"lookalike pretrain --resume {path}"
    return f"lookalike pretrain {data} --recipe {shlex.quote(str(folder.path / 'recipe.yaml'))}"


def _folders(run: Path) -> list[Path]:
    """The folders of checkpoints, in order of their steps."""
    folder = run / "checkpoints"
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name)) if folder.is_dir() else []
