"""The section `with`: typed, with errors that name the nearest key, around any method, and its cost said aloud."""

import pytest
from torch import nn

import lookalike as la
from lookalike.methods.method import Method
from lookalike.methods.with_auxiliary import WithAuxiliary
from lookalike.methods.with_curation import WithCuration
from lookalike.modules import BatchNorm, CropOverlap, Jigsaw, RelativePosition, Rotation
from lookalike.recipes import (
    WRAPPERS,
    RecipeError,
    asked_for,
    build_encoder,
    build_method,
    dump,
    load,
    notes,
    view_size,
    with_values,
)

ALL = "rotation,jigsaw,relative_position,crop_overlap,curation"


def built(name: str, *overrides: str) -> Method:
    recipe = load(name, ["backbone.name=resnet18_quarter", *overrides])
    encoder = build_encoder(recipe.backbone, channels=3, size=view_size(recipe), seed=recipe.seed)
    return build_method(recipe, encoder, 1000, lambda note: None)


def sentence(*overrides: str, name: str = "simclr_small") -> str:
    with pytest.raises(RecipeError) as caught:
        built(name, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("with.rotatoin={}", "there is no key 'with.rotatoin'; the nearest is 'with.rotation'"),
        ("with.rotation.wieght=1", "there is no key 'with.rotation.wieght'; the nearest is 'with.rotation.weight'"),
        ("with.curation.treshold=1", "there is no key 'with.curation.treshold'; the nearest is 'with.curation.thresh"),
        ("wiht={}", "there is no key 'wiht'; the nearest is 'with'"),
        ("with.rotation.weight=-1", "with.rotation.weight = -1 is not possible: "),
        ("with.rotation.attach=head", "with.rotation.attach = 'head' is not possible: "),
        ("with.curation.criterion=best", "with.curation.criterion = 'best' is not possible: "),
        ("with=[rotation]", "with = ['rotation'] is not possible: it is a section with the keys"),
        ("with.curation={criterion: frechet, pairs: true}", "pairs and criterion=frechet do not go together"),
        ("with.curation={criterion: mean, neighbors: 3}", "neighbors has no effect without criterion: nearest: leave"),
    ],
)
def test_what_is_wrong_is_named(override: str, words: str) -> None:
    assert words in sentence(override)


def test_a_part_or_a_view_that_is_missing_is_named() -> None:
    words = sentence("with.crop_overlap={}", name="npid_small")
    assert words == "with: crop_overlap compares 2 views of full size, and the method reads 1: leave it out"
    with pytest.raises(ValueError, match="curation compares two views of an image, and the method reads"):
        built("npid_small", "with.curation={}")
    with pytest.raises(ValueError, match="'rotation,' has an empty name: write rotation, curation or both"):
        asked_for("rotation,")
    with pytest.raises(ValueError, match="'rotation,curation, rotation' names rotation 2 times: name each once"):
        asked_for("rotation,curation, rotation")


def test_tasks_are_inside_and_curation_is_outside_whatever_the_order() -> None:
    for names in (ALL, ",".join(reversed(ALL.split(",")))):
        method = built("simclr_small", *asked_for(names))
        assert isinstance(method, WithCuration)
        assert isinstance(method.method, WithAuxiliary)
        kinds = {name: type(task) for name, task in method.method.tasks.items()}
        assert kinds == {
            "rotation": Rotation,
            "jigsaw": Jigsaw,
            "relative_position": RelativePosition,
            "crop_overlap": CropOverlap,
        }
        assert method.through == ("method.encoder",)


def test_a_recipe_comes_back_from_its_text_and_keeps_its_settings(tmp_path) -> None:
    recipe = load("simclr_small", ["with.rotation.weight=0.3", *asked_for(["rotation", "curation"])])
    (tmp_path / "resolved.yaml").write_text(dump(recipe))
    assert load(str(tmp_path / "resolved.yaml")) == recipe
    assert with_values(recipe, {"epochs": 3}).around == recipe.around
    assert recipe.around is not None
    assert recipe.around.tasks["rotation"].weight == 0.3
    assert load("simclr_small").around is None


def test_first_weights_of_the_method_do_not_depend_on_what_surrounds_it() -> None:
    alone = built("byol_small").state_dict()
    wrapped = built("byol_small", *asked_for("rotation,curation")).state_dict()
    for name, tensor in alone.items():
        assert (wrapped[f"method.method.{name}"] == tensor).all(), name


def test_heads_fit_what_they_read_and_take_statistics_over_all_processes() -> None:
    method = built("moco_small", "with.rotation={attach: projector, hidden: 7}", "method.projector.out=16")
    head = method.tasks["rotation"].head
    assert [layer.in_features for layer in head if isinstance(layer, nn.Linear)] == [16, 7]
    assert [layer.policy for layer in head if isinstance(layer, BatchNorm)] == ["global"]


def test_costs_are_said_and_nothing_is_said_of_what_has_no_effect() -> None:
    recipe = load("npid_small", [*asked_for("rotation"), "with.jigsaw={weight: 0}"])
    method = built("npid_small", *asked_for("rotation"))
    assert list(notes(recipe, method)) == ["with rotation: 1 more passes of the encoder, forward and backward"]
    recipe = load("simclr_small", asked_for("curation"))
    (said,) = notes(recipe, built("simclr_small", *asked_for("curation")))
    assert said.startswith(
        "with curation: 2 more passes of the encoder, forward alone, for each of 1 to 4 draws; a rec"
    )
    assert list(notes(load("simclr_small"), built("simclr_small"))) == []


def test_the_list_of_wrappers_is_the_table() -> None:
    facts = {wrapper.name: wrapper for wrapper in la.list_wrappers()}
    assert list(facts) == list(WRAPPERS)
    assert facts["rotation"].cost == "2 more passes of the encoder, forward and backward"
    assert "Addepalli" in facts["rotation"].what
    assert "Welle" in facts["curation"].what


def test_more_views_than_there_are_is_said() -> None:
    words = asked_for("rotation")
    (_, said) = notes(load("simclr_small", [*words, "with.rotation.views=5"]), built("simclr_small", *words))
    assert said == "with.rotation.views is 5, and the method reads 2: it looks at these"
