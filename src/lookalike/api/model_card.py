"""The card beside an exported file: what the network learned from, how, what it reaches, and how to load it."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lookalike.api.folder import RunFolder
from lookalike.api.targets import FILE, Artifact, Subject
from lookalike.evaluation import Score, fingerprint
from lookalike.recipes import dump, method_name

# sections of a recipe without paths
LEARNED = ("method", "views", "backbone", "optimizer", "epochs", "batch", "accumulate", "seed")
TOLD = ("lookalike", "torch", "timm")
LICENSE = (
    "These weights derive from the images that the network learned from{origin}: what their owners and licenses allow "
    "also limits what may be done with this file."
)
NO_SCORE = "Nobody had measured it with `lookalike evaluate` when this file was made."


def model_card(folder: RunFolder, subject: Subject, artifact: Artifact, *, name: str, compared: str) -> str:
    """Markdown about the file `name`. It names no folder of this machine and no time.

    Raises ValueError where the manifest or the kept scores of the run are damaged.
    """
    recipe, manifest = folder.recipe(), folder.manifest()
    rights = LICENSE.format(origin=f", and from {origin(manifest['init'])}" if manifest["init"] else "")
    learned = f"{manifest['images']:,} images without labels, by {method_name(recipe)}, {recipe.epochs:g} epochs"
    facts = {**identity(subject, manifest), "compared with the run": compared}
    parts = (
        front_matter(artifact),
        f"# {name}",
        f"The encoder of a run of lookalike that learned from {learned}.",
        "## Load it",
        *([artifact.hint] if artifact.hint else []),
        f"```python\n{code(artifact, name)}\n```",
        "## What it is",
        "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items())]),
        "## What it reaches",
        scores(folder, fingerprint(subject.network)),
        "## License",
        rights,
        "## Recipe",
        f"```yaml\n{dump(recipe, LEARNED).rstrip()}\n```",
    )
    return "\n\n".join(parts) + "\n"


def identity(subject: Subject, manifest: Mapping[str, Any]) -> dict[str, str]:
    """The network, what it began with, what it learned from, and the packages that made it."""
    encoder, section = subject.network, subject.backbone
    size = f"{subject.size} x {subject.size} pixels, {encoder.channels} channels"
    return {
        "network": f"{section.name}, stem {section.stem}, {size}",
        "features": f"{encoder.dim} numbers",
        "first weights": origin(manifest["init"]) or "random",
        "identity of the images": manifest["identity"],
        "fingerprint of network and normalization": fingerprint(encoder),
        "trained with": versions([manifest, *manifest.get("resumed", [])][-1]["versions"]),
        "exported with": versions({package: version(package) for package in TOLD}),
    }


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
    """A line for each score that `lookalike evaluate` has kept of these very weights, and of what it stands beside.

    Raises ValueError where RUN/evaluation.json is damaged.
    """
    path = folder.path / "evaluation.json"
    if not path.exists():
        return NO_SCORE
    try:
        lines = [line for kept in json.loads(path.read_bytes()) for line in score_lines(kept, own)]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{path} is no list of scores: move it away, and evaluate again") from None
    return "\n".join(lines) or NO_SCORE


def score_lines(kept: Mapping[str, Any], own: str) -> list[str]:
    """The lines of one evaluation; none where it was of other weights."""
    found = {who: [Score.from_dict(one) for one in rows] for who, rows in kept["scores"].items()}
    if any(one.backbone != own for one in found["trained"]):
        return []
    images = Path(kept["data"]).name
    return [f"- {images}, {who}: {one.line()}" for who, rows in found.items() for one in rows]
