"""lookalike views: the sheet shows what training sees, before there is any."""

from dataclasses import replace

import pytest
import torch
from command import TINY, lookalike, mistake, write_images
from PIL import Image

from lookalike.api.sources import Others
from lookalike.api.views_sheet import sheet
from lookalike.data import open_source
from lookalike.methods.method import Phase
from lookalike.recipes import build_views, load
from lookalike.training.streams import Streams
from lookalike.training.timeline import timeline
from lookalike.transforms import eval_chain, sce_multicrop
from lookalike.transforms.words import words


def test_the_first_draw_is_what_the_first_epoch_shows(photos) -> None:
    recipe, source = load(TINY[1]), open_source(photos)
    found = sheet(source, recipe, 64)
    stream = Streams(source=source, views=build_views(recipe), batch=16, seed=recipe.seed)
    (first,) = timeline([Phase(name="a", epochs=2.0, trains=(), reads=("view/1", "view/2"))], size=64, batch=16)
    seen = {row.name: row for row in found.rows}
    batches = [part for step in stream.batches(first, 0, torch.device("cpu")) for part in step]
    for epoch, part in ((0, batches[0]), (1, batches[-1])):
        for row, index in enumerate(part.index.tolist()):
            for name, pixels in part.views.items():
                assert torch.equal(seen[source.name(index)].draws[name][epoch], pixels[row])
    assert torch.equal(seen[source.name(5)].decoded, source.read(5))


def test_the_picture(photos, tmp_path) -> None:
    for name in ("one.png", "two.png", "sheet.webp"):
        said = lookalike("views", photos, *TINY, "--out", name, "--images", 3)
        assert said.code == 0, said.err
    one = Image.open(tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert (one.format, Image.open(tmp_path / "sheet.webp").format) == ("PNG", "WEBP")
    assert one.width > 9 * 112
    assert said.out == f"wrote sheet.webp; next: lookalike pretrain {photos} --recipe {TINY[1]}\n"


def test_overrides_count(photos) -> None:
    recipe = load(TINY[1], ["views.kind=moco_v1", "views.size=16", "seed=1"])
    assert list(sheet(open_source(photos), recipe, 1).rows[0].draws) == ["query", "key"]


def test_the_rule_picks_the_recipe_where_none_is_named(photos) -> None:
    said = lookalike("views", photos, "--method", "byol", "--out", "sheet.png", "--images", 1)
    assert said.code == 0, said.err


def test_one_image_can_be_looked_at(tmp_path) -> None:
    write_images(tmp_path / "lone", 1, 0)
    for options in (("--method", "byol"), TINY):
        said = lookalike("views", "lone", *options, "--out", "lone.png")
        assert said.code == 0, said.err
    assert "one image is not enough" in mistake("pretrain", "lone", "--method", "byol")


def test_unreadable_images_are_passed_over(tmp_path) -> None:
    images = write_images(tmp_path / "images", 6)
    for number in (0, 2):
        (images / f"{number:03}.png").write_bytes(b"no image")
    found = sheet(open_source(images), load(TINY[1]), 10)
    assert sorted(row.name for row in found.rows) == ["001.png", "003.png", "004.png", "005.png"]
    assert found.passed == 2


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--out", "sheet.txt"), "sheet.txt is no picture"),
        (("--out", "none/sheet.png"), "could not write none/sheet.png"),
        (("--images", "0"), "ask for 1 or more"),
        (("--recipe", "simclr_smal"), "the nearest is 'simclr_small'"),
    ],
)
def test_mistakes_are_sentences(photos, more, sentence) -> None:
    options = () if "--recipe" in more else TINY
    assert sentence in mistake("views", photos, *options, *more)


def test_no_readable_image(tmp_path) -> None:
    images = write_images(tmp_path / "images", 3)
    for path in images.iterdir():
        path.write_bytes(b"no image")
    assert "none of the 3 images can be read" in mistake("views", images, *TINY)


def test_words_for_chains() -> None:
    assert words(eval_chain(32, 40)) == "short side to 40 px, central 32 px"
    assert words(sce_multicrop()["local/4"]) == (
        "crop of 8.6 to 42.9 % to 96 px, flip 50 %, jitter 0.4/0.4/0.2/0.1 80 %, gray 20 %, "
        "blur of sigma 0.1 to 2 50 %, solarize 20 %"
    )


def test_copies_take_their_other_images_from_the_folder(photos, tmp_path) -> None:
    said = lookalike(
        "views", photos, *TINY, "views.kind=copy_edits", "views.names=[view/1,view/2]", "--out", "copies.png"
    )
    assert said.code == 0, said.err
    recipe, source = load(TINY[1], ["views.kind=copy_edits", "views.names=[view/1,view/2]"]), open_source(photos)
    views = build_views(recipe, Others(source))
    stream = Streams(source=source, views=views, batch=16, seed=recipe.seed)
    (first,) = timeline([Phase(name="a", epochs=1.0, trains=(), reads=("view/1",))], size=64, batch=16)
    whole = stream.part(first, 0, 0)
    shares = [replace(stream, rank=rank, world=2).part(first, 0, 0) for rank in (0, 1)]
    for rank, share in enumerate(shares):
        assert torch.equal(share.views["view/1"], whole.views["view/1"][rank::2])  # no matter what else is in the batch
    plain = replace(stream, views=build_views(recipe)).part(first, 0, 0)
    assert not torch.equal(plain.views["view/1"], whole.views["view/1"])


def test_another_image_is_one_of_the_source_or_none(tmp_path) -> None:
    images = write_images(tmp_path / "images", 4)
    (images / "002.png").write_bytes(b"no image")
    source = open_source(images)
    others = Others(source)
    assert torch.equal(others(0.0), source.read(0))
    assert torch.equal(others(0.9999), source.read(3))
    assert others(0.6) is None
