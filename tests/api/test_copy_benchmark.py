"""The builder of copy benchmarks: frozen by seed and manifest, no picture in two parts, every family in the queries."""

import hashlib
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookalike.api.copy_benchmark import CopySizes, Draft, build_copy_benchmark
from lookalike.api.frozen import demand_frozen
from lookalike.data import open_source
from lookalike.training.progress import Line
from lookalike.transforms.edits import FAMILIES, HELD_OUT, STRENGTHS

PHOTOS = 40
SMALL = {"copies": 2, "side": 48}


def photo(number: int, size: tuple[int, int]) -> Image.Image:
    tiles = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(tiles).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Photos of many shapes, one of them gray, one with alpha."""
    folder = tmp_path_factory.mktemp("some") / "photos"
    folder.mkdir()
    for number in range(PHOTOS):
        image = photo(number, (40 + 3 * number, 64 - number))
        image = image.convert("L") if number == 7 else image.convert("RGBA") if number == 8 else image
        image.save(folder / f"{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def built(photos, tmp_path_factory) -> Path:
    return build_copy_benchmark(photos, tmp_path_factory.mktemp("one") / "benchmark", **SMALL)


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "edits.jsonl").read_text().splitlines()]


def strangers(folder: Path) -> set[str]:
    """The photos of queries that match nothing."""
    files = manifest(folder)["files"]
    return {files[f"queries/{record['query']}.jpg"]["source"] for record in lines(folder) if record["kind"] != "copy"}


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_photos_and_seed_give_the_same_bytes_and_another_seed_others(photos, built, tmp_path) -> None:
    again = build_copy_benchmark(photos, tmp_path / "again", **SMALL)
    assert everything(again) == everything(built)
    other = build_copy_benchmark(photos, tmp_path / "other", seed=1, **SMALL)
    assert manifest(other)["files"] != manifest(built)["files"]
    assert (other / "ground_truth.csv").read_bytes() != (built / "ground_truth.csv").read_bytes()


def test_the_manifest_holds_the_hash_of_every_file(built) -> None:
    files = manifest(built)["files"]
    found = {name: hashlib.sha256(content).hexdigest() for name, content in everything(built).items()}
    found.pop("manifest.json")
    assert {name: file["sha256"] for name, file in files.items()} == found


def test_no_photo_is_in_two_parts(built) -> None:
    files = manifest(built)["files"]
    parts = {name: set() for name in ("training", "background", "references")}
    for name, file in files.items():
        if name.split("/")[0] in parts:
            parts[name.split("/")[0]].add(file["source"])
    parts["strangers"] = strangers(built)
    assert {name: len(found) for name, found in parts.items()} == {
        "training": 14,
        "background": 6,
        "references": 12,
        "strangers": 8,
    }
    assert len(set.union(*parts.values())) == PHOTOS
    sources = [file["source"] for name, file in files.items() if not name.startswith("queries/") and file["source"]]
    assert len(sources) == len(set(sources))


def test_the_ground_truth_names_the_photo_a_copy_was_made_of(built) -> None:
    files = manifest(built)["files"]
    rows = [row.split(",") for row in (built / "ground_truth.csv").read_text().splitlines()]
    assert rows[0] == ["query_id", "reference_id"]
    assert [query for query, _ in rows[1:]] == [f"Q{number:05}" for number in range(len(rows) - 1)]
    records = {record["query"]: record for record in lines(built)}
    for query, reference in rows[1:]:
        assert records[query]["reference"] == (reference or None)
        taken = [FAMILIES[family].others for family in records[query]["families"]]
        assert [len(names) for names in records[query]["others"]] == taken
        assert {name for names in records[query]["others"] for name in names} <= strangers(built)
        assert bool(reference) == (records[query]["kind"] == "copy")
        if reference:
            sources = [files[name]["source"] for name in (f"queries/{query}.jpg", f"references/{reference}.jpg")]
            assert sources[0] == sources[1]
    assert Counter(record["kind"] for record in records.values()) == {
        "copy": 4 * 2,
        "edited stranger": 8 * 2,
        "stranger": 8,
    }
    assert len({reference for _, reference in rows[1:] if reference}) == 4  # the other references are distractors


def test_a_query_without_edits_is_its_photo(built, photos) -> None:
    files = manifest(built)["files"]
    for record in lines(built):
        name = f"queries/{record['query']}.jpg"
        query = Image.open(built / name)
        plain = Image.open(photos / files[name]["source"]).convert("RGB")
        scale = min(1.0, 48 / max(plain.size))
        plain = plain.resize((round(plain.width * scale), round(plain.height * scale)), Image.Resampling.BILINEAR)
        assert max(query.size) <= 48
        if record["kind"] == "stranger":
            assert query.size == plain.size
            assert np.abs(np.array(query).astype(int) - np.array(plain)).mean() < 4  # what JPEG leaves of noise


def test_queries_have_all_families_and_strengths_in_turn_held_out_ones_too(photos) -> None:
    draft = Draft(open_source(photos), range(PHOTOS), CopySizes.of(PHOTOS), 0, 2 * 5 * len(FAMILIES), 32)
    for kind in ("copy", "edited stranger"):
        queries = [query for query in draft.queries if query.kind == kind]
        single = Counter((e.family, e.strength) for q in queries for e in q.edits if len(q.edits) == 1)
        assert set(single) == {(family, strength) for family in FAMILIES for strength in STRENGTHS}
        assert len(set(single.values())) == 1
        lengths = Counter(len(query.edits) for query in queries)
        assert set(lengths) == {1, 2, 3, 4}
        assert lengths[1] == len(queries) // 2
        assert set(HELD_OUT) <= {edit.family for query in queries for edit in query.edits if len(query.edits) > 1}


def test_other_pictures_come_from_strangers_alone(photos) -> None:
    read = list[int]()

    class Watched:
        channels, concurrent, labels = 3, True, None

        def __init__(self) -> None:
            self.source = open_source(photos)

        def __len__(self) -> int:
            return len(self.source)

        def read(self, index: int):
            read.append(index)
            return self.source.read(index)

        def name(self, index: int) -> str:
            return self.source.name(index)

        def size(self, index: int) -> tuple[int, int]:
            return self.source.size(index)

        def identity(self) -> str:
            return self.source.identity()

    draft = Draft(Watched(), range(PHOTOS), CopySizes.of(PHOTOS), 3, 4, 32)
    for query in draft.queries:
        read.clear()
        draft.drawn(query)
        others = [edit for edit in query.edits if edit.others]
        assert set(read) - {query.photo} <= set(draft.strangers)
        assert len(read) == 1 + sum(len(edit.others) for edit in others)


def test_duplicates_and_unreadable_files_are_counted_and_no_picture_is_used_twice(tmp_path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(14):
        photo(number, (60, 50)).save(folder / f"{number:03}.png")
    photo(3, (60, 50)).save(folder / "equal.bmp")
    photo(5, (60, 50)).resize((90, 70)).save(folder / "near.jpg", quality=80)
    (folder / "broken.jpg").write_bytes(b"no image")
    out = build_copy_benchmark(folder, tmp_path / "out", **SMALL)
    assert manifest(out)["left_out"] == {"unreadable": 1, "equal": 1, "near": 1}
    used = {file["source"] for file in manifest(out)["files"].values()} - {""}
    assert used == {f"{number:03}.png" for number in range(14)}
    loose = build_copy_benchmark(folder, tmp_path / "loose", near=-1, **SMALL)
    assert manifest(loose)["left_out"] == {"unreadable": 1, "equal": 1, "near": 0}


def test_a_folder_that_is_there_is_used_again_or_refused(photos, built, tmp_path, capsys) -> None:
    before = everything(built)
    with Line() as line:
        assert build_copy_benchmark(photos, built, line=line, **SMALL) == built
    assert "holds this benchmark already" in capsys.readouterr().err
    with pytest.raises(ValueError, match="holds another benchmark \\(seed is 0, not 1\\)"):
        build_copy_benchmark(photos, built, seed=1, **SMALL)
    assert everything(built) == before
    with pytest.raises(ValueError, match="is there and is no benchmark of copies"):
        build_copy_benchmark(photos, photos)
    (tmp_path / "empty").mkdir()
    changed = build_copy_benchmark(photos, tmp_path / "empty", **SMALL)
    (changed / "queries" / "Q00003.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"Q00003\.jpg has changed since it was built"):
        build_copy_benchmark(photos, changed, **SMALL)
    with pytest.raises(ValueError, match="benchmark holds a benchmark of other photos: give the name of a new folder"):
        build_copy_benchmark(built / "training", built, **SMALL)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("references/R000001.jpg", None, "is gone"),
        ("background/B000001.jpg", b"", "has changed"),
        ("ground_truth.csv", b"", "has changed"),
        ("references/more.jpg", b"", "was added"),
    ],
)
def test_what_is_measured_is_what_was_built(built, tmp_path, name, content, fault) -> None:
    place = Path(shutil.copytree(built, tmp_path / "copies"))
    (place / "training" / "T000000.jpg").unlink()  # nothing is measured on it
    (place / "references" / "Thumbs.db").touch()  # nor on what is no image
    with Line(quiet=True) as line:
        demand_frozen(place, line)
        (place / name).unlink() if content is None else (place / name).write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(f"{place / name} {fault} since it was built: undo that, or")):
            demand_frozen(place, line)


def test_a_manifest_that_is_damaged_is_said_and_none_is_fine(built, tmp_path, capsys) -> None:
    place = Path(shutil.copytree(built, tmp_path / "copies"))
    (place / "references" / "R000001.jpg").unlink()
    for damaged in ("{", "[]", '{"asked": {}, "files": {"a": 1}}'):
        (place / "manifest.json").write_text(damaged)
        with Line() as line:
            demand_frozen(place, line)
        assert f"{place / 'manifest.json'} is damaged or of other software" in " ".join(capsys.readouterr().err.split())
    (place / "manifest.json").unlink()
    with Line() as line:
        demand_frozen(place, line)
    assert capsys.readouterr().err == ""


def test_sizes_can_be_asked_for(photos, tmp_path) -> None:
    sizes = CopySizes(training=2, background=3, references=20, sources=5, strangers=4)
    out = build_copy_benchmark(photos, tmp_path / "out", sizes=sizes, **SMALL)
    counts = {part.name: len(list(part.iterdir())) for part in out.iterdir() if part.is_dir()}
    assert counts == {"training": 2, "background": 3, "references": 20, "queries": 5 * 2 + 4 * 2 + 4}


def test_mistakes_are_sentences(photos, tmp_path) -> None:
    out, one = tmp_path / "out", tmp_path / "one"
    one.mkdir()
    photo(0, (30, 30)).save(one / "one.png")
    with pytest.raises(ValueError, match="needs 10 different photos at least, and there are 1"):
        build_copy_benchmark(one, out)
    large = CopySizes(training=30, background=3, references=20, sources=5, strangers=4)
    with pytest.raises(ValueError, match="there are 40 different photos, and the benchmark takes 57"):
        build_copy_benchmark(photos, out, sizes=large)
    with pytest.raises(ValueError, match="each part takes 1 photo or more"):
        CopySizes(training=1, background=0, references=1, sources=1, strangers=1)
    with pytest.raises(ValueError, match="sources are some of the references"):
        CopySizes(training=1, background=1, references=1, sources=2, strangers=1)
    with pytest.raises(ValueError, match="copies=0 and side=512 make no benchmark"):
        build_copy_benchmark(photos, out, copies=0)
    with pytest.raises(ValueError, match="near is a number of 256 bits"):
        build_copy_benchmark(photos, out, near=128)
    assert not out.exists()
