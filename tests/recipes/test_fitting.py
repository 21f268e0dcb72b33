"""Views that do not fit the method or the network are refused before a run has a folder, with the key to change."""

import pytest

from lookalike.modules import Encoder
from lookalike.recipes import RecipeError, build_encoder, build_method, load
from lookalike.recipes.build import view_size
from lookalike.recipes.fitting import side_of_patches

SMALL = ("backbone.name=resnet18_quarter", "backbone.fixed_patches=false", "backbone.drop_path=0")


def build(name, *overrides, say=lambda note: None):
    recipe = load(name, list(overrides))
    encoder = build_encoder(recipe.backbone, channels=3, size=view_size(recipe), seed=0)
    return build_method(recipe, encoder, 1000, say)


def sentence(name, *overrides) -> str:
    with pytest.raises(RecipeError) as caught:
        build(name, *overrides)
    return str(caught.value)


def test_views_that_the_method_does_not_know_are_named():
    assert sentence("sce_small", "views.kind=byol", "views.size=32") == (
        "the method 'sce' reads the views strong, weak, which are not among those of views.kind 'byol' (view/1, "
        "view/2): give other views in method.keys and method.queries"
    )
    assert "reads the views global/3" in sentence("sce_small", "method.queries=[strong, global/3]")
    assert sentence("simclr_small", "views.kind=sce_weak_strong", "views={size: 32}").endswith(
        "(weak, strong): choose another views.kind"
    )


def test_too_few_local_views_are_named_with_the_keys_that_count_them():
    said = sentence("dino_small", "method.student_views=[global/1, global/2, local/1]")
    assert said.endswith("raise views.local_views or give other views in method.student_views")
    assert sentence("relicv2_small", "method.small_views=[small/1]").endswith(
        "raise views.small or give other views in method.small_views"
    )


def test_a_view_that_only_the_start_reads_is_missed_before_the_start():
    assert "reads the views plain" in sentence("interclr_small", "views.kind=moco_cifar")
    assert "reads the views nowhere" in sentence("instance_classifier_small", "method.raw=nowhere")


def test_local_views_that_nobody_reads_are_named():
    said = list[str]()
    build("dino_small", "views.local_views=2", say=said.append)
    assert (
        "views.local_views = 2 makes the views local/1, local/2, which the method 'dino' does not read: lower it, or "
        "add them to method.student_views"
    ) in said
    build("relicv2_small", "views.small=2", say=said.append)
    assert any("small/1, small/2" in note and "method.small_views" in note for note in said)
    build("relicv2_small", "views.large=4", say=said.append)
    assert any("large/3, large/4" in note and "method.large_views" in note for note in said)


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        (
            "dino_photos",
            ("backbone.name=vit_tiny_patch16_224", "views.size=160"),
            "views: 'local/1' has 69 pixels a side, which cannot be cut into patches of 16: choose multiples of 16 for "
            "views.size and views.local_size",
        ),
        (
            "moco_v3_small",
            ("backbone.name=vit_tiny_patch16_224", "views.size=32", "with.jigsaw={}"),
            "with: tiles of 10 pixels, a third of the largest view, cannot be cut into patches of 4: leave "
            "jigsaw and relative_position out, or choose a network without patches",
        ),
    ],
)
def test_sizes_that_patches_do_not_divide_are_named(name, overrides, said):
    assert sentence(name, *overrides) == said


@pytest.mark.parametrize(
    ("name", "overrides", "patch"),
    [
        (
            "moco_v3_small",
            ("backbone={name: vit_tiny_patch16_224, stem: imagenet}", "views.size=48", "with.jigsaw={}"),
            16,
        ),
        ("moco_v3_small", ("backbone.name=vit_tiny_patch16_224", "views.size=32", "with.jigsaw={weight: 0}"), 4),
        ("moco_v3_small", (*SMALL, "views.size=32", "with.jigsaw={}"), 1),
        ("dino_photos", (*SMALL, "views.size=97"), 1),
        ("simclr_photos", ("backbone={name: pvt_v2_b0, zero_init_last: false}", "views.size=96"), 1),  # they overlap
        ("simclr_photos", ("backbone={name: xcit_nano_12_p8_224, zero_init_last: false}", "views.size=96"), 1),
    ],
)
def test_sizes_that_patches_divide_and_networks_without_patches_are_taken(name, overrides, patch):
    encoder = next(part for part in build(name, *overrides).modules() if isinstance(part, Encoder))
    assert side_of_patches(encoder) == patch


def test_a_network_of_one_size_wants_views_of_it():
    network = ("backbone.name=swin_tiny_patch4_window7_224", "backbone.stem=auto")
    assert sentence("simclr_small", *network, "views.size=96") == (
        "views: 'view/1' has 96 pixels a side, which swin_tiny_patch4_window7_224 cannot take: it is built for 224; "
        "give views.size that value, or choose a backbone.name that takes any size"
    )
    assert build("simclr_small", *network, "views.size=224").training  # the trial leaves the mode as it was


def test_a_network_that_takes_other_sizes_than_its_own_may_have_them():
    build("simclr_small", "backbone.name=twins_pcpvt_small", "backbone.stem=auto", "views.size=96")


@pytest.mark.parametrize(
    ("name", "overrides", "note"),
    [
        ("dino_small", ("views.local_size=16",), "views.local_size = 16 does nothing: views.local_views is 0"),
        (
            "revisiting_photos",
            ("views.size=64",),
            "views.small_size = 96 is more than views.size = 64: views meant to be small are the larger",
        ),
    ],
)
def test_sizes_of_small_views_that_do_nothing_or_are_not_small_are_said(name, overrides, note):
    said = list[str]()
    build(name, *overrides, say=said.append)
    assert note in said
    said.clear()
    build(name, say=said.append)
    assert not any("_size" in note for note in said)
