"""Images in tar shards: which are found, under which ids, with which labels, and what a shard that changes does."""

import json
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
from opened import levels, names, sentence
from tars import header, padded, png, tar_bytes, write_tar

from lookalike.data import Files, Folder, Images, Shards, Unreadable, address, cached, decode, labels, open_source
from lookalike.data.places import Local
from lookalike.data.shard_index import indexed


@pytest.fixture
def shards(tmp_path) -> Path:
    """data/: three shards of samples, with labels in them."""
    for number in range(3):
        contents = {}
        for sample in range(4):
            value = 10 * (4 * number + sample)
            contents[f"{sample:03}.json"] = json.dumps({"what": {"kind": f"k{value % 20}"}, "n": sample}).encode()
            contents[f"{sample:03}.png"] = png(value)
            contents[f"{sample:03}.cls"] = b"%d\n" % (sample % 2)
        write_tar(tmp_path / "data" / f"s-{number:02}.tar", contents)
    return tmp_path / "data"


def test_samples_are_the_images_in_the_order_of_shards_and_members(shards):
    source = open_source(shards)
    assert isinstance(source, Shards)
    assert isinstance(source, Images)
    assert names(source) == [f"s-{shard:02}.tar/{sample:03}.png" for shard in range(3) for sample in range(4)]
    assert levels(source) == list(range(0, 120, 10))
    assert source.read(7).equal(decode(png(70)))
    assert source.size(3) == (4, 5)
    assert source.labels is None
    assert open_source(shards, channels=1).read(7).equal(decode(png(70), channels=1))


def test_a_folder_a_pattern_a_list_paths_and_uris_are_the_same_data(shards, tmp_path, monkeypatch):
    first = open_source(shards)
    listing = tmp_path / "shards.txt"
    listing.write_text("# three\ndata/s-00.tar\ndata/s-01.tar\ndata/s-02.tar\n")
    paths = [shards / f"s-{number:02}.tar" for number in range(3)]
    monkeypatch.chdir(shards)
    ways = [
        str(shards / "s-{00..02}.tar"),
        "s-{00,01,02}.tar",
        listing,
        paths,
        [path.as_uri() for path in paths],
        f"file://{shards}/s-{{00..02}}.tar",
    ]
    for way in ways:
        source = open_source(way)
        assert isinstance(source, Shards), way
        assert names(source) == names(first)
        assert source.identity() == first.identity()
        assert levels(source) == levels(first)
    one = open_source("s-01.tar")
    assert names(one)[0] == "s-01.tar/000.png"
    assert levels(one) == [40, 50, 60, 70]


def test_the_same_files_in_a_folder_and_in_a_tar_are_the_same_pixels(tmp_path):
    for value, name in enumerate(["a/x.png", "a/y.png", "b/x.PNG", "c.jpg"]):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(png(20 * value))
    folder = Folder(tmp_path / "photos")
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for name in [".", *folder.names]:
            tar.add(tmp_path / "photos" / name, f"./{name}", recursive=False)
    source = open_source(tmp_path / "photos.tar")
    assert names(source) == [f"photos.tar/{name}" for name in folder.names]
    assert all(source.read(i).equal(folder.read(i)) for i in range(4))


def test_what_is_hidden_a_link_or_no_image_is_left_out(tmp_path):
    contents = {name: png(1) for name in [".a.png", "._b.png", "x/.y/c.png", "../../etc/d.png", "x/../e.png"]}
    write_tar(tmp_path / "odd.tar", contents | {"readme.txt": b"", "noextension": b"", "/abs/good.png": png(9)})
    assert names(open_source(tmp_path / "odd.tar")) == ["odd.tar/abs/good.png"]
    data = header(b"link.png", 0, b"2") + header(b"hard.png", 0, b"1") + header(b"good.png", 3) + padded(b"abc")
    (tmp_path / "links.tar").write_bytes(data)
    assert names(open_source(tmp_path / "links.tar")) == ["links.tar/good.png"]


def test_several_images_in_a_sample_are_a_question(tmp_path):
    pairs = {f"{n}.{kind}": png(10 * n + offset) for n in range(3) for kind, offset in (("jpg", 0), ("seg.png", 5))}
    file = write_tar(tmp_path / "pairs.tar", pairs | {"0.json": b"{}"})
    assert sentence(file) == (
        f"{file} has several images in a sample, as 0 has .jpg and .seg.png: choose one with --column jpg, or take "
        "each image by itself with --column each"
    )
    assert levels(open_source(file, column="jpg")) == [0, 10, 20]
    assert names(open_source(file, column=".seg.png"))[0] == "pairs.tar/0.seg.png"
    assert levels(open_source(file, column="each")) == [0, 5, 10, 15, 20, 25]
    assert sentence(file, column="webp") == (
        f"{file} has no member with the extension 'webp', but .jpg, .seg.png, .json: choose another with --column"
    )
    far = write_tar(
        tmp_path / "far.tar", {"a/holiday.2019.jpg": png(1), "b/x.jpg": png(1), "a/holiday.2020.jpg": png(2)}
    )
    assert "as a/holiday has .2019.jpg and .2020.jpg" in sentence(far)
    apart = {"a/x.jpg": png(1), "b/x.jpg": png(2), "ab/x.jpg": png(3), "c.d/x.jpg": png(4), "c.e/x.jpg": png(5)}
    assert len(open_source(write_tar(tmp_path / "apart.tar", apart))) == 5  # a dot in a folder's name ends no key


def test_labels_are_read_only_when_asked_for(shards):
    source = open_source(shards)
    found, classes = labels(source, "cls")
    assert found.tolist() == [0, 1] * 6
    assert classes == ("0", "1")
    found, classes = labels(source, "json:what.kind")
    assert classes == ("k0", "k10")
    assert found.tolist() == [0, 1] * 6
    assert labels(source, "json:n")[1] == ("0", "1", "2", "3")
    csv = shards.parent / "labels.csv"
    csv.write_text("".join(f"{name},{name[2:4]}\n" for name in names(source)))
    assert labels(source, csv)[0].tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_folders_inside_a_tar_are_classes(tmp_path):
    file = write_tar(tmp_path / "pets.tar", {"dog/1.png": png(1), "cat/a/1.png": png(2), "dog/2.png": png(3)})
    found, classes = labels(open_source(file), "folders")
    assert classes == ("cat", "dog")
    assert found.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            "folders",
            "labels missing: 12 of 12 images have none by --labels folders, the first is s-00.tar/000.png: add",
        ),
        ("json:where", "labels missing: 12 of 12 images have none by --labels json:where"),
        ("json:what", "labels missing: 12 of 12"),  # an object is no label
        ("json:n.x", "labels missing: 12 of 12"),
        ("column:label", "--labels column:label is not possible here: cls and json:FIELD are for tar shards"),
        ("json", "json cannot be opened (No such file or directory): give --labels folders, or a CSV file"),
    ],
)
def test_labels_that_are_not_there(shards, spec, said):
    with pytest.raises(ValueError) as caught:
        labels(open_source(shards), spec)
    assert str(caught.value).startswith(said)


def test_labels_that_are_broken_are_missing(tmp_path):
    contents = {f"{n}.png": png(n) for n in range(5)} | {
        "0.cls": b"a",
        "1.cls": b" \n",
        "2.json": b"{",
        "3.json": b"[]",
    }
    source = open_source(write_tar(tmp_path / "x.tar", contents | {"4.json": b"[" * 100_000, "0.json": b'{"a":"b"}'}))
    for spec in ("cls", "json:a"):
        with pytest.raises(ValueError, match=r"4 of 5 images have none by .*, the first is x\.tar/1\.png"):
            labels(source, spec)
    with pytest.raises(ValueError, match="cls and json:FIELD are for tar shards"):
        labels(Files("", ["a.png"]), "cls")


def test_identity_follows_names_and_sizes_and_not_the_place(shards, tmp_path):
    first = open_source(shards).identity()
    assert len(first) == 32
    shards.rename(tmp_path / "moved")
    shards = tmp_path / "moved"
    os.utime(shards / "s-00.tar", (0, 0))
    assert open_source(shards).identity() == first
    assert open_source(shards, channels=1).identity() == first
    seen = {first}
    original = (shards / "s-01.tar").read_bytes()
    for contents in [
        {"000.png": png(1), "001.png": png(1)},
        {"000.png": png(1), "002.png": png(1)},
        {"000.png": png(1), "002.png": png(1) + b"more"},
        {"002.png": png(1) + b"more", "000.png": png(1)},
    ]:
        write_tar(shards / "s-01.tar", contents)
        seen.add(open_source(shards).identity())
    (shards / "s-01.tar").write_bytes(original)
    (shards / "s-01.tar").rename(shards / "s-09.tar")
    seen.add(open_source(shards).identity())
    assert len(seen) == 6
    one, two = tmp_path / "one", tmp_path / "two"  # the border between shards counts: it is part of the ids
    write_tar(one / "a.tar", {"1.png": png(1), "2.png": png(1)})
    write_tar(one / "b.tar", {"3.png": png(1)})
    write_tar(two / "a.tar", {"1.png": png(1)})
    write_tar(two / "b.tar", {"2.png": png(1), "3.png": png(1)})
    assert open_source(one).identity() != open_source(two).identity()


def unreadable(source: Images, index: int) -> str:
    with pytest.raises(Unreadable) as caught:
        source.read(index)
    assert caught.value.path == source.name(index)
    with pytest.raises(Unreadable):
        source.size(index)
    return caught.value.reason


CHANGED = "its shard was changed after the start: restore it, or start again"


@pytest.mark.timeout(60)
def test_a_shard_that_changes_meanwhile_is_counted_like_unreadable_files(shards):
    source, file = open_source(shards), shards / "s-01.tar"
    original = file.read_bytes()
    os.utime(file, (0, 0))  # a copy with another time is the same shard
    assert source.read(4).float().mean() == 40
    file.write_bytes(tar_bytes({f"{n:03}.png": png(200 + n) for n in range(9)}))
    assert unreadable(source, 5) == CHANGED
    assert source.read(3).float().mean() == 30  # other shards are as they were
    file.write_bytes(original[:2000])
    assert unreadable(source, 7) == CHANGED
    file.unlink()
    assert unreadable(source, 4) == "No such file or directory"
    os.mkfifo(file)
    assert unreadable(source, 4) == "Illegal seek"
    file.unlink()
    file.mkdir()
    assert unreadable(source, 4) == "Is a directory"
    file.rmdir()
    file.write_bytes(original)
    assert source.read(4).float().mean() == 40


def test_members_of_a_size_that_cannot_be(tmp_path):
    size = 60_000_000
    with (tmp_path / "big.tar").open("wb") as file:
        file.write(header(b"empty.png", 0) + header(b"text.png", 5) + padded(b"hello") + header(b"big.png", size))
        file.truncate(4 * 512 + size + 1024)
        file.seek(0, os.SEEK_END)
    source = open_source(tmp_path / "big.tar")
    assert unreadable(source, 0) == "the member is empty"
    assert unreadable(source, 1).startswith("its content is not JPEG, PNG")
    assert unreadable(source, 2) == "60,000,000 bytes are more than the 50,000,000 allowed: save it smaller"


def test_processes_and_threads_share_a_source(shards):
    source = open_source(shards)
    expected = levels(source)
    other = ForkingPickler.loads(ForkingPickler.dumps(source))  # what a worker that is not forked gets
    assert levels(other) == expected
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: int(source.read(i % 12).float().mean()), range(240))) == expected * 20
    loader = torch.utils.data.DataLoader(range(12), batch_size=None, num_workers=2, collate_fn=source.read)
    assert [int(image.float().mean()) for image in loader] == expected
    assert cached(source).pixels(torch.tensor([7, 2])).float().mean((1, 2, 3)).tolist() == [70, 20]


def test_hearing_how_far_the_index_is(shards):
    heard = []
    open_source(shards, on_progress=lambda done, total: heard.append((done, total)))
    assert heard == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_what_cannot_be_opened_is_said_in_a_sentence(shards, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = tar_bytes({"a.png": png(1)})
    made = {
        "empty.tar": b"",
        "ended.tar": bytes(10240),
        "text.tar": b"no tar at all " * 100,
        "cut.tar": tar_bytes({"a.png": png(1), "b.png": png(2) * 20})[:2000],
        "damaged.tar": good[:1024] + b"x" * 512 + good,
        "papers.tar": tar_bytes({"a.txt": b"x", "b.txt": b"y", "c.pdf": b"z", ".d.png": png(1)}),
        "photos.tar.gz": b"\x1f\x8b" + bytes(90),
        "photos.zip": b"PK\x03\x04" + bytes(90),
    }
    for name, data in made.items():
        Path(name).write_bytes(data)
    assert sentence("empty.tar") == "empty.tar is an empty tar: pack it again, or leave it out"
    assert sentence("ended.tar") == "ended.tar is an empty tar: pack it again, or leave it out"
    assert sentence("text.tar").startswith("text.tar is no tar, it does not begin with the header of one: give what")
    assert sentence("cut.tar").startswith("cut.tar is cut off inside b.png, ")
    assert sentence("damaged.tar").startswith("damaged.tar is damaged at byte 1,024, where a header should be: copy it")
    assert sentence("papers.tar").startswith(
        "papers.tar holds no image of a kind that can be read, but 4 other files (.txt: 2, .pdf: 1, hidden: 1): convert"
    )
    assert sentence("photos.tar.gz").endswith("decompress it once, with gzip -d, and give the .tar")
    assert sentence("photos.zip").endswith("decompress it once, with unzip, and give the folder")
    assert sentence("gone.tar").startswith("gone.tar does not exist: give a folder of images")
    assert sentence("data/s-{00..04}.tar") == (
        "2 of 5 shards do not exist, the first is data/s-03.tar: check the names, or leave them out"
    )
    assert sentence("data/x-{00..04}.tar") == (
        "the pattern data/x-{00..04}.tar matches nothing: of its 5 files, the first data/x-00.tar, none exists; check "
        "the numbers and the folder"
    )
    assert sentence(["data/s-00.tar", "a.png"]).startswith(
        "1 of 2 names are tar files, as data/s-00.tar, and others are not, as a.png: give tar files alone"
    )
    assert sentence(["data/s-00.tar", "empty.tar"]).startswith("empty.tar is an empty tar")
    Path("data/s-00.tar").chmod(0)
    if os.geteuid():
        assert "data/s-00.tar cannot be read: Permission denied" in sentence("data")


def test_a_folder_with_images_is_a_folder_of_images_whatever_else_is_in_it(shards):
    (shards / "notes").mkdir()
    (shards / "notes" / "readme.md").write_text("x")
    assert isinstance(open_source(shards), Shards)
    (shards / "notes" / "a.png").write_bytes(png(3))
    assert names(open_source(shards)) == ["notes/a.png"]


def test_an_index_is_columns_of_a_few_bytes(tmp_path):
    data = b"".join(header(b"%06d.jpg" % number, 1) + padded(b"x") for number in range(500))
    (tmp_path / "many.tar").write_bytes(data)
    index = indexed([Local(str(tmp_path / "many.tar"))] * 2)
    assert len(index) == 1000
    assert index.name(999) == b"000499.jpg"
    assert index.shard.tolist() == [0] * 500 + [1] * 500
    columns = (index.shard, index.start, index.size, index.check, index.end)
    assert sum(column.nbytes for column in columns) + len(index.names) == (4 + 8 + 8 + 4 + 8 + 10) * 1000


def test_how_another_process_finds_data_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for thing in ("hf:owner/name", "s3://bucket/s-{0..1}.tar", "file:///a.tar"):
        assert address(thing) == thing
    assert address(Path("photos")) == str(tmp_path / "photos")
    assert address("s-{0..1}.tar") == str(tmp_path / "s-{0..1}.tar")
    assert address(["a.png"]) is None
