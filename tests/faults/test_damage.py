"""Checkpoints of a real run with flipped bits, cut, lengthened, exchanged and stale: noticed, each of them."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from counts import note
from tiny import digest, training

from lookalike.modules import backbone, load_weights
from lookalike.training.checkpoint import CheckpointError, Checkpoints, save_weights
from lookalike.training.loop import train

FILES = ("state.safetensors", "facts.json", "checksums.json")


class Run:
    """A folder with two checkpoints of a trained method, and their digests by step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        train(training(folder, facts={"recipe": {"method": "sce"}}), 1.0)
        self.checkpoints = folder / "checkpoints"
        self.steps = sorted(int(path.name[5:]) for path in self.checkpoints.glob("step-*"))
        self.digests = {step: digest(Checkpoints(folder).load(step).tensors) for step in self.steps}

    def path(self, step: int) -> Path:
        return self.checkpoints / f"step-{step:08}"

    def demand_fallback(self) -> None:
        """The older checkpoint is loaded, bit by bit, and one note says what is wrong with the newer one."""
        old, new = self.steps
        found = Checkpoints(self.folder).load()
        assert found.step == old
        assert digest(found.tensors) == self.digests[old]
        assert len(found.notes) == 1
        assert found.notes[0].startswith(f"checkpoint step-{new:08} ")
        assert "\n" not in found.notes[0]

    def demand_whole(self) -> None:
        found = Checkpoints(self.folder).load()
        assert (found.step, found.notes) == (self.steps[-1], [])
        assert digest(found.tensors) == self.digests[self.steps[-1]]


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def run(once: Run) -> Iterator[Run]:
    """A test leaves the run as it was: the last line of each test asserts it."""
    yield once
    once.demand_whole()


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def fall_back(run: Run, file: Path, data: bytes) -> None:
    """With these bytes in a file of the newest checkpoint, the older one is taken."""
    before = file.read_bytes()
    assert data != before
    try:
        file.write_bytes(data)
        run.demand_fallback()
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize("flips", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_each_flipped_bit_is_noticed(run, flips):
    """Bits are drawn from all bytes of the checkpoint, so that most fall into values, and some into each file."""
    draw, folder = random.Random(11), run.path(run.steps[-1])
    sizes = {name: (folder / name).stat().st_size for name in FILES}
    names = [*FILES * 4, *draw.choices(list(sizes), weights=sizes.values(), k=flips - 12)]
    for name in names:
        fall_back(run, folder / name, flipped((folder / name).read_bytes(), draw.randrange(8 * sizes[name])))
    note(7, "single flipped bits of a checkpoint", cases=flips, right=flips)


def test_a_flipped_bit_of_the_pointer_changes_nothing(run):
    """The pointer is for people; what is loaded does not depend on it."""
    latest = run.checkpoints / "latest"
    data = latest.read_bytes()
    for bit in range(8 * len(data)):
        latest.write_bytes(flipped(data, bit))
        found = Checkpoints(run.folder).load()
        assert digest(found.tensors) == run.digests[run.steps[-1]]
    latest.write_bytes(data)


@pytest.mark.parametrize("flips", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_a_flipped_bit_in_the_header_of_weights_is_noticed_or_harmless(tmp_path, flips):
    """Weights alone carry no checksum: whatever the header says then, names and shapes are those of the encoder."""
    encoder, file, draw = backbone("resnet18_quarter"), tmp_path / "w.safetensors", random.Random(12)
    save_weights(file, encoder.state_dict())
    data, before = file.read_bytes(), digest(encoder.state_dict())
    length, refused = 8 + int.from_bytes(data[:8], "little"), 0
    for _ in range(flips):
        file.write_bytes(flipped(data, draw.randrange(8 * length)))
        try:
            load_weights(encoder, file)
        except ValueError as error:
            refused += "\n" not in str(error)
            assert digest(encoder.state_dict()) == before
    assert refused > 0.9 * flips


@pytest.mark.parametrize("cuts", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_each_truncation_is_noticed(run, cuts):
    draw, folder = random.Random(13), run.path(run.steps[-1])
    for number in range(cuts):
        file = folder / FILES[number % 3]
        data = file.read_bytes()
        fall_back(run, file, data[: draw.choice([0, 1, 7, 8, len(data) - 1, draw.randrange(len(data))])])
    note(8, "truncated files of a checkpoint", cases=cuts, right=cuts)


def test_each_appended_byte_is_noticed(run):
    draw, folder = random.Random(14), run.path(run.steps[-1])
    for number in range(50):
        file = folder / FILES[number % 3]
        more = draw.choice([b"\0", b" ", b"\n", draw.randbytes(draw.randrange(1, 5000)), b"PK\3\4" + bytes(100)])
        fall_back(run, file, file.read_bytes() + more)
    note(8, "bytes appended to files of a checkpoint", cases=50, right=50)


def test_each_exchange_of_files_is_noticed(run):
    """Files of the other checkpoint, files of another run, files under one another's names, and missing ones."""
    old, new = (run.path(step) for step in run.steps)
    cases = [(new / name, (old / name).read_bytes()) for name in FILES]
    cases += [(new / a, (new / b).read_bytes()) for a in FILES for b in FILES if a != b]
    cases += [(new / a, (old / b).read_bytes()) for a in FILES for b in FILES if a != b]
    other = training(run.folder.with_name("other"))
    other.method.projector.weight.data.mul_(2)
    train(other, 1.0)
    cases += [(new / name, (other.saver.checkpoints.folder / new.name / name).read_bytes()) for name in FILES]
    for file, data in cases:
        fall_back(run, file, data)
    for name in FILES:
        moved = (new / name).rename(run.folder / name)
        run.demand_fallback()
        moved.rename(new / name)
    note(8, "files of a checkpoint exchanged or missing", cases=len(cases) + 3, right=len(cases) + 3)


def test_each_stale_manifest_is_noticed(run):
    """Checksums of an earlier save, or of nothing: all files are there, and one is not of this save."""
    old, new = (run.path(step) for step in run.steps)
    table = (new / "checksums.json").read_text()
    sizes = [str((new / name).stat().st_size) for name in FILES[:2]]
    stale = [(old / "checksums.json").read_text(), "", "{}", "null", "[]", table + " ", table[:-1], table.upper()]
    stale += [table.replace(size, str(int(size) + change)) for size in sizes for change in (-1, 1)]
    stale += [table.replace(f'"step": {run.steps[-1]}', f'"step": {step}') for step in (0, run.steps[0], 10**9)]
    stale += [table.replace("sha256", name) for name in ("sha1", "md5", "SHA256")]
    stale += [table.replace("state.safetensors", "facts.json"), table.replace("\n", "\r\n")]
    for text in stale:
        fall_back(run, new / "checksums.json", text.encode())
    assert len(stale) >= 20
    note(8, "stale or altered manifests", cases=len(stale), right=len(stale))


@pytest.mark.parametrize("kind", ["file", "link to nothing", "loop", "pipe", "empty folder"])
def test_something_else_of_that_name_is_noticed(run, kind):
    new = run.path(run.steps[-1])
    away = new.rename(run.folder / "away")
    {
        "file": lambda: new.write_bytes(b"checkpoint"),
        "link to nothing": lambda: new.symlink_to("nowhere"),
        "loop": lambda: new.symlink_to(new.name),
        "pipe": lambda: os.mkfifo(new),
        "empty folder": new.mkdir,
    }[kind]()
    run.demand_fallback()
    shutil.rmtree(new) if kind == "empty folder" else new.unlink()
    away.rename(new)


@pytest.mark.parametrize(
    "facts", ["[]", "3", "{}", '{"step": 1}', '{"step": "x"}', '{"step": 4}', '{"step": 4, "optimizer": 3}']
)
def test_facts_with_true_checksums_that_training_did_not_write(run, tmp_path, facts):
    """Someone who can rewrite checksums meets a sentence, and neither method nor optimizer is half changed."""
    folder = Path(shutil.copytree(run.folder, tmp_path / "forged"))
    for path in (folder / "checkpoints").glob("step-*"):
        (path / "facts.json").write_text(facts)
        forge(path)
    cast = training(folder)
    before = digest(cast.method.state_dict())
    with pytest.raises(CheckpointError) as caught:
        train(cast, 1.0)
    assert "\n" not in str(caught.value)
    assert digest(cast.method.state_dict()) == before


def test_a_checkpoint_of_other_shapes_changes_nothing(run, tmp_path):
    folder = Path(shutil.copytree(run.folder, tmp_path / "wider"))
    cast = training(folder)
    cast.method.projector = torch.nn.Linear(16, 20)
    before = digest(cast.method.state_dict())
    with pytest.raises(CheckpointError, match=r"projector\.weight is \(12, 16\) there and \(20, 16\) here"):
        train(cast, 1.0)
    assert digest(cast.method.state_dict()) == before


def forge(path: Path) -> None:
    """Writes the checksums that these files have."""
    from lookalike.training.checkpoint import _table
    from lookalike.training.files import measure

    table = _table(int(path.name[5:13]), {name: measure([(path / name).read_bytes()]) for name in FILES[:2]})
    (path / "checksums.json").write_bytes(table)
