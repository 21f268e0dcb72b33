"""Data sets of the package `datasets`: found by their columns, decoded here, labelled when asked, nothing fetched."""

import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opened import levels, sentence
from tars import png

from lookalike.data import Images, Rows, Unreadable, decode, labels, open_source

datasets = pytest.importorskip("datasets", reason="needs the package datasets: pip install 'lookalike[hub]'")
IMAGE, CLASS = datasets.Image(), datasets.ClassLabel(names=["dog", "cat"])


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may reach the network."""

    def refuse(*words: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    datasets.disable_progress_bars()


def made(count: int = 5, **columns: tuple[Any, list]) -> Any:
    """A data set of `count` gray images in the column image, and others: name=(feature, values)."""
    values = {"image": [{"bytes": png(10 * n % 251), "path": None} for n in range(count)]}
    features = {"image": IMAGE, **{name: feature for name, (feature, _) in columns.items()}}
    values |= {name: rows for name, (_, rows) in columns.items()}
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


def test_a_saved_folder_a_data_set_and_their_splits(tmp_path):
    data = made(label=(CLASS, [0, 1, 0, 1, 1]))
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(test=made(2), train=data).save_to_disk(tmp_path / "splits")
    datasets.DatasetDict(only=data).save_to_disk(tmp_path / "only")
    places = [data, datasets.DatasetDict(train=data), *map(str, tmp_path.iterdir()), tmp_path / "splits" / "train"]
    for place in places:
        source = open_source(place)
        assert isinstance(source, Rows)
        assert isinstance(source, Images)
        assert levels(source) == [0, 10, 20, 30, 40]
        assert [source.name(i) for i in range(5)] == ["0", "1", "2", "3", "4"]
        assert source.labels is None
        assert source.size(2) == (4, 5)
        assert source.identity() == open_source(data).identity()
    assert levels(open_source(tmp_path / "splits" / "test")) == [0, 10]
    assert open_source(data, channels=1).read(3).equal(decode(png(30), channels=1))


def test_the_column_of_images_is_found_by_its_feature(tmp_path):
    more = {"label": (CLASS, [0, 1]), "raw": (datasets.Value("binary"), [png(100), png(110)])}
    nested = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    more["nested"] = (nested, [{"bytes": png(50), "path": "a.png"}, {"bytes": png(60), "path": None}])
    data = made(2, **more)
    assert levels(open_source(data)) == [0, 10]
    assert levels(open_source(data, column="raw")) == [100, 110]
    assert levels(open_source(data, column="nested")) == [50, 60]
    assert "the column 'label' holds no encoded images, its type is ClassLabel" in sentence(data, column="label")
    assert sentence(data, column="picture").startswith("the data set has no column 'picture'; there are image (Image")
    two = made(2, mask=(IMAGE, [{"bytes": png(7), "path": None}] * 2))
    assert sentence(two) == "the data set has several columns of images, image, mask: choose one with --column"
    assert levels(open_source(two, column="mask")) == [7, 7]
    assert sentence(datasets.Dataset.from_dict({"text": ["a", "b"]})).startswith(
        "the data set has no column of images; there are text (Value('string')): choose one with --column"
    )


def test_rows_that_cannot_be_read(tmp_path):
    (tmp_path / "near.png").write_bytes(png(9))
    rows = [
        {"bytes": None, "path": str(tmp_path / "near.png")},
        {"bytes": None, "path": "https://example.com/a.png"},
        {"bytes": None, "path": str(tmp_path / "gone.png")},
        {"bytes": b"no image", "path": "a.png"},
        {"bytes": b"", "path": None},
        None,
    ]
    source = open_source(made(6, far=(IMAGE, rows)), column="far")
    assert source.read(0).equal(decode(png(9)))
    for index, reason in [
        (1, "the data set holds no bytes of it, only https://example.com/a.png"),
        (2, "No such file or directory"),
        (3, "its content is not JPEG, PNG"),
        (4, "the data set holds no bytes of it"),
        (5, "the data set holds no bytes of it"),
    ]:
        with pytest.raises(Unreadable) as caught:
            source.read(index)
        assert caught.value.path == str(index)
        assert caught.value.reason.startswith(reason)
    assert len(source.identity()) == 32


def test_labels_only_by_their_column():
    label = (CLASS, [0, 1, 0, 1, 1])
    source = open_source(made(label=label, text=(datasets.Value("string"), ["x", "y", "z", "x", " "])))
    found, classes = labels(source, "column:label")
    assert classes == ("cat", "dog")
    assert found.tolist() == [1, 0, 1, 0, 0]
    unlabeled = open_source(made(label=(CLASS, [0, -1, 0, 1, 1]), n=(datasets.Value("int64"), [3, 10, 3, 3, 10])))
    assert labels(unlabeled, "column:n")[1] == ("3", "10")
    for data, spec, said in [
        (source, "column:breed", "--labels column:breed names no column: there are image, label, text"),
        (source, "column:text", "labels missing: 1 of 5 images have none by --labels column:text, the first is 4"),
        (source, "column:image", "labels missing: 5 of 5"),
        (unlabeled, "column:label", "labels missing: 1 of 5 images have none by --labels column:label, the first is 1"),
        (source, "folders", "labels missing: 5 of 5 images lie in no class folder"),
        (source, "cls", "--labels cls is not possible here"),
    ]:
        with pytest.raises(ValueError) as caught:
            labels(data, spec)
        assert str(caught.value).startswith(said)


def test_identity_follows_the_images_and_nothing_else(tmp_path):
    first = open_source(made(100)).identity()
    assert open_source(made(100, label=(CLASS, [0] * 100))).identity() == first
    made(100).save_to_disk(tmp_path / "data", num_shards=3)
    assert open_source(tmp_path / "data").identity() == first
    chosen = made(120).select(range(100))
    assert open_source(chosen).identity() == first
    changed = made(100).to_dict()
    changed["image"][50]["bytes"] += b"longer"
    other = datasets.Dataset.from_dict(changed, features=made(1).features)
    seen = [made(99), other, made(100).select([1, 0, *range(2, 100)]), made(100).rename_column("image", "photo")]
    assert len({first, *(open_source(data).identity() for data in seen)}) == 5


def test_a_data_set_that_turns_its_rows_into_something_else_is_read_as_it_is():
    data = made().with_transform(lambda rows: 1 / 0)
    assert levels(open_source(data)) == [0, 10, 20, 30, 40]


def test_threads_share_a_source(tmp_path):
    made(50).shuffle(seed=1).save_to_disk(tmp_path / "data", num_shards=4)
    source = open_source(tmp_path / "data")
    expected = levels(source)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: int(source.read(i % 50).float().mean()), range(500))) == expected * 10


def test_what_cannot_be_opened_is_said_in_a_sentence(tmp_path):
    assert sentence(made(0)).startswith("the data set is empty: give one that holds images")
    datasets.DatasetDict(a=made(2), b=made(2)).save_to_disk(tmp_path / "splits")
    assert sentence(tmp_path / "splits") == (
        f"{tmp_path}/splits has no split called train, but a, b: give one of these"
    )
    made(2).save_to_disk(tmp_path / "torn")
    arrow = next((tmp_path / "torn").glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:100])
    assert f"{tmp_path}/torn cannot be read as a data set (" in sentence(tmp_path / "torn")
    made(2).save_to_disk(tmp_path / "state")
    (tmp_path / "state" / "state.json").write_text(json.dumps({}))
    assert f"{tmp_path}/state cannot be read as a data set (" in sentence(tmp_path / "state")


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    made(2).save_to_disk(tmp_path / "data")
    monkeypatch.setitem(sys.modules, "datasets", None)  # as if it were not installed
    for thing in (tmp_path / "data", "hf:uoft-cs/cifar10"):
        said = sentence(thing)
        assert said.startswith("data sets of the Hub need a package that is not installed (")
        assert said.endswith("): pip install 'lookalike[hub]'")


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("hf:uoft-cs/cifar10", ("uoft-cs/cifar10", None, "train", None)),
        ("hf:mnist", ("mnist", None, "train", None)),
        ("hf:uoft-cs/cifar10:test", ("uoft-cs/cifar10", None, "test", None)),
        ("hf:a/b/some.name@v1.0:train[:10%]", ("a/b", "some.name", "train[:10%]", "v1.0")),
        ("hf:a/b@refs/pr/1", ("a/b", None, "train", "refs/pr/1")),
    ],
)
def test_what_an_id_asks_the_hub_for(monkeypatch, text, asked):
    calls = []

    def load_dataset(path: str, name: str | None, split: str, revision: str | None) -> Any:
        calls.append((path, name, split, revision))
        return made(3)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert levels(open_source(text)) == [0, 10, 20]
    assert calls == [asked]


def test_a_hub_that_cannot_be_reached(monkeypatch):
    def load_dataset(*words: object, **options: object) -> Any:
        raise ConnectionError("Couldn't reach\nthe Hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert sentence("hf:uoft-cs/cifar10").startswith(
        "hf:uoft-cs/cifar10 cannot be loaded (ConnectionError: Couldn't reach the Hub): check the name and the network"
    )


@pytest.mark.parametrize("text", ["hf:", "hf:/x", "hf:a/b/c/d", "hf:a b", "hf:a/b:"])
def test_what_is_no_id(text):
    assert sentence(text).startswith(f"{text} is no name of a Hub data set: write hf:OWNER/NAME, as hf:uoft-cs/cifar10")


def test_nothing_remote_is_opened_without_its_prefix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sentence("uoft-cs/cifar10").endswith("; a data set of the Hub is written hf:uoft-cs/cifar10")
    assert "hf:./photos" not in sentence("./photos")
    assert "is written hf:" not in sentence("photos/2019/july")
    (Path("uoft-cs") / "cifar10").mkdir(parents=True)
    assert sentence("uoft-cs/cifar10").startswith("uoft-cs/cifar10 is empty: give a folder that holds images")
