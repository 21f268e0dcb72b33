"""Folders, lists and whatever else images come from: which are found, in which order, under which names."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from opened import names, sentence
from PIL import Image

from lookalike.data import Files, Folder, Images, Listing, Unreadable, Wrapped, decode, open_source
from lookalike.data.images import evenly


def draw(path: Path, value: int = 0, height: int = 4, width: int = 4) -> Path:
    """A file of one gray level, whatever its extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".webp": "WEBP", ".gif": "GIF"}.get(path.suffix.lower(), "PNG")
    Image.new("L", (width, height), value).save(path, kind)
    return path


def test_a_nested_folder_is_read_in_the_order_of_names(tmp_path):
    for value, name in enumerate(["b.png", "a/z.PNG", "a/b/c.jpg", "a.webp", "Z.gif", "c/x.tiff"]):
        draw(tmp_path / name, 10 * value)
    folder = Folder(tmp_path)
    assert names(folder) == ["Z.gif", "a.webp", "a/b/c.jpg", "a/z.PNG", "b.png", "c/x.tiff"]
    assert [int(folder.read(i).float().mean()) for i in range(6)] == [40, 30, 20, 10, 0, 50]
    assert folder.read(3).shape == (3, 4, 4)
    assert Folder(tmp_path, channels=1).read(3).shape == (1, 4, 4)
    assert folder.size(2) == (4, 4)
    assert isinstance(folder, Images)
    assert folder.labels is None


def test_what_is_not_an_image_is_ignored_and_counted(tmp_path):
    for name in ["a.png", ".hidden.png", "._a.png", ".thumbnails/b.png"]:
        draw(tmp_path / name)
    for name in ["notes.txt", "more.TXT", "README", "raw.heic"]:
        (tmp_path / name).write_text("x")
    folder = Folder(tmp_path)
    assert names(folder) == ["a.png"]
    assert folder.ignored == {"hidden": 3, ".txt": 2, "no extension": 1, ".heic": 1}


def test_links_are_followed_and_loops_end(tmp_path):
    draw(tmp_path / "real/one.png", 1)
    draw(tmp_path / "far/two.png", 2)
    (tmp_path / "real/up").symlink_to(tmp_path)
    (tmp_path / "real/self").symlink_to("self")
    (tmp_path / "real/file.png").symlink_to("../far/two.png")
    (tmp_path / "real/again").symlink_to("../far")
    folder = Folder(tmp_path / "real")
    # real/up leads back above: everything there is found once, through the first way in the order of names
    assert names(folder) == ["again/two.png", "file.png", "one.png"]
    assert folder.read(1).unique().tolist() == [2]


def test_a_thousand_cross_links_cost_nothing(tmp_path):
    folders = [tmp_path / f"d{i}" for i in range(12)]
    for i, folder in enumerate(folders):
        draw(folder / f"{i}.png")
        for other in folders:
            (folder / f"to_{other.name}").symlink_to(other)
    assert len(Folder(tmp_path)) == 12  # 12! ways, each folder once


def test_names_of_any_kind(tmp_path):
    odd = [
        "Zürich.png",
        "北京/图.png",
        "new\nline.png",
        "tab\t.png",
        " space .png",
        "#hash.png",
        "quote'\".png",
        "a" * 251 + ".png",
    ]
    for value, name in enumerate(sorted(odd)):
        draw(tmp_path / name, value)
    raw = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    Path(os.fsdecode(raw)).write_bytes((tmp_path / "Zürich.png").read_bytes())
    folder = Folder(tmp_path)
    assert names(folder) == sorted([*odd, os.fsdecode(b"\xff\xfe.png")])
    for index, name in enumerate(names(folder)[:-1]):
        assert folder.read(index).unique().tolist() == [sorted(odd).index(name)]
    assert folder.read(len(folder) - 1).shape == (3, 4, 4)
    assert len(folder.identity()) == 32


def test_a_folder_named_like_an_image_is_a_folder(tmp_path):
    draw(tmp_path / "x.jpg/y.png")
    assert names(Folder(tmp_path)) == ["x.jpg/y.png"]


@pytest.mark.timeout(20)
def test_whatever_has_the_name_of_an_image_is_found_unreadable_when_read(tmp_path):
    draw(tmp_path / "good.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    (tmp_path / "text.jpg").write_text("no picture")
    draw(tmp_path / "deleted.png")
    folder = Folder(tmp_path)
    (tmp_path / "deleted.png").unlink()
    assert names(folder) == ["dangling.jpg", "deleted.png", "good.png", "pipe.png", "text.jpg"]
    for index, readable in enumerate([False, False, True, False, False]):
        if readable:
            assert folder.read(index).shape == (3, 4, 4)
            continue
        with pytest.raises(Unreadable) as caught:
            folder.read(index)
        assert caught.value.path == str(tmp_path / folder.name(index))


def test_identity_follows_names_and_sizes_and_nothing_else(tmp_path):
    for name in ("a.png", "b/c.png"):
        draw(tmp_path / "one" / name, 3)
        draw(tmp_path / "two" / name, 3)
    os.utime(tmp_path / "two/a.png", (0, 0))
    first = Folder(tmp_path / "one").identity()
    assert Folder(tmp_path / "two").identity() == first
    assert Folder(tmp_path / "two", channels=1).identity() == first
    (tmp_path / "two/a.png").rename(tmp_path / "two/b.png")
    renamed = Folder(tmp_path / "two").identity()
    (tmp_path / "two/b.png").write_bytes(b"longer" * 999)
    resized = Folder(tmp_path / "two").identity()
    draw(tmp_path / "one/new.png")
    assert len({first, renamed, resized, Folder(tmp_path / "one").identity()}) == 4
    folder = Folder(tmp_path / "one")
    (tmp_path / "one/new.png").unlink()
    assert folder.identity() != first  # a missing file counts as missing


def test_what_cannot_be_opened_is_said_in_a_sentence(tmp_path):
    empty, other = tmp_path / "empty", tmp_path / "other"
    empty.mkdir()
    other.mkdir()
    for name in ["a.heic", "b.heic", "c.txt", ".d.png"]:
        (other / name).touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    assert sentence(tmp_path / "gone").startswith(f"{tmp_path}/gone does not exist: give a folder of images")
    assert sentence(empty).startswith(f"{empty} is empty: give a folder that holds images (JPEG, PNG")
    assert (
        "holds no image of a kind that can be read, but 4 other files (.heic: 2, .txt: 1, hidden: 1): convert"
        in sentence(other)
    )
    assert "is a link to nothing" in sentence(tmp_path / "link")
    assert "is neither a folder nor a file" in sentence(tmp_path / "pipe")
    assert "cannot be opened" in sentence("nul\0")
    assert "come from int" in sentence(5)
    assert "come from generator" in sentence(x for x in "ab")
    assert "the data set is empty" in sentence([])
    assert "channels are not supported" in sentence(draw(tmp_path / "a.png"), channels=2)


def test_a_folder_without_permission_is_an_error_wherever_it_lies(unprivileged):
    draw(unprivileged / "photos/a.png")
    draw(unprivileged / "photos/private/b.png")
    (unprivileged / "photos/private").chmod(0)
    assert f"{unprivileged}/photos/private/ cannot be listed (Permission denied)" in sentence(unprivileged / "photos")
    (unprivileged / "photos").chmod(0)
    assert "cannot be listed (Permission denied)" in sentence(unprivileged / "photos")
    assert "cannot be opened (Permission denied)" in sentence(unprivileged / "photos/private")


def test_opening_opens_no_file(unprivileged):
    for number in range(5):
        draw(unprivileged / f"{number}.png").chmod(0)
    folder = Folder(unprivileged)
    assert names(folder) == [f"{number}.png" for number in range(5)]
    assert len(folder.identity()) == 32
    with pytest.raises(Unreadable, match="Permission denied"):
        folder.read(0)


def test_a_list_of_paths(tmp_path, monkeypatch):
    draw(tmp_path / "lists/in side.png", 1)
    outside = draw(tmp_path / "far/out.png", 2)
    file = tmp_path / "lists/images.txt"
    file.write_bytes(f"\ufeff# comment\r\n\r\nin side.png\r\n{outside}\n  \n../far/out.png\ngone.jpg".encode())
    listing = open_source(file)
    assert isinstance(listing, Listing)
    assert names(listing) == ["in side.png", str(outside), "../far/out.png", "gone.jpg"]
    assert [listing.read(i).unique().tolist() for i in range(3)] == [[1], [2], [2]]
    with pytest.raises(Unreadable, match=r"gone\.jpg cannot be read: No such file"):
        listing.read(3)
    monkeypatch.chdir(tmp_path / "lists")
    assert names(open_source("images.txt")) == names(listing)
    assert open_source("images.txt").read(0).unique().tolist() == [1]


def test_what_is_no_list_is_said(tmp_path):
    file = tmp_path / "file"
    for content, found in [
        (b"", "is an empty list"),
        (b"# nothing\n\n", "is an empty list"),
        (b"\x7fELF\0\0\0", "is not text"),
        (b"name,label\na.png,1\n", "lists no image that exists, the first line is 'name,label'"),
    ]:
        file.write_bytes(content)
        assert found in sentence(file)


def test_a_path_to_one_image_is_a_source_of_one(tmp_path, monkeypatch):
    file = draw(tmp_path / "query.png", 7)
    source = open_source(str(file))
    assert names(source) == ["query.png"]
    assert source.read(0).unique().tolist() == [7]
    monkeypatch.chdir(tmp_path)
    assert open_source("query.png").read(0).unique().tolist() == [7]
    assert len(open_source(tmp_path)) == 1


def test_paths_sources_and_data_sets(tmp_path):
    files = [draw(tmp_path / "a.png", 1), draw(tmp_path / "b.png", 2)]
    source = open_source([files[1], str(files[0])])
    assert isinstance(source, Files)
    assert names(source) == [str(files[1]), str(files[0])]
    assert source.read(0).unique().tolist() == [2]
    assert open_source(source) is source
    assert isinstance(open_source([Image.open(files[0])]), Wrapped)
    assert isinstance(open_source(torch.zeros(3, 1, 4, 4, dtype=torch.uint8)), Wrapped)


@pytest.mark.parametrize(("size", "count"), [(1, 64), (64, 64), (65, 64), (1000, 64), (10**6, 7)])
def test_evenly_spaced_numbers(size, count):
    picked = evenly(size, count)
    assert len(set(picked)) == len(picked) == min(size, count)
    assert picked == sorted(picked)
    assert picked[0] >= 0
    assert picked[-1] < size
    steps = np.diff([*picked, size])
    assert steps.max() - steps.min() <= 1


def test_real_files(shared_data, tmp_path):
    packed = np.load(shared_data / "cifar10_jpeg.npz")
    data, start = packed["train_jpeg"], packed["train_off"]
    for i in range(20):
        (tmp_path / f"{i:03d}.jpg").write_bytes(data[start[i] : start[i + 1]].tobytes())
    folder = Folder(tmp_path)
    for i in range(20):
        content = (tmp_path / f"{i:03d}.jpg").read_bytes()
        expected = np.asarray(Image.open(io.BytesIO(content))).transpose(2, 0, 1)
        assert (folder.read(i).numpy() == expected).all()
        assert (decode(content) == folder.read(i)).all()
        assert folder.size(i) == (32, 32)
