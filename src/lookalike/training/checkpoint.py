"""Checkpoints of a run: folders of safetensors and JSON, whole or not there, verified byte by byte before use.

    RUN/checkpoints/step-00000412/state.safetensors     all tensors
                                  facts.json            everything else
                                  checksums.json        step, SHA-256 and size of the two
    RUN/checkpoints/latest                              name of the newest one, for people and scripts

Names have a fixed width, so that their order is the order of steps. A step that is saved again with other bytes
becomes step-00000412-01, and the first one goes once that is on the disk.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

from torch import Tensor

from lookalike.training.files import (
    CheckpointError,
    explained,
    free_bytes,
    measure,
    need,
    remove,
    replacing,
    sweep,
    sync_folder,
    write_atomic,
    write_synced,
)
from lookalike.training.weights import (
    decode,
    encode,
    load_metadata,
    load_weights,
    read_checked,
    save_weights,
    size_in_bytes,
)

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Checkpoints",
    "load_metadata",
    "load_weights",
    "save_weights",
    "write_atomic",
]

JSON: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None

STATE, FACTS, CHECKSUMS, LATEST = "state.safetensors", "facts.json", "checksums.json", "latest"
NAME = re.compile(r"step-(\d{8})(?:-\d\d)?")
SLACK = 1 << 20  # bytes for checksums, pointer and the file system's own needs
FACTS_BYTES = 100_000_000


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What was saved after `step` steps; `notes` say which newer checkpoints were skipped, and why."""

    step: int
    path: Path
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    notes: list[str] = field(default_factory=list)


class Checkpoints:
    """The checkpoints in the run folder `folder`; the newest `keep` stay. One process writes, any number may read."""

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        if keep < 1:
            raise ValueError(f"keep={keep} would keep no checkpoint: use 1 or more")
        self.run, self.folder, self.keep = folder, folder / "checkpoints", keep
        self._torn: set[str] = set()

    def save(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, JSON]) -> Path:
        """Writes a checkpoint and returns its folder; then the pointer moves; only then old ones go.

        Same step and same bytes as a whole checkpoint: nothing is written. Checkpoints of later steps belong to a
        future that was given up, and go. Raises CheckpointError where the disk refuses: the previous checkpoint is
        as whole as before. Raises ValueError for a tensor or a fact that cannot be written.
        """
        if not 0 <= step < 10**8:
            raise ValueError(f"step {step} has no checkpoint name: steps are 0 to 99999999")
        text = _json(dict(facts))
        encode(tensors)  # raises for a tensor that cannot be saved, before anything is touched
        self.sweep()
        before = self.latest_step()
        try:
            path = self._same(step, tensors, text)
            if path is None:
                path = self._new(step)
                self._write(path, step, tensors, text)
            write_atomic(self.folder / LATEST, f"{path.name}\n".encode())
            self._prune(path.name)
        except CheckpointError as error:
            rest = "no checkpoint was there before" if before is None else f"that of step {before} is as it was"
            raise CheckpointError(f"the checkpoint of step {step} failed: {error}; {rest}") from error
        return path

    def load(self, step: int | None = None) -> Checkpoint | None:
        """The newest whole checkpoint (of that step), or None where there never was one.

        Torn or tampered ones are skipped, with a note. Raises CheckpointError if none of them is whole.
        """
        names = [name for name in self._names() if step is None or _step(name) == step]
        notes = self._missing(names) if step is None else []
        for name in reversed(names):
            try:
                tensors, facts = _read(self.folder / name)
            except CheckpointError as error:
                notes.append(f"checkpoint {name} is skipped: {error}")
                self._torn.add(name)
                continue
            return Checkpoint(step=_step(name), path=self.folder / name, tensors=tensors, facts=facts, notes=notes)
        if step is not None and not names:
            steps = ", ".join(str(_step(name)) for name in self._names()) or "none"
            raise CheckpointError(f"{self.folder} has no checkpoint of step {step}: choose one of {steps}")
        if notes:
            raise CheckpointError(
                f"{self.folder} has no whole checkpoint ({'; '.join(notes)}): bring one back from a copy, or "
                "remove the folder to start at step 0"
            )
        return None

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, by name alone."""
        names = self._names()
        return _step(names[-1]) if names else None

    def demand_room(self, size: int) -> None:
        """Raises CheckpointError where the checkpoints of a run, of `size` bytes each, have no room.

        These are the `keep` that stay, as far as they are not there yet, and the next one, which is written before the
        oldest goes.
        """
        needed = max(1, self.keep + 1 - len(self._names())) * (size + SLACK)
        free = free_bytes(self.folder)
        if free < needed:
            raise CheckpointError(
                f"checkpoints of {size / 1e6:,.1f} MB, {self.keep} that stay and one that is written, need "
                f"{needed / 1e6:,.1f} MB more in {self.run}, and {free / 1e6:,.1f} MB are free: free some space there, "
                "keep fewer (saving.keep=1), or start all the same (saving.check_space=false)"
            )

    def sweep(self) -> None:
        """Removes what a killed process left half-written in the run folder. For the process that writes."""
        sweep(self.run)
        sweep(self.folder)

    def _names(self) -> list[str]:
        with explained(f"list {self.folder}"):
            if not self.folder.is_dir():
                return []
            return sorted(path.name for path in self.folder.iterdir() if NAME.fullmatch(path.name))

    def _missing(self, names: list[str]) -> list[str]:
        """A note if the pointer names a checkpoint that is gone: a run folder may be copied in part."""
        try:
            name = (self.folder / LATEST).read_text().strip()
        except (OSError, UnicodeDecodeError):
            return []
        gone = NAME.fullmatch(name) and name not in names
        return [f"checkpoint {name} was the latest and is missing"] if gone else []

    def _same(self, step: int, tensors: Mapping[str, Tensor], text: bytes) -> Path | None:
        """The checkpoint of this step that holds these very bytes, if there is a whole one."""
        wanted = None
        for name in self._names():
            if _step(name) != step:
                continue
            wanted = wanted or _table(step, {STATE: measure(encode(tensors)), FACTS: measure([text])})
            try:
                if _verified(self.folder / name)[CHECKSUMS] == wanted:
                    return self.folder / name
            except CheckpointError:
                continue
        return None

    def _new(self, step: int) -> Path:
        """A name for this step that sorts after those in use."""
        used = [name for name in self._names() if _step(name) == step]
        if not used:
            return self.folder / f"step-{step:08}"
        number = int(used[-1][14:] or 0) + 1
        if number > 99:
            raise CheckpointError(f"{self.folder} holds 99 checkpoints of step {step}: remove all but the last")
        return self.folder / f"step-{step:08}-{number:02}"

    def _write(self, path: Path, step: int, tensors: Mapping[str, Tensor], text: bytes) -> None:
        with explained(f"make {self.folder}"):
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True, exist_ok=True)
                sync_folder(self.folder.parent)
        need(self.folder, size_in_bytes(tensors) + len(text) + SLACK)
        with replacing(path) as temporary:
            temporary.mkdir()
            files = {
                STATE: write_synced(temporary / STATE, encode(tensors)),
                FACTS: write_synced(temporary / FACTS, [text]),
            }
            write_synced(temporary / CHECKSUMS, [_table(step, files)])
            sync_folder(temporary)

    def _prune(self, newest: str) -> None:
        """Removes what is torn, later, of the same step, or beyond `keep`: by a rename, so none is ever half there."""
        earlier = [name for name in self._names() if _step(name) < _step(newest) and name not in self._torn]
        kept = {newest, *earlier[max(0, len(earlier) - self.keep + 1) :]}
        for name in set(self._names()) - kept:
            with explained(f"remove the old checkpoint {self.folder / name} ({newest} is saved)"):
                half = (self.folder / name).rename(self.folder / f".tmp-{uuid4().hex}")
            remove(half)


def _step(name: str) -> int:
    return int(name[5:13])


def _json(value: JSON) -> bytes:
    """The one way to write these facts as JSON."""
    try:
        return json.dumps(value, sort_keys=True, indent=1, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"these facts cannot be written as JSON ({error}): keep to finite numbers and text") from error


def _table(step: int, files: Mapping[str, tuple[str, int]]) -> bytes:
    return _json({"step": step, **{name: {"sha256": sha, "bytes": size} for name, (sha, size) in files.items()}})


def _verified(path: Path) -> dict[str, bytes]:
    """The bytes of a checkpoint's three files. Raises CheckpointError unless every single bit is as written."""
    data = {STATE: read_checked(path / STATE), FACTS: _small(path / FACTS), CHECKSUMS: _small(path / CHECKSUMS)}
    table = _table(_step(path.name), {name: measure([data[name]]) for name in (STATE, FACTS)})
    if table != data[CHECKSUMS]:
        raise CheckpointError("its files are not those that were saved (damaged, changed or exchanged)")
    return data


def _small(path: Path) -> bytes:
    with explained(f"read {path}"):
        if not path.is_file() or path.stat().st_size > FACTS_BYTES:
            raise CheckpointError(f"{path} is missing, or far too large")
        return path.read_bytes()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    data = _verified(path)
    try:
        facts = json.loads(data[FACTS])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path / FACTS} is no JSON") from error
    if not isinstance(facts, dict):
        raise CheckpointError(f"{path / FACTS} holds no facts")
    return decode(data[STATE], path / STATE), facts
