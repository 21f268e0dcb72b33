"""Images behind URIs: from memory, from files and from a web server that fails in all the ways it can."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import torch
from opened import levels, names, sentence
from server import Server, serving
from tars import png, tar_bytes

from lookalike.data import Images, Shards, Unreadable, Uris, decode, open_source
from lookalike.data.places import Local, is_uri, local_path
from lookalike.data.remote import Remote

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """fsspec's own store in memory, empty before and after."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()


@pytest.fixture
def web() -> Iterator[Server]:
    pytest.importorskip("aiohttp", reason="http needs aiohttp: pip install 'lookalike[remote]'")
    with serving() as server:
        yield server


def quick(uri: str) -> Remote:
    return Remote(uri, timeout=0.3, attempts=3, wait=0.01)


def refused(action) -> str:
    with pytest.raises(OSError) as caught:
        action()
    return str(caught.value.strerror or caught.value)


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("s3://bucket/a", True),
        ("https://x/y?z=1", True),
        ("a+b-c.d://x", True),
        ("photos/a.jpg", False),
        ("C:\\photos", False),
        ("://x", False),
        ("a b://x", False),
        ("hf:owner/name", False),
    ],
)
def test_what_is_a_uri(text, uri):
    assert is_uri(text) is uri


def test_file_uris_are_paths(tmp_path):
    path = tmp_path / "a b%20ü.png"
    assert local_path(path.as_uri()) == str(path)
    assert local_path("file://localhost/a") == "/a"
    assert local_path("memory://a") is None


def test_a_list_of_paths_and_uris(tmp_path, memory):
    memory.pipe({"/photos/a.png": png(10), "/photos/b c.png": png(20)})
    (tmp_path / "near").mkdir()
    (tmp_path / "near/x.png").write_bytes(png(30))
    (tmp_path / "y z.png").write_bytes(png(40))
    lines = ["memory://photos/a.png", "near/x.png", (tmp_path / "y z.png").as_uri(), "memory://photos/b c.png"]
    (tmp_path / "list.txt").write_text("# mixed\n" + "\n".join([*lines, "memory://photos/gone.png", "gone.png"]))
    source = open_source(tmp_path / "list.txt")
    assert isinstance(source, Uris)
    assert isinstance(source, Images)
    assert names(source)[:4] == lines
    assert [int(source.read(i).float().mean()) for i in range(4)] == [10, 30, 40, 20]
    assert source.read(0).equal(decode(png(10)))
    assert source.size(0) == source.size(1) == (4, 5)
    for index, reason in ((4, "it does not exist"), (5, "No such file or directory")):
        with pytest.raises(Unreadable) as caught:
            source.read(index)
        assert (caught.value.path, caught.value.reason) == (source.name(index), reason)
    memory.pipe("/photos/a.png", b"")
    with pytest.raises(Unreadable, match=r"^memory://photos/a\.png cannot be read: the file is empty$"):
        source.read(0)
    assert names(open_source(lines)) == lines
    assert open_source(lines, channels=1).read(3).shape == (1, 4, 5)
    assert levels(open_source("memory://photos/b c.png")) == [20]


def test_a_list_that_lies_elsewhere_names_files_beside_it(memory):
    memory.pipe({"/p/list.txt": b"a.png\nmemory://q/b.png\n", "/p/a.png": png(1), "/q/b.png": png(2)})
    source = open_source("memory://p/list.txt")
    assert names(source) == ["a.png", "memory://q/b.png"]
    assert levels(source) == [1, 2]
    memory.pipe({"/p/tars.txt": b"x/1.tar\nx/2.tar\n", "/p/x/1.tar": tar_bytes({"a.png": png(3)})})
    memory.pipe("/p/x/2.tar", tar_bytes({"a.png": png(4)}))
    assert levels(open_source("memory://p/tars.txt")) == [3, 4]


def test_identity_of_a_list_follows_its_names_and_lengths(memory):
    files = {f"/p/{number:03}.png": png(number) for number in range(70)}
    memory.pipe(files)
    lines = [f"memory:/{name}" for name in files]
    first = open_source(lines).identity()
    assert len(first) == 32
    assert open_source(lines).identity() == first
    memory.pipe("/p/000.png", png(0) + b"longer")
    others = [open_source(lines).identity(), open_source(lines[:-1]).identity(), open_source(lines[::-1]).identity()]
    memory.rm("/p/000.png")
    assert len({first, *others, open_source(lines).identity()}) == 5


def test_shards_by_uri(memory, tmp_path):
    for number in range(3):
        data = tar_bytes({f"{n}.png": png(10 * number + n) for n in range(3)} | {"0.cls": b"x"})
        memory.pipe(f"/data/s-{number}.tar", data)
        (tmp_path / f"s-{number}.tar").write_bytes(data)
    source = open_source("memory://data/s-{0..2}.tar")
    assert isinstance(source, Shards)
    assert names(source)[3] == "s-1.tar/0.png"
    assert levels(source) == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert source.identity() == open_source(tmp_path).identity()  # what moves to a store is the same data
    memory.pipe("/data/s-1.tar", tar_bytes({"new.png": png(1)}))
    with pytest.raises(Unreadable, match=r"s-1\.tar/0\.png cannot be read: its shard was changed after the start"):
        source.read(3)
    memory.rm("/data/s-1.tar")
    with pytest.raises(Unreadable, match="it does not exist"):
        source.read(3)
    assert sentence("memory://data/s-{0..2}.tar") == (
        "memory://data/s-1.tar cannot be read: it does not exist; check the path and its server"
    )


def test_copies_are_kept_and_used(memory, tmp_path):
    memory.pipe({"/p/a.png": png(7), "/p/s.tar": tar_bytes({"x.png": png(8)})})
    kept = str(tmp_path / "kept")
    images, shard = open_source(["memory://p/a.png"], download=kept), open_source("memory://p/s.tar", download=kept)
    assert (levels(images), levels(shard)) == ([7], [8])
    assert {path.suffix for path in Path(kept).iterdir()} == {".png", ".tar"}
    identity = shard.identity()
    memory.pipe("/p/a.png", b"changed")
    assert levels(images) == [7]  # not asked for again
    assert open_source("memory://p/s.tar").identity() == identity
    memory.pipe("/p/s.tar", tar_bytes({"x.png": png(8), "y.png": png(9)}) + bytes(10240))
    assert levels(open_source("memory://p/s.tar", download=kept)) == [8, 9]  # of another length: copied anew
    memory.store.clear()
    assert levels(images) == [7]


def test_a_folder_that_cannot_keep_copies(memory, tmp_path):
    (tmp_path / "file").write_text("")
    memory.pipe({"/p/a.png": png(7), "/p/s.tar": tar_bytes({"x.png": png(8)})})
    for thing in ("memory://p/a.png", "memory://p/s.tar"):
        with pytest.raises(ValueError, match=r"cannot keep copies .*: free space there, or choose another") as caught:
            open_source(thing, download=str(tmp_path / "file" / "kept")).read(0)
        assert not isinstance(caught.value, Unreadable)


def test_what_cannot_be_opened_is_said_in_a_sentence(memory, monkeypatch, tmp_path):
    assert sentence("nosuch://bucket/a.tar") == (
        "nosuch://bucket/a.tar cannot be opened, nosuch:// is no scheme that fsspec knows: "
        "write http://, https://, s3://, gs:// or file://, or a path"
    )
    assert "nosuch:// is no scheme" in sentence(["a.png", "nosuch://b/a.png"])
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as if it were not installed
    assert sentence("s3://bucket/shard-{0..3}.tar") == (
        "s3://bucket/shard-0.tar cannot be opened, s3:// needs a package that is not installed (Install s3fs to access "
        "S3): pip install 'lookalike[remote]', or that package"
    )
    assert sentence("memory://photos").startswith(
        "memory://photos is none of a .tar, an image and a list of URIs (.txt"
    )
    assert sentence("memory://gone.txt") == "memory://gone.txt cannot be read: it does not exist; check the address"
    assert sentence(f"file://{tmp_path}/gone.tar").startswith(f"{tmp_path}/gone.tar does not exist")
    memory.pipe({"/none.txt": b"# none\n", "/zero.tar": b"", "/text.tar": b"text" * 900, "/list.txt": b"a\0b"})
    assert sentence("memory://none.txt").startswith("memory://none.txt is an empty list")
    assert sentence("memory://list.txt").startswith("memory://list.txt is not text")
    assert sentence("memory://zero.tar").startswith("memory://zero.tar is an empty tar")
    assert sentence("memory://text.tar").startswith("memory://text.tar is no tar")


def test_parts_of_a_file(memory, web, tmp_path):
    data = bytes(range(256)) * 5
    memory.pipe("/x.bin", data)
    web.files["/x.bin"] = data
    (tmp_path / "x.bin").write_bytes(data)
    for place in (Remote("memory://x.bin"), quick(f"{web.root}/x.bin"), Local(str(tmp_path / "x.bin"))):
        assert place.length() == len(data)
        for start, length in ((0, 1), (0, 5000), (700, 10), (1270, 100), (1280, 5), (9000, 5)):
            assert place.read(start, length) == data[start : start + length], (place, start, length)
        with place.open(len(data)) as file:
            assert file.read() == data
            assert file.seek(1000) == 1000
            assert file.read(3) == data[1000:1003]


def test_images_and_shards_from_a_web_server(web):
    web.files = {"/a b.png": png(1), "/s-0.tar": tar_bytes({"x.png": png(2)}), "/s-1.tar": tar_bytes({"x.png": png(3)})}
    assert levels(open_source([f"{web.root}/a b.png", f"{web.root}/a%20b.png?size=1"])) == [1, 1]
    source = open_source(f"{web.root}/s-{{0..1}}.tar?signature=a.b")
    assert names(source) == ["s-0.tar/x.png", "s-1.tar/x.png"]
    assert levels(source) == [2, 3]
    loader = torch.utils.data.DataLoader(range(2), batch_size=None, num_workers=1, collate_fn=source.read)
    assert [int(image.float().mean()) for image in loader] == [2, 3]  # in a forked process, behind open connections


def test_what_fails_for_the_moment_is_tried_again(web):
    web.files["/x"] = b"data"
    web.failing = 2
    assert quick(f"{web.root}/x").read(0, 10) == b"data"
    assert len(web.asked) == 3
    web.failing = 9
    assert refused(lambda: quick(f"{web.root}/x").read(0, 10)) == "the server answers 503 (3 tries)"
    assert web.failing == 6
    web.failing = 0
    web.cut.add("/x")
    assert "(3 tries)" in refused(lambda: quick(f"{web.root}/x").read(0, 10))
    web.stalled.add("/x")
    assert refused(lambda: quick(f"{web.root}/x").read(0, 10)) == "there is no answer in time (3 tries)"


def test_what_fails_for_good_is_asked_once(web):
    assert refused(lambda: quick(f"{web.root}/gone").read(0, 10)) == "it does not exist"
    assert refused(lambda: quick(f"{web.root}/private").read(0, 10)) == "access is denied"
    assert web.asked == ["GET /gone", "GET /private"]


def test_a_server_that_is_not_there():
    assert "(3 tries)" in refused(lambda: quick("http://127.0.0.1:9/x").read(0, 1))


def test_a_server_that_sends_whole_files_only(web, tmp_path):
    web.parts = False
    web.files = {"/s.tar": tar_bytes({"x.png": png(5)}), "/a.png": png(6)}
    assert levels(open_source(f"{web.root}/a.png")) == [6]
    assert sentence(f"{web.root}/s.tar") == (
        f"{web.root}/s.tar cannot be read: the server sends whole files only, no parts: keep copies, with --download "
        "FOLDER; check the path and its server"
    )
    assert levels(open_source(f"{web.root}/s.tar", download=str(tmp_path))) == [5]


def test_a_copy_is_whole_or_not_at_all(web, tmp_path):
    web.files["/a.png"] = png(9)
    web.cut.add("/a.png")
    assert "tries)" in refused(lambda: quick(f"{web.root}/a.png").copy(str(tmp_path)))
    assert list(tmp_path.iterdir()) == []
    web.cut.clear()
    web.failing = 1
    copy = quick(f"{web.root}/a.png").copy(str(tmp_path))
    assert Path(copy.path).read_bytes() == png(9)
    asked = len(web.asked)
    assert quick(f"{web.root}/a.png").copy(str(tmp_path)) == copy
    assert len(web.asked) == asked
    (tmp_path / "new").touch()
    assert os.stat(copy.path).st_mode == os.stat(tmp_path / "new").st_mode  # others may use it as any new file
