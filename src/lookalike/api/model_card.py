"""The card beside an exported file: what the network learned from, how, what it reaches, and how to load it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lookalike.api.folder import RunFolder
from lookalike.api.targets import FILE, Artifact, Subject
from lookalike.evaluation import Protocol, Score, fingerprint
from lookalike.recipes import dump, method_name

LEARNED = (
    "method",
    "views",
    "backbone",
    "optimizer",
    "epochs",
    "batch",
    "accumulate",
    "seed",
)  # sections without paths
TOLD = ("lookalike", "torch", "timm")
LICENSE = (
    "These weights derive from the images that the network learned from{origin}: what their owners and licenses allow "
    "also limits what may be done with this file."
)


def model_card(folder: RunFolder, subject: Subject, artifact: Artifact, *, name: str, compared: str) -> str:
    """Markdown about the file `name`. It names no folder of this machine and no time.

    Raises ValueError where the manifest or the kept scores of the run are damaged.
    """
    recipe, manifest = folder.recipe(), folder.manifest()
    encoder, network = subject.encoder, subject.backbone
    size = f"{subject.size} x {subject.size}"
    learned = f"{manifest['images']:,} images without labels, by {method_name(recipe)}, {recipe.epochs:g} epochs"
    facts = {
        "network": f"{network.name}, stem {network.stem}, {size} pixels, {encoder.channels} channels",
        "features": f"{encoder.dim} numbers",
        "first weights": origin(manifest["init"]) or "random",
        "identity of the images": manifest["identity"],
        "fingerprint of network and normalization": fingerprint(encoder),
        "trained with": versions(_last(manifest)["versions"]),
        "exported with": versions({package: version(package) for package in TOLD}),
        "compared with the run": compared,
    }
    license = LICENSE.format(origin=f", and from {origin(manifest['init'])}" if manifest["init"] else "")
    parts = (
        front_matter(artifact),
        f"# {name}\n\nThe encoder of a run of lookalike that learned from {learned}.",
        f"## Load it\n\n{artifact.hint}\n\n```python\n{code(artifact, name)}\n```".replace("\n\n\n\n", "\n\n"),
        "## What it is\n\n| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in facts.items()),
        "## What it reaches\n\n" + scores(folder, fingerprint(encoder)),
        f"## License\n\n{license}",
        f"## Recipe\n\n```yaml\n{dump(recipe, LEARNED).rstrip()}\n```",
    )
    return "\n\n".join(parts) + "\n"


def code(artifact: Artifact, path: str) -> str:
    """The Python that loads the file of that path."""
    return artifact.code.replace(FILE, json.dumps(path))


def front_matter(artifact: Artifact) -> str:
    """What the Hub sorts models by."""
    lines = ["library_name: timm"] if artifact.config else []
    return "\n".join(["---", *lines, "license: other", "tags:", "- image-feature-extraction", "- lookalike", "---"])


def origin(init: str | None) -> str:
    """What training started from; of a file or run only the last name."""
    if init is None or init.startswith("timm:"):
        return init or ""
    return f"the weights {Path(init).name}"


def versions(found: Mapping[str, str]) -> str:
    return ", ".join(f"{package} {found[package]}" for package in TOLD if package in found)


def scores(folder: RunFolder, own: str) -> str:
    """A line for each score that `lookalike evaluate` has kept of these very weights."""
    lines = []
    for kept in evaluations(folder):
        trained = [score(one) for one in kept["scores"]["trained"]]
        if any(one.backbone != own for one in trained):
            continue
        lines += [f"- {Path(kept['data']).name}: {one.line()}" for one in trained]
        others = [(who, score(rows[0])) for who, rows in kept["scores"].items() if who != "trained"]
        lines += [f"- {Path(kept['data']).name}, {who}: {one.line()}" for who, one in others]
    return "\n".join(lines) or "Nobody has measured it with `lookalike evaluate` before this file was made."


def evaluations(folder: RunFolder) -> Sequence[Mapping[str, Any]]:
    """What RUN/evaluation.json holds. Raises ValueError where it is damaged."""
    path = folder.path / "evaluation.json"
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text())
        complete = [one for one in found if {"data", "scores"} <= one.keys() and "trained" in one["scores"]]
    except (ValueError, TypeError, AttributeError):
        raise ValueError(f"{path} is no list of scores: move it away, and evaluate again") from None
    return complete


def score(kept: Mapping[str, Any]) -> Score:
    """A score as it was before `Score.as_dict` made it flat: what is no field of Score or Protocol is a setting."""
    known = {field.name for field in (*fields(Score), *fields(Protocol))} | {"name"}
    protocol = {field.name: kept[field.name] for field in fields(Protocol) if field.name in kept}
    own = {name: kept[name] for name in ("value", "seed", "epochs", "backbone")}
    settings = {name: value for name, value in kept.items() if name not in known}
    interval = tuple(kept["interval"]) if kept["interval"] else None
    return Score(protocol=Protocol(probe=kept["name"], settings=settings, **protocol), interval=interval, **own)


def _last(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    return [manifest, *manifest.get("resumed", [])][-1]
