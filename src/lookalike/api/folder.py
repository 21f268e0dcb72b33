"""A run folder: its fixed layout, what is written before training and after it, and the encoder that comes out."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lookalike.evaluation import fingerprint
from lookalike.modules import Descriptor, Encoder
from lookalike.recipes import Recipe, build_descriptor, build_encoder, dump, load, view_size
from lookalike.recipes.build import head_section
from lookalike.training.checkpoint import CheckpointError, load_weights, save_weights, write_atomic
from lookalike.training.lock import LOCK

LEFT = {"log.txt", "skipped.jsonl", LOCK}  # of a run that failed before it began
NOT_CARDS = ("manifest.json", "evaluation.json")
PACKAGES = ("lookalike", "torch", "torchvision", "timm", "numpy", "numba", "pillow", "safetensors")


@dataclass(frozen=True)
class RunFolder:
    """recipe.yaml, manifest.json, metrics.jsonl, log.txt, skipped.jsonl, checkpoints/, encoder.safetensors, .json."""

    path: Path

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def skipped(self) -> Path:
        return self.path / "skipped.jsonl"

    @classmethod
    def at(cls, path: str) -> "RunFolder | None":
        """The run in the folder `path`, or None where it holds none."""
        folder = cls(Path(path))
        return folder if folder.begun() else None

    def begun(self) -> bool:
        return (self.path / "recipe.yaml").is_file()

    def demand_free(self) -> None:
        """Raises ValueError where a new run has no room: there is a run, or something else."""
        if self.begun():
            raise ValueError(
                f"{self.path} holds a run already: go on with --resume {self.path}, or choose another --out"
            )
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file: choose a new folder as --out")
        if self.path.is_dir() and {path.name for path in self.path.iterdir()} - LEFT:
            raise ValueError(f"{self.path} holds files that are no run: choose a new folder as --out")

    def forget(self) -> None:
        """Removes what `begin` wrote, and the folder, unless there is a checkpoint."""
        if (self.path / "checkpoints").exists():
            return
        for path in (self.path / "recipe.yaml", self.path / "manifest.json", self.log):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # something else is in it
            self.path.rmdir()

    def begin(self, recipe: Recipe, manifest: Mapping[str, Any]) -> None:
        """Writes recipe and manifest, before there is any checkpoint."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.skipped.unlink(missing_ok=True)  # of an attempt before
        write_atomic(self.path / "recipe.yaml", dump(recipe).encode())
        write_atomic(self.path / "manifest.json", (json.dumps(manifest, indent=2) + "\n").encode())

    def recipe(self) -> Recipe:
        """The resolved recipe. Raises ValueError where the folder is no run."""
        if not self.begun():
            raise ValueError(f"{self.path} is not a run: it has no recipe.yaml; give the folder that pretrain made")
        return load(str(self.path / "recipe.yaml"))

    def resumed(self, manifest: Mapping[str, Any]) -> None:
        """Adds to the manifest what goes on with the run from here."""
        starts = [*manifest.get("resumed", []), facts()]
        write_atomic(
            self.path / "manifest.json", (json.dumps({**manifest, "resumed": starts}, indent=2) + "\n").encode()
        )

    def manifest(self) -> dict[str, Any]:
        """What the run began with, and what resumed it since. Raises CheckpointError where that cannot be read."""
        return _facts(self.path / "manifest.json", "data", "images", "identity", "init", "labels", "versions")

    def hours(self) -> float | None:
        """What the steps of training took, probes and checkpoints left out, by metrics.jsonl; None where it is lost."""
        try:
            rows = [json.loads(line) for line in self.metrics.read_text().splitlines()]
            speeds = [(row["step"], row["images_per_second"]) for row in rows if "images_per_second" in row]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        seconds, last = 0.0, 0
        for step, speed in speeds:
            seconds += (step - last) * self.recipe().batch / speed
            last = step
        return seconds / 3600 if speeds else None

    def finish(self, exports: Mapping[str, nn.Module], recipe: Recipe) -> list[Path]:
        """Writes one weight file per role, and beside it what is needed to build the network again."""
        for role, module in exports.items():
            card = {
                "role": role,
                "backbone": recipe.backbone.model_dump(),
                "image_size": view_size(recipe),
                "channels": recipe.data.channels,
                "fingerprint": fingerprint(module),
            }
            card |= {"head": head_section(recipe).model_dump()} if isinstance(module, Descriptor) else {}
            write_atomic(self.path / f"{role}.json", (json.dumps(card, indent=2) + "\n").encode())
        files = [self.path / f"{role}.safetensors" for role in exports]
        for file, module in zip(files, exports.values(), strict=True):
            save_weights(file, {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()})
        return files

    def roles(self) -> list[str]:
        """What training has left: "encoder", or "key" and "query"."""
        return sorted(path.stem for path in self.path.glob("*.safetensors"))

    def shown(self) -> Encoder | Descriptor:
        """The network that stands for the run: of a pair that which is for originals. Raises as `encoder`."""
        return self.encoder((self.roles() or ["encoder"])[0])

    def encoder(self, role: str = "encoder") -> Encoder | Descriptor:
        """The trained network of a role, in eval mode. Raises ValueError where there is none yet, or it was changed."""
        weights, recipe = self.path / f"{role}.safetensors", self.recipe()
        if not weights.is_file():
            roles = ", ".join(self.roles())
            why, then = "training has not finished", f"go on with lookalike pretrain --resume {self.path}"
            if roles:
                why, then = f"it has {roles}", "name one of these as --role"
            raise ValueError(f"{self.path} holds no trained {role} ({why}): {then}")
        card = _facts(self.path / f"{role}.json", "fingerprint")
        backbone = build_encoder(
            recipe.backbone, channels=recipe.data.channels, size=view_size(recipe), seed=recipe.seed
        )
        encoder = build_descriptor(recipe, backbone) if "head" in card else backbone
        try:
            encoder.load_state_dict(load_weights(weights))
        except RuntimeError as error:
            raise CheckpointError(f"{weights} does not fit {self.path / 'recipe.yaml'}: {error}") from None
        if card["fingerprint"] != fingerprint(encoder):
            raise CheckpointError(f"{weights} is not what training wrote: its fingerprint differs; restore the file")
        return encoder.eval()

    def exports(self) -> dict[str, Encoder | Descriptor]:
        """All trained networks by role. Raises ValueError as `encoder` does."""
        return {role: self.encoder(role) for role in self.roles() or ["encoder"]}

    def finished(self) -> bool:
        """Training has ended and all that it leaves is written: cards come first, then the weights of each."""
        cards = [path for path in self.path.glob("*.json") if path.name not in NOT_CARDS]
        return bool(cards) and all(card.with_suffix(".safetensors").is_file() for card in cards)


def new_folder(parent: Path, method: str) -> Path:
    """parent/<method>-<n>, the first n that is free."""
    number = 1
    while (parent / f"{method}-{number}").exists():
        number += 1
    return parent / f"{method}-{number}"


def _facts(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON object of a file, with at least these keys."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is missing or damaged ({error}): restore it from a copy") from None
    if not isinstance(found, dict) or not set(keys) <= found.keys():
        raise CheckpointError(f"{path} is not what training wrote, it lacks one of {', '.join(keys)}: restore it")
    return found


def differences(manifest: Mapping[str, Any]) -> list[str]:
    """What may round or draw otherwise here than where the run was last: versions, the code, the processor."""
    here, last = facts(), [manifest, *manifest.get("resumed", [])][-1]
    found = [
        f"{name} is {here['versions'][name] or 'not installed'} and was {there or 'not installed'}"
        for name, there in last["versions"].items()
        if name in PACKAGES and str(here["versions"][name]).split("+")[0] != str(there).split("+")[0]
    ]
    if last.get("code", here["code"]) != here["code"]:
        commits = f"commit {here['git']}, then {last['git']}" if here["git"] and last.get("git") else "another version"
        found.append(f"the code of lookalike is not what it was ({commits})")
    own = here["machine"]["instructions"]
    there = last.get("machine", {}).get("instructions", own)
    if there != own:
        found.append(f"this processor computes with {own}, and the last one did with {there}")
    return found


def facts() -> dict[str, Any]:
    """What made this run: time, machine, versions, commit of the code if it is a checkout."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "git": _commit(),
        "code": _code(),
    }


def _version(package: str) -> str | None:
    """None for what may be missing: numba."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _code() -> str:
    """32 hex digits over this package's code and recipes."""
    digest, place = hashlib.blake2b(digest_size=16), Path(__file__).parents[1]
    for path in sorted([*place.rglob("*.py"), *place.rglob("*.yaml")]):
        digest.update(path.relative_to(place).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _commit() -> str | None:
    """The commit of this package's code, with "+" where it was changed; None where it is no checkout."""
    place = Path(__file__).parents[1]

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=place, capture_output=True, text=True, timeout=5, check=True).stdout

    try:
        git("ls-files", "--error-unmatch", __file__)  # in somebody else's repository the package is not tracked
        return git("rev-parse", "HEAD").strip() + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None
