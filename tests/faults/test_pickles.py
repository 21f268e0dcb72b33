"""Pickles given as checkpoint, weights, --init, list, recipe or image: none is executed, each ends in a sentence."""

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from counts import note
from pickles import pickles
from spent import spending
from test_damage import forge

from lookalike.api.folder import RunFolder
from lookalike.api.start import start_from
from lookalike.data import Files, Unreadable, open_source
from lookalike.modules import backbone
from lookalike.recipes import load
from lookalike.training.checkpoint import Checkpoints, load_metadata, load_weights

SECONDS, MEGABYTES = 1.0, 200.0  # for a pickle in all places together


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "precious").mkdir()
    return folder


@pytest.fixture(scope="module")
def hostile(place: Path) -> dict[str, bytes]:
    made = pickles(place / "canary")
    assert len(made) >= 60
    assert not (place / "canary").exists()
    return made


@pytest.fixture
def canary(place: Path) -> Iterator[Path]:
    yield place / "canary"
    assert not (place / "canary").exists()
    assert (place / "precious").is_dir()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with two checkpoints."""
    folder = tmp_path_factory.mktemp("run")
    for step in (1, 2):
        Checkpoints(folder).save(step, {"a": torch.ones(3) * step}, {"step": step})
    RunFolder(folder).begin(load("simclr_small_smoke"), {})
    return folder


@pytest.fixture(scope="module")
def encoder():
    return backbone("resnet18_quarter")


def refused(deed: Callable, *arguments: object) -> None:
    """The deed ends in one sentence."""
    with pytest.raises(ValueError) as caught:
        deed(*arguments)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) > 20


def everywhere(data: bytes, folder: Path, run: Path, encoder: torch.nn.Module) -> int:
    """Gives the bytes wherever a file of unknown origin can be given; the number of places."""
    named = {name: folder / name for name in ("w.safetensors", "w.pt", "w.pth", "list.txt", "r.yaml", "image.jpg")}
    for path in named.values():
        path.write_bytes(data)
    refused(load_weights, named["w.safetensors"])
    refused(load_metadata, named["w.safetensors"])
    for name in ("w.safetensors", "w.pt", "w.pth"):
        refused(start_from, encoder, str(named[name]))
    refused(open_source, named["list.txt"])
    refused(open_source, named["w.pt"])
    refused(load, str(named["r.yaml"]))
    refused(Files(str(folder), ["image.jpg"]).read, 0)
    for name in ("state.safetensors", "facts.json", "checksums.json"):
        as_checkpoint(data, run, name)
    return 12


def as_checkpoint(data: bytes, run: Path, name: str) -> None:
    """The older checkpoint is taken, with checksums that are true as with those that are not."""
    newest = run / "checkpoints" / "step-00000002"
    kept = Path(shutil.copytree(newest, run / "kept"))
    (newest / name).write_bytes(data)
    for again in (False, True):
        if again and name != "checksums.json":
            forge(newest)
        found = Checkpoints(run).load()
        assert found.step == 1
        assert len(found.notes) == 1
    shutil.rmtree(newest)
    kept.rename(newest)


def test_the_canary_sings(hostile, place):
    """The test below can fail: whoever unpickles these runs the command."""
    for name in ("os.system, protocol 0", "eval, protocol 4", "getattr chain", "INST", "STACK_GLOBAL", "state"):
        with suppress(pickle.UnpicklingError):  # the command has run by then
            pickle.loads(hostile[name])
        assert (place / "canary").exists(), name
        (place / "canary").unlink()


def test_no_pickle_is_executed_wherever_it_is_given(hostile, canary, tmp_path, run, encoder):
    places = 0
    for name, data in hostile.items():
        with spending() as spent:
            places += everywhere(data, tmp_path, run, encoder)
        assert not canary.exists(), name
        assert spent.seconds < SECONDS, name
        assert spent.megabytes < MEGABYTES, name
    assert not Path("/tmp/lookalike-canary").exists()
    note(9, "hostile pickles, each given in twelve places", cases=len(hostile), right=len(hostile), places=places)


@pytest.mark.parametrize("name", ["os.system, protocol 2", "torch.save", "zip behind safetensors"])
def test_a_pickle_as_weights_of_a_run_is_refused(hostile, canary, run, encoder, name):
    (run / "encoder.safetensors").write_bytes(hostile[name])
    try:
        refused(start_from, encoder, str(run))
    finally:
        os.unlink(run / "encoder.safetensors")
    assert not canary.exists()


def test_a_sparse_file_of_a_terabyte_costs_nothing(canary, tmp_path, encoder):
    """Whatever it is given as: its size is asked for before its bytes are."""
    for name in ("w.safetensors", "list.txt", "image.jpg"):
        with open(tmp_path / name, "wb") as file:
            file.write(b"\x10\0\0\0\0\0\0\0{}")
            file.truncate(2**40)
    with spending() as spent:
        refused(load_weights, tmp_path / "w.safetensors")
        refused(start_from, encoder, str(tmp_path / "w.safetensors"))
        refused(open_source, tmp_path / "list.txt")
    assert spent.seconds < SECONDS
    assert spent.megabytes < MEGABYTES
    with pytest.raises(Unreadable, match="more than the 50,000,000 allowed"):
        Files(str(tmp_path), ["image.jpg"]).read(0)


def test_weights_larger_than_the_encoder_are_refused_by_their_header(canary, tmp_path, encoder):
    """A whole, sparse file of 100 GB: names and shapes are compared before any value is read."""
    header = b'{"a":{"dtype":"U8","shape":[100000000000],"data_offsets":[0,100000000000]}}'
    with open(tmp_path / "w.safetensors", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 10**11)
    with spending() as spent:
        refused(start_from, encoder, str(tmp_path / "w.safetensors"))
    assert spent.megabytes < MEGABYTES
