"""lookalike pretrain on tar shards, lists of URIs and saved data sets: the same bits as on the folder, also resumed."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from command import TINY, lookalike, mistake
from PIL import Image

import lookalike as la


def weights(run: Path) -> bytes:
    return (run / "encoder.safetensors").read_bytes()


@pytest.fixture
def shards(photos, tmp_path) -> Path:
    """data/: the 64 photos, in their order, in four shards, with labels beside them."""
    files = sorted(photos.iterdir())
    (tmp_path / "data").mkdir()
    for number in range(4):
        with tarfile.open(tmp_path / "data" / f"s-{number}.tar", "w") as tar:
            for file in files[16 * number : 16 * number + 16]:
                tar.add(file, file.name)
                member = tarfile.TarInfo(f"{file.stem}.cls")
                member.size = 1
                tar.addfile(member, io.BytesIO(b"%d" % (int(file.stem) % 2)))
    return tmp_path / "data"


def test_a_run_on_shards_is_a_run_on_the_folder_also_after_a_stop(finished, unfinished, shards):
    said = lookalike("pretrain", "data/s-{0..3}.tar", *TINY, "--out", "tar", "--labels", "cls", "watching.knn_every=1")
    assert said.code == 0, said.err
    assert "reading the headers of 4 tar files" in said.err
    assert weights(Path("tar")) == weights(finished)
    manifest = json.loads((unfinished / "manifest.json").read_text())
    told = json.loads(Path("tar/manifest.json").read_text())
    assert told["data"] == str(shards.parent / "data/s-{0..3}.tar")
    assert told["labels"] == "cls"
    kept = {key: told[key] for key in ("data", "identity", "labels")}
    (unfinished / "manifest.json").write_text(json.dumps(manifest | kept))
    (shards / "s-2.tar").rename(shards / "s-9.tar")
    assert "1 of 4 shards do not exist, the first is" in mistake("pretrain", "--resume", unfinished)
    (shards / "s-9.tar").rename(shards / "s-2.tar")
    with tarfile.open(shards / "s-3.tar", "a") as tar:
        tar.add(finished / "recipe.yaml", "new.png")
    text = mistake("pretrain", "--resume", unfinished)
    assert "the images are not those that" in text
    assert "began with (64 then, 65 now" in text
    before = (shards / "s-3.tar").read_bytes()
    (shards / "s-3.tar").write_bytes(before[: before.rindex(b"new.png")] + bytes(1024))
    assert lookalike("pretrain", "--resume", unfinished).code == 0
    assert weights(unfinished) == weights(finished)


def test_workers_read_shards_as_the_process_itself_does(finished, shards):
    said = lookalike("pretrain", shards, *TINY, "--out", "run", "runtime.workers=2", "data.cache=false")
    assert said.code == 0, said.err
    assert weights(Path("run")) == weights(finished)


def test_pixels_that_do_not_fit_into_memory_are_kept_in_a_file(finished, photos, monkeypatch):
    monkeypatch.setattr("lookalike.api.assembly.available_memory", lambda: 0)
    for run in ("one", "two"):
        said = lookalike("pretrain", photos, *TINY, "--out", run, "data.store=pixels")
        assert said.code == 0, said.err
        assert ("decoded pixels taken from pixels/" in said.err) == (run == "two")
        assert weights(Path(run)) == weights(finished)
    Path("file").touch()
    text = mistake("pretrain", photos, *TINY, "--out", "three", "data.store=file/pixels")
    assert text.startswith("decoded pixels cannot be kept in file/pixels (Not a directory): choose another folder")


def test_large_photos_may_be_decoded_small(tmp_path):
    (tmp_path / "large").mkdir()
    for number in range(32):
        pixels = np.random.default_rng(number).integers(0, 256, (3, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((400, 300)).save(tmp_path / "large" / f"{number:02}.jpg")
    said = lookalike("pretrain", "large", *TINY, "--out", "run", "data.scaled_to=75")
    assert said.code == 0, said.err
    rule = lookalike("pretrain", "large", "--dry-run", "data.scaled_to=75", "epochs=0.5")
    assert "images are 75 pixels" in rule.out


def test_a_shard_that_is_damaged_inside_counts_as_unreadable_images(shards):
    data = bytearray((shards / "s-1.tar").read_bytes())
    with tarfile.open(shards / "s-1.tar") as tar:
        place = next(member.offset_data for member in tar if member.name == "020.png")
    data[place : place + 8] = b"no image"
    (shards / "s-1.tar").write_bytes(data)
    said = lookalike("pretrain", "data", *TINY, "--out", "run")
    assert said.code == 0, said.err
    (line,) = Path("run/skipped.jsonl").read_text().splitlines()
    assert json.loads(line)["name"] == "s-1.tar/020.png"


def test_uris_and_saved_data_sets_are_the_same_images(finished, photos, tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs the package datasets: pip install 'lookalike[hub]'")
    datasets.disable_progress_bars()
    files = sorted(photos.iterdir())
    Path("uris.txt").write_text("\n".join(file.as_uri() for file in files))
    assert lookalike("pretrain", "uris.txt", *TINY, "--out", "uris").code == 0
    assert weights(Path("uris")) == weights(finished)
    features = datasets.Features(photo=datasets.Image(), mask=datasets.Image(), kind=datasets.Value("string"))
    images = [{"bytes": file.read_bytes(), "path": None} for file in files]
    columns = {"photo": images, "mask": images, "kind": ["a", "b"] * 32}
    rows = datasets.Dataset.from_dict(columns, features=features)
    rows.save_to_disk("saved")
    text = mistake("pretrain", "saved", *TINY)
    assert text == "the data set has several columns of images, photo, mask: choose one with --column"
    words = ("--column", "photo", "--labels", "column:kind", "--out", "rows")
    assert lookalike("pretrain", "saved", *TINY, *words).code == 0
    assert weights(Path("rows")) == weights(finished)
    shutil.rmtree("rows/checkpoints")
    for file in Path("rows").glob("encoder.*"):
        file.unlink()
    assert lookalike("pretrain", "--resume", "rows").code == 0  # the recipe remembers the column
    assert weights(Path("rows")) == weights(finished)
    run = la.pretrain(rows, recipe=TINY[1], overrides=["data.column=mask"], out="object")
    assert weights(run.path) == weights(finished)
    for file in run.path.glob("encoder.*"):
        file.unlink()
    with pytest.raises(ValueError, match="was trained on a data set in memory: resume it in Python with data="):
        la.resume(run.path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("data/s-0.tar", "data/s-1.tar"), "several tar files were given: quote the pattern, as 'shards-{0000..0009}"),
        (("uoft-cs/cifar10",), "; a data set of the Hub is written hf:uoft-cs/cifar10"),
        (("nosuch://bucket/a.tar?x=1",), "nosuch:// is no scheme that fsspec knows"),
        (("data", "--column", "webp"), "has no member with the extension 'webp', but .png, .cls: choose another"),
        (("data", "--labels", "column:x"), "cls and json:FIELD are for tar shards, column:NAME is for Hub data sets"),
        (("data", "--labels", "json:x"), "labels missing: 64 of 64 images have none by --labels json:x"),
    ],
)
def test_mistakes(shards, words, said):
    assert said in mistake("pretrain", *words, *TINY)
