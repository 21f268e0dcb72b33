"""lookalike embed: the rows of a plain loop, in one file, however often it was stopped and by how many processes."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from command import lookalike, mistake, write_images

from lookalike.api import Run, embed
from lookalike.api import rows as rows_module
from lookalike.data import open_source
from lookalike.functional import collectives
from lookalike.transforms import Views, eval_chain


def plain(run: Path, images: Path) -> tuple[list[str], torch.Tensor]:
    """Names and rows, image by image."""
    encoder, source, views = Run(run).encoder, open_source(images), Views({"center": eval_chain(16)})
    rows = []
    for i in range(len(source)):
        one = torch.tensor([i])
        pixels = views.render([source.read(i)], views.draw(one, seed=0, epoch=(0, 0)))["center"]
        with torch.no_grad():
            rows.append(encoder(pixels)[0])
    return [source.name(i) for i in range(len(source))], torch.stack(rows)


def share(run: Path, images: Path, out: Path) -> bytes:
    """One process's part of the work; the bytes of the file."""
    embed(run, images, out=out, batch=8, part=16, device="cpu")
    collectives.agree(True)
    return out.read_bytes()


def test_a_parquet_file_holds_the_rows_of_a_plain_loop(finished, photos):
    said = lookalike("embed", finished, photos, "--out", "photos.parquet")
    assert said.code == 0, said.err
    table = pq.read_table("photos.parquet")
    assert table.column_names == ["id", "embedding"]
    assert str(table.schema.field("embedding").type) == "list<element: float>"
    names, rows = plain(finished, photos)
    assert table["id"].to_pylist() == names
    assert np.allclose(np.array(table["embedding"].to_pylist()), rows, atol=1e-5)
    assert said.out == (
        "64 rows of 128 numbers in photos.parquet, 0 images skipped\n"
        'next, in Python: pyarrow.parquet.read_table("photos.parquet")\n'
    )
    assert [path.name for path in Path().iterdir()] == ["photos.parquet"]


def test_a_name_that_is_no_utf8(finished, tmp_path):
    folder = write_images(tmp_path / "latin", 2)
    try:
        os.rename(os.fsencode(folder / "000.png"), os.fsencode(folder) + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    assert lookalike("embed", finished, folder, "--out", "a.parquet").code == 0
    assert pq.read_table("a.parquet")["id"].to_pylist() == ["001.png", "caf\\xe9.png"]
    assert lookalike("embed", finished, folder, "--out", "a.npy").code == 0
    assert json.loads(Path("a.ids.json").read_text()) == ["001.png", "caf\\xe9.png"]


def test_an_array_file_holds_the_same(finished, photos):
    Run(finished).embed(photos, "a.npy")
    embed(finished, photos, out="a.parquet")
    table = pq.read_table("a.parquet")
    assert json.loads(Path("a.ids.json").read_text()) == table["id"].to_pylist()
    assert np.array_equal(np.load("a.npy"), np.array(table["embedding"].to_pylist(), dtype=np.float32))


def test_what_was_stopped_goes_on_to_the_same_bytes(finished, photos, monkeypatch):
    whole = share(finished, photos, Path("whole.parquet"))
    write, done = rows_module.Parts.write, []

    def dying(self, number, part):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(number)
        return write(self, number, part)

    monkeypatch.setattr(rows_module.Parts, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        embed(finished, photos, out="cut.parquet", batch=8, part=16)
    assert not Path("cut.parquet").exists()
    assert done == [0, 1]

    def counting(self, number, part):
        done.append(number)
        return write(self, number, part)

    monkeypatch.setattr(rows_module.Parts, "write", counting)
    embed(finished, photos, out="cut.parquet", batch=8, part=16)
    assert done == [0, 1, 2, 3]  # nothing twice
    assert Path("cut.parquet").read_bytes() == whole
    assert not Path("cut.parquet.parts").exists()


def test_two_processes_write_the_bytes_of_one(finished, photos, tmp_path, gloo):
    one = share(finished, photos, tmp_path / "one.parquet")
    assert gloo.run(2, share, finished, photos, tmp_path / "two.parquet") == [one, one]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.parquet", "two.parquet"]


def test_an_unreadable_image_is_left_out_and_listed(finished):
    images = write_images(Path("images"), 40)
    (images / "007.png").write_bytes(b"no image")
    done = embed(finished, images, out="rows.parquet", batch=8, part=16, max_bad=0.1)
    assert done.rows == 39
    assert [one.name for one in done.skipped] == ["007.png"]
    names = pq.read_table("rows.parquet")["id"].to_pylist()
    assert names == [f"{number:03}.png" for number in range(40) if number != 7]
    (line,) = Path("rows.parquet.skipped.jsonl").read_text().splitlines()
    assert json.loads(line)["name"] == "007.png"


def test_too_many_unreadable_images_stop_it(finished):
    images = write_images(Path("images"), 40)
    for number in range(5):
        (images / f"{number:03}.png").write_bytes(b"no image")
    sentence = mistake("embed", finished, images, "--out", "rows.parquet", "--max-bad", "0.05")
    assert "could not be read" in sentence or "cannot be read" in sentence
    assert not Path("rows.parquet").exists()


def test_mistakes_are_sentences(finished, photos):
    assert mistake("embed", finished, photos, "--out", "rows.csv").startswith("--out rows.csv ends neither in .parquet")
    Path("there.npy").touch()
    assert mistake("embed", finished, photos, "--out", "there.npy").startswith("there.npy is there already: remove it")
    assert "holds no trained key" in mistake("embed", finished, photos, "--out", "a.npy", "--role", "key")
    assert "hold nothing" in mistake("embed", finished, photos, "--out", "a.npy", "--batch", "0")
    shutil.rmtree("a.npy.parts", ignore_errors=True)
    rows_module.Parts(Path("b.npy"), {"encoder": "another"}).begin()
    assert "holds rows of another encoder" in mistake("embed", finished, photos, "--out", "b.npy")
