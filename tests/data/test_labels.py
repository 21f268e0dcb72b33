"""Labels from folders and tables, and the halves that a probe needs."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike.data import Files, Folder, Wrapped, labelled, labels
from lookalike.data.labels import in_test


def draw(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(folder / name)
    return folder


def test_labels_from_folders(tmp_path):
    source = Folder(draw(tmp_path, "dog/1.png", "cat/2.png", "cat/deep/er/3.png", "Zebra/4.png"))
    numbers, classes = labels(source, "folders")
    assert classes == ("Zebra", "cat", "dog")
    by_name = {source.name(i): classes[numbers[i]] for i in range(4)}
    assert by_name == {"dog/1.png": "dog", "cat/2.png": "cat", "cat/deep/er/3.png": "cat", "Zebra/4.png": "Zebra"}
    assert numbers.dtype == torch.int64


def test_classes_that_are_numbers_keep_their_order(tmp_path):
    source = Folder(draw(tmp_path, *[f"{i}/a.png" for i in (10, 9, 1, 0, 2)]))
    numbers, classes = labels(source, "folders")
    assert classes == ("0", "1", "2", "9", "10")
    assert [source.name(i).split("/")[0] for i in numbers.argsort().tolist()] == list(classes)


def test_labels_from_a_table(tmp_path):
    source = Folder(draw(tmp_path / "photos", "a.png", "b/ü.png", 'c,"d.png'))
    table = tmp_path / "labels.csv"
    table.write_bytes(
        '\ufeffname,label,more\r\n"c,""d.png", sea ,x\r\n\r\nb/ü.png,land\na.png,sea\nother.png,sky\n'.encode()
    )
    numbers, classes = labels(source, table)
    assert classes == ("land", "sea")
    assert {source.name(i): classes[numbers[i]] for i in range(3)} == {
        "a.png": "sea",
        "b/ü.png": "land",
        'c,"d.png': "sea",
    }


def test_a_data_set_takes_labels_by_number(tmp_path):
    (tmp_path / "labels.csv").write_text("2,x\n0,y\n1,x\n")
    numbers, classes = labels(Wrapped(torch.zeros(3, 1, 2, 2, dtype=torch.uint8)), tmp_path / "labels.csv")
    assert [classes[n] for n in numbers] == ["y", "x", "x"]


def sentence(call, *arguments) -> str:
    with pytest.raises(ValueError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_labels_that_cannot_be_had(tmp_path):
    mixed = Folder(draw(tmp_path / "mixed", "dog/1.png", "cat/2.png", "loose.png"))
    assert sentence(labels, mixed, "folders").startswith(
        "labels missing: 1 of 3 images lie in no class folder, the first is loose.png: sort"
    )
    one = Folder(draw(tmp_path / "one", "dog/1.png", "dog/2.png"))
    assert "all 2 images have the label dog: at least two classes" in sentence(labels, one, "folders")
    table = tmp_path / "labels.csv"
    for content, found in [
        ("dog/1.png,a\ndog/2.png\n", "has no label in row 2"),
        ("dog/1.png,a\ndog/2.png,  \n", "has no label in row 2"),
        ("dog/1.png,a\ndog/2.png,b\ndog/1.png,b\n", "has two labels for dog/1.png: a and b"),
        ("dog/1.png,a\nother.png,b\n", "labels missing: 1 of 2 images are not in"),
        ('dog/1.png,"a\n', "is not a CSV file"),
        ("", "labels missing: 2 of 2 images"),
    ]:
        table.write_text(content)
        assert found in sentence(labels, one, table)
    assert "cannot be opened (No such file or directory)" in sentence(labels, one, tmp_path / "gone.csv")
    absolute = Files("", [str(tmp_path / "one/dog/1.png")])
    assert "labels missing" in sentence(labels, absolute, "folders")


def test_train_and_test_folders(tmp_path):
    draw(tmp_path, "train/b/1.png", "train/a/2.png", "train/a/3.png", "train/c/4.png", "test/c/5.png", "test/a/6.png")
    data = labelled(tmp_path)
    assert data.classes == ("a", "b", "c")
    assert [data.train.name(i) for i in range(4)] == ["a/2.png", "a/3.png", "b/1.png", "c/4.png"]
    assert data.train.labels.tolist() == [0, 0, 1, 2]
    assert [data.test.name(i) for i in range(2)] == ["a/6.png", "c/5.png"]
    assert data.test.labels.tolist() == [0, 2]
    assert data.test.read(1).shape == (3, 2, 2)
    assert data.train.read(0).shape == (3, 2, 2)


def test_what_a_probe_cannot_use(tmp_path):
    draw(tmp_path / "x", "train/a/1.png", "train/b/2.png", "test/a/3.png", "test/new/4.png")
    assert "the class new has images to test but none to train" in sentence(labelled, tmp_path / "x")
    draw(tmp_path / "y", "train/a/1.png", "train/b/2.png")
    assert "has train/ but no test/" in sentence(labelled, tmp_path / "y")
    draw(tmp_path / "z", *[f"{i}.png" for i in range(21)])
    assert "labels missing: 21 of 21 images" in sentence(labelled, tmp_path / "z")
    draw(tmp_path / "u", "train/1.png", "test/2.png")
    assert "labels missing: 1 of 1 images lie in no class folder" in sentence(labelled, tmp_path / "u")
    draw(tmp_path / "v", "train/a/1.png", "test/a/2.png")
    assert "at least two classes" in sentence(labelled, tmp_path / "v")
    assert "too few to split by name" in sentence(labelled, draw(tmp_path / "w", "a/1.png", "b/1.png"))
    assert f"{tmp_path}/gone does not exist: give a folder with train/CLASS/" in sentence(labelled, tmp_path / "gone")
    table = tmp_path / "labels.csv"
    table.write_text("1.png,a\n")
    assert f"{table} is a file: give a folder with train/CLASS/" in sentence(labelled, table)


def test_a_split_that_leaves_one_class_to_train_is_too_few_images(tmp_path):
    names = [f"{c}/{i}.png" for c in ("a", "b") for i in range(60)]
    of_b = next(name for name in names if name.startswith("b") and in_test(name))
    of_a = next(name for name in names if name.startswith("a") and not in_test(name))
    said = sentence(labelled, draw(tmp_path / "two", of_a, of_b))
    assert f"the 2 images of {tmp_path}/two are too few to split by name" in said
    one = draw(tmp_path / "one", *[f"a/{i}.png" for i in range(60)])
    assert sentence(labelled, one) == "all 60 images have the label a: at least two classes are needed"
    lone = Folder(draw(tmp_path / "lone", "a/1.png"))
    assert sentence(labels, lone, "folders").startswith("the only image has the label a")


def test_one_folder_is_split_by_the_hash_of_the_name(tmp_path):
    draw(tmp_path, *[f"{c}/{i}.png" for c in ("a", "b") for i in range(60)])
    data = labelled(tmp_path)
    train, test = ([half.name(i) for i in range(len(half))] for half in (data.train, data.test))
    assert sorted(train + test) == Folder(tmp_path).names
    for name in train + test:
        value = int(hashlib.blake2b(name.encode(), digest_size=8).hexdigest(), 16)
        assert (name in test) == (value / 2**64 < 0.2)
    for half in (data.train, data.test):
        assert [data.classes[n] for n in half.labels] == [half.name(i)[0] for i in range(len(half))]
    draw(tmp_path, *[f"b/new{i}.png" for i in range(30)])
    later = labelled(tmp_path)
    assert set(test) <= {later.test.name(i) for i in range(len(later.test))}
    assert set(train) <= {later.train.name(i) for i in range(len(later.train))}


def test_the_share_of_the_split_and_its_first_choices():
    chosen = [in_test(f"class/{i}.jpg") for i in range(20_000)]
    assert abs(np.mean(chosen) - 0.2) < 4 * (0.2 * 0.8 / 20_000) ** 0.5
    assert [i for i in range(30) if chosen[i]] == FIRST  # frozen: scores of different versions stay comparable
    assert not any(in_test(f"{i}", 0.0) for i in range(100))
    assert all(in_test(f"{i}", 1.0) for i in range(100))


FIRST = [1, 8, 17, 25, 28]


def test_real_classes(shared_data, tmp_path):
    packed = np.load(shared_data / "cifar10_jpeg.npz")
    data, start, y, classes = (packed[key] for key in ("train_jpeg", "train_off", "train_y", "classes"))
    picked = range(0, len(y), len(y) // 60)[:60]
    for i in picked:
        for half in ("train", "test"):
            file = tmp_path / half / str(classes[y[i]]) / f"{i:05d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data[start[i] : start[i + 1]].tobytes())
    found = labelled(tmp_path)
    assert found.classes == tuple(sorted(classes.tolist()))
    for half in (found.train, found.test):
        assert len(half) == 60
        for i in range(60):
            number = int(Path(half.name(i)).stem)
            assert found.classes[half.labels[i]] == classes[y[number]]
            assert half.read(i).shape == (3, 32, 32)
