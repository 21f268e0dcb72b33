"""lookalike pretrain: what a user can do wrong ends in one sentence that says how to mend it, and in exit code 2."""

import os
from pathlib import Path

import pytest
import torch
from command import TINY, lookalike, mistake, write_images

from lookalike.api.pretrain import chosen
from lookalike.cli import shell


def test_a_folder_that_is_missing(tmp_path):
    text = mistake("pretrain", tmp_path / "none", *TINY)
    assert str(tmp_path / "none") in text
    assert "does not exist: give a folder of images" in text


def test_a_folder_that_is_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    assert mistake("pretrain", "empty", *TINY).startswith("empty is empty: give a folder that holds images (JPEG")


def test_a_folder_without_an_image(tmp_path):
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.pdf").write_text("not an image")
    text = mistake("pretrain", "papers", *TINY)
    assert "holds no image of a kind that can be read, but 1 other files (.pdf: 1): convert them" in text


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions mean nothing to root, or to Windows")
def test_a_folder_that_cannot_be_read(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o000)
    try:
        text = mistake("pretrain", "closed", *TINY)
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert "closed cannot be listed (Permission denied): give it permission to be read" in text


@pytest.mark.parametrize("recipe", [(), TINY], ids=["by the rule", "by name"])
def test_images_of_which_none_can_be_read(tmp_path, recipe):
    (tmp_path / "torn").mkdir()
    for number in range(20):
        (tmp_path / "torn" / f"{number}.png").write_bytes(b"no image")
    assert mistake("pretrain", "torn", *recipe).startswith("none of the 20 images can be read")


@pytest.mark.parametrize("recipe", [(), TINY], ids=["by the rule", "by name"])
def test_one_image(tmp_path, recipe):
    write_images(tmp_path / "one", 1)
    text = mistake("pretrain", "one", *recipe)
    assert text == "one image is not enough to learn what makes images alike: give at least 2, better thousands"


@pytest.mark.parametrize(("count", "told"), [(3, True), (99, True), (100, False)])
def test_images_that_are_too_few_to_learn_from_are_said(tmp_path, count, told):
    write_images(tmp_path / "some", count)
    _, _, notes = chosen(str(tmp_path / "some"), None, None, ())
    warning = f"warning: {count} images are too few to learn what makes images alike: give hundreds, better thousands"
    assert (warning in notes) == told
    _, _, named = chosen(str(tmp_path / "some"), None, "simclr_small_smoke", ())
    assert (warning in named) == told


@pytest.mark.parametrize("words", [("--labels", "folders"), ("--init", "nothing"), ("--init", "none.safetensors")])
def test_what_is_wrong_is_said_before_anything_else(photos, words):
    said = lookalike("pretrain", photos, *TINY, *words)
    assert said.out == ""
    assert len(said.err.splitlines()) == 1


def test_fewer_images_than_a_batch(tmp_path):
    write_images(tmp_path / "ten", 10)
    text = mistake("pretrain", "ten", *TINY)
    assert "a batch of 16 is larger than the 10 images of a round: lower the batch size to 10 or less" in text


def test_no_images_are_named():
    assert mistake("pretrain") == "which images? nothing was given: lookalike pretrain FOLDER [KEY=VALUE]..."
    assert "epochs=3 was given" in mistake("pretrain", "epochs=3")


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (("--method", "simclear"), "there is no method 'simclear'; the nearest is 'simclr'"),
        (("--recipe", "simclr_smal"), "there is no recipe 'simclr_smal'; the nearest is 'simclr_small'"),
        (("--recipe", "nope"), "there is no recipe 'nope'; none is near, all: lookalike recipes"),
        (("--method", "nope"), "there is no method 'nope'; see lookalike methods"),
        ((*TINY, "method.kind=nope"), "there is no method 'nope'; give one of simclr, moco, byol"),
        ((*TINY, "method.projector.shape=nope"), "there is no such head; give one of "),
        ((*TINY, "--backbone", "resnet81"), "unknown backbone 'resnet81': the nearest names are resnet18"),
        ((*TINY, "epoch=3"), "there is no key 'epoch'; the nearest is 'epochs'"),
        (
            (*TINY, "method.temprature=0.2"),
            "there is no key 'method.temprature'; the nearest is 'method.temperature'",
        ),
        ((*TINY, "--metod", "sce"), "no such option: --metod (Possible options: --method"),
        ((*TINY, "views.kind=simcler"), "there is no views 'simcler'; the nearest is 'simclr'"),
        ((*TINY, "--init", "timm:resnet81"), "timm has no weights named 'resnet81': the nearest names are"),
    ],
)
def test_a_name_that_does_not_exist(photos, words, nearest):
    assert nearest in mistake("pretrain", photos, *words)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (("batch=many",), "batch = 'many' is not possible: give a whole number"),
        (("--batch", "1"), "batch = 1 is not possible: give a number above 1"),
        (("--epochs", "0"), "epochs = 0.0 is not possible: give a number above 0"),
        (("--epochs", "0.01"), "shorter than one step: train for more epochs"),
        (("--epochs", "ten"), "--epochs is 'ten': give a number"),
        (("--seed=1.5",), "--seed is '1.5': give a whole number"),
        (("epochs=ten",), "epochs = 'ten' is not possible: give a number"),
        (("--channels", "2"), "data.channels = 2 is not possible: give 1 or 3"),
        (("--max-bad", "2"), "data.max_bad = 2.0 is not possible: give 1 or less"),
        (("epochs",), "'epochs' is not an override: write key=value, for example epochs=100"),
        (("accumulate=3",), "a batch of 16 cannot be cut into 3 equal parts"),
        (("runtime.device=tpu",), "the device asked for is 'tpu': it is auto, cpu, cuda or cuda:N"),
        (("--method", "moco"), "is for simclr, not moco: leave one of the two out"),
        (("--init", "nothing"), "--init nothing is no run folder: give one, FILE.safetensors or timm:NAME"),
        (("--init", "none.safetensors"), "there is no weights file none.safetensors: check the path"),
        (("--labels", "folders"), "labels missing: 64 of 64 images lie in no class folder"),
        (("--labels", "none.csv"), "none.csv cannot be opened (No such file or directory)"),
        (("views.size=1",), "views.size = 1 is not possible: give 8 or more"),
        (("views.size=5000",), "views.size = 5000 is not possible: give 4096 or less"),
        (("views.size=[16,24]", "--with", "rotation"), "views.size = [16, 24] is not possible: give a whole number"),
    ],
)
def test_a_value_that_cannot_be(photos, words, remedy):
    assert remedy in mistake("pretrain", photos, *TINY, *words)


def test_labels_for_only_some_images(photos, tmp_path):
    (tmp_path / "some.csv").write_text("name,label\n000.png,cat\n001.png,dog\n")
    text = mistake("pretrain", photos, *TINY, "--labels", "some.csv")
    assert "labels missing: 62 of 64 images are not in some.csv, the first is 002.png" in text


def test_labels_of_one_class(tmp_path):
    write_images(tmp_path / "all" / "cat", 40)
    text = mistake("pretrain", "all", "--recipe", "supcon_small_smoke", "--labels", "folders")
    assert text == "all 40 images have the label cat: at least two classes are needed"


def test_a_run_folder_that_exists(photos, finished):
    text = mistake("pretrain", photos, *TINY, "--out", finished)
    assert text == f"{finished} holds a run already: go on with --resume {finished}, or choose another --out"


def test_a_run_folder_that_holds_something_else(photos, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("Dear")
    text = mistake("pretrain", photos, *TINY, "--out", "letters")
    assert text == "letters holds files that are no run: choose a new folder as --out"
    text = mistake("pretrain", photos, *TINY, "--out", "letters/dear.txt")
    assert text == "letters/dear.txt is a file: choose a new folder as --out"
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["dear.txt"]


@pytest.mark.parametrize("words", [("--backbone", "resnet81"), ("--labels", "none.csv"), ("--batch", "65")])
def test_a_mistake_leaves_no_run_folder(photos, tmp_path, words):
    mistake("pretrain", photos, *TINY, "--out", "run", *words)
    assert not (tmp_path / "run").exists()


def test_out_of_memory_says_what_to_lower(monkeypatch):
    def pretrain() -> None:
        torch.empty(10**15)

    monkeypatch.setitem(shell.VERBS, "pretrain", pretrain)
    text = mistake("pretrain")
    assert text.startswith("out of memory: lower batch, raise accumulate")
    assert "views.size" in text


def test_debug_shows_the_traceback_of_a_mistake():
    for words in (("pretrain", "none", "--debug"), ("--debug", "pretrain", "none")):
        said = lookalike(*words)
        assert said.code == 2
        assert "Traceback (most recent call last)" in said.err
        assert said.err.splitlines()[-1].startswith("error: none does not exist")


def test_a_list_of_images_that_do_not_exist(tmp_path):
    Path("list.txt").write_text("a.png\nb.png\n")
    text = mistake("pretrain", "list.txt", *TINY)
    assert text.startswith("list.txt lists no image that exists, the first line is 'a.png'")


def test_other_files_are_counted_and_a_dry_run_looks_at_init_too(photos):
    images = write_images(Path("mixed"), 20)
    (images / "a.heic").touch()
    (images / "notes.txt").write_text("hello")
    said = lookalike("pretrain", images, *TINY, "--epochs", "1", "--out", "run")
    assert said.code == 0, said.err
    assert "other files are left out: 1 .heic, 1 .txt" in said.err
    assert mistake("pretrain", photos, *TINY, "--dry-run", "--init", "x").startswith("--init x is no run folder")


def test_words_of_other_libraries_are_understood():
    assert "the nearest is 'optimizer.rate'" in mistake("pretrain", "none", *TINY, "lr=0.1")
    assert "write method.kind=sce" in mistake("pretrain", "none", *TINY, "method=sce")


def test_a_failed_start_can_be_tried_again_with_the_same_folder():
    images = write_images(Path("images"), 20)
    for number in range(4):
        (images / f"{number:03}.png").write_bytes(b"no image")
    words = ("pretrain", images, *TINY, "--epochs", "1", "--out", "run")
    assert "--max-bad" in mistake(*words)
    said = lookalike(*words, "--max-bad", "0.5")
    assert said.code == 0, said.err


@pytest.mark.parametrize("device", ["mps", "meta", "xla"])
def test_a_device_that_is_not_there_is_a_sentence(photos, device):
    assert "which this machine does not have" in mistake("pretrain", photos, *TINY, f"runtime.device={device}")


def test_two_folders(photos, labelled):
    text = mistake("pretrain", photos, labelled)
    assert text == (
        f"one set of images is learned from, and two were given, {photos} and {labelled}: move them into one folder, "
        "or give a text file with one path a line"
    )
