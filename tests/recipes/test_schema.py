"""Keys and values: what is wrong, where, and the nearest right key."""

from copy import deepcopy
from inspect import signature
from typing import Literal, get_args, get_origin

import pytest

from lookalike.recipes import METHODS, VIEWS, RecipeError, load
from lookalike.recipes.mistakes import nearest
from lookalike.recipes.parts import Section, arguments
from lookalike.recipes.schema import signature_section, validated
from lookalike.recipes.tables import FEATURES
from methods.records import records

GOOD = {
    "method": {
        "kind": "sce",
        "projector": {"shape": "sce_cifar"},
        "queue": 64,
    },
    "views": {"kind": "sce_weak_strong"},
    "optimizer": {"rate": 0.1},
    "epochs": 1,
    "batch": 16,
}
MISSING = object()


def changed(path: str, value) -> dict:
    """GOOD with another value at a dotted path, or without it."""
    raw = deepcopy(GOOD)
    section, (*outer, last) = raw, path.split(".")
    for part in outer:
        section = section.setdefault(part, {})
    if value is MISSING:
        del section[last]
    else:
        section[last] = value
    return raw


def sentence(raw: dict) -> str:
    with pytest.raises(RecipeError) as caught:
        validated(raw, "mine.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        # misspelt, at each depth
        ("epochss", "epochs"),
        ("optimiser", "optimizer"),
        ("method.temprature", "method.temperature"),
        ("method.momentum_temprature", "method.momentum_temperature"),
        ("method.projector.hiden", "method.projector.hidden"),
        ("method.predictor.shap", "method.predictor.shape"),
        ("views.sise", "views.size"),
        ("backbone.statistic", "backbone.statistics"),
        ("optimizer.weight_decey", "optimizer.weight_decay"),
        ("runtime.channel_last", "runtime.channels_last"),
        ("watching.knn_evry", "watching.knn_every"),
        # right, in the wrong place
        ("temperature", "method.temperature"),
        ("rate", "optimizer.rate"),
        ("optimizer.temperature", "method.temperature"),
        ("method.size", "views.size"),
        ("backbone.precision", "runtime.precision"),
        # of two equally like ones that of the section
        ("method.momentun", "method.momentum"),
        ("optimizer.momentun", "optimizer.momentum"),
    ],
)
def test_an_unknown_key_names_the_nearest(wrong, near):
    raw = changed(wrong, 1)
    if wrong.startswith("method.predictor"):
        raw["method"]["predictor"]["shape"] = "sce/predictor"
    assert sentence(raw) == f"mine.yaml: there is no key '{wrong}'; the nearest is '{near}'"


def test_where_no_key_is_near_the_section_says_what_it_has():
    raw = changed("method.augmentation", 1)
    assert sentence(raw).startswith("mine.yaml: there is no key 'method.augmentation'; method has method.kind, method.")


@pytest.mark.parametrize(
    ("kind", "key", "value", "why"),
    [
        ("sgd", "milestones", [5], "has no effect without shape: steps"),
        ("sgd", "lars_rate", "inside", "has no effect without kind: lars"),
        ("sgd", "clip_per", "tensor", "has no effect without clip"),
        ("sgd", "start", 0.1, "has no effect without a warmup"),
        ("adamw", "momentum", 0.8, "has no effect with kind: adamw, which has betas"),
        ("lars", "nesterov", True, "has no effect without kind: sgd"),
        ("larc", "betas", [0.5, 0.9], "has no effect without kind: adam or adamw"),
    ],
)
def test_a_key_without_effect_is_refused(kind, key, value, why):
    raw = deepcopy(GOOD)
    raw["optimizer"] |= {"kind": kind, key: value}
    assert sentence(raw) == f"mine.yaml: optimizer: {key} {why}: leave it out"


def test_a_misspelt_section_is_not_reported_as_missing_too():
    raw = {("optimiser" if key == "optimizer" else key): value for key, value in GOOD.items()}
    assert sentence(raw) == "mine.yaml: there is no key 'optimiser'; the nearest is 'optimizer'"


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("epochs", "many", "epochs = 'many' is not possible: give a number"),
        ("epochs", 0, "epochs = 0 is not possible: give a number above 0"),
        ("epochs", float("inf"), "epochs = inf is not possible: give a finite number"),
        ("optimizer.rate", float("nan"), "optimizer.rate = nan is not possible: "),
        (
            "optimizer.kind",
            "rmsprop",
            "optimizer.kind = 'rmsprop' is not possible: give 'sgd', 'adam', 'adamw', ",
        ),
        ("optimizer.momentum", 1.0, "optimizer.momentum = 1.0 is not possible: give a number below 1"),
        (
            "optimizer.milestones",
            [1, "x"],
            "optimizer.milestones = 'x' is not possible: give a number",
        ),
        (
            "optimizer",
            None,
            "optimizer = None is not possible: it is a section with the keys optimizer.kind, optimizer.rate",
        ),
        ("batch", 1.5, "batch = 1.5 is not possible: give a whole number"),
        ("batch", 1, "batch = 1 is not possible: give a number above 1"),
        ("method.temperature", 0, "method.temperature = 0 is not possible: give a number above 0"),
        (
            "method.coefficient",
            1.5,
            "method.coefficient = 1.5 is not possible: give 1 or less",
        ),
        ("method.queue", 0, "method.queue = 0 is not possible: give a number above 0"),
        (
            "method.mask_positive",
            "no",
            "method.mask_positive = 'no' is not possible: give 'paper' or 'official'",
        ),
        ("method.momentum", {"start": 0.9, "end": 2}, "method.momentum.end = 2 is not possible: "),
        ("method.keys", "weak", "method.keys = 'weak' is not possible: give a list, as [a, b]"),
        ("method.projector", 5, "method.projector = 5 is not possible: it is a section with the keys "),
        (
            "method.projector.shape",
            "sce_cifr",
            "method.projector.shape = 'sce_cifr' is not possible: there is no such head; the nearest is 'sce_cifar'",
        ),
        (
            "runtime.compile",
            "perhaps",
            "runtime.compile = 'perhaps' is not possible: give true or false, or give 'auto'",
        ),
        ("data.channels", 2, "data.channels = 2 is not possible: give 1 or 3"),
    ],
)
def test_an_impossible_value_is_shown_with_its_reason(path, value, reason):
    assert sentence(changed(path, value)).startswith(f"mine.yaml: {reason}")


@pytest.mark.parametrize(
    "path", ["epochs", "batch", "optimizer", "optimizer.rate", "method.queue", "method.projector.shape"]
)
def test_a_missing_key_is_named(path):
    assert sentence(changed(path, MISSING)) == f"mine.yaml: the key '{path}' is missing"


@pytest.mark.parametrize("path", ["method", "method.kind"])
def test_without_a_method_the_known_ones_are_listed(path):
    expected = f"mine.yaml: the key 'method.kind' is missing; it is one of {', '.join(METHODS)}"
    assert sentence(changed(path, MISSING)) == expected


def test_unknown_kinds_name_the_nearest():
    assert sentence(changed("method.kind", "sec")) == "mine.yaml: there is no method 'sec'; the nearest is 'sce'"
    assert sentence(changed("method.kind", ["sce"])).startswith("mine.yaml: there is no method ['sce']; the nearest is")
    assert sentence(changed("views.kind", "sce_pairs")) == (
        "mine.yaml: there is no views 'sce_pairs'; the nearest is 'sce_pair'"
    )
    assert sentence(changed("views", MISSING)).startswith(
        "mine.yaml: the key 'views.kind' is missing; it is one of simclr"
    )


def test_several_mistakes_stand_in_one_line():
    raw = changed("epochss", 3) | {"batch": "x"}
    assert sentence(raw) == (
        "mine.yaml: there is no key 'epochss'; the nearest is 'epochs'; "
        "batch = 'x' is not possible: give a whole number"
    )


def test_numbers_as_yaml_reads_them_are_numbers():
    """YAML reads 1e-3, without a point, as a word."""
    assert validated(changed("optimizer.rate", "1e-3"), "").optimizer.rate == 1e-3


def test_one_number_is_a_constant_momentum():
    assert validated(changed("method.momentum", 0.9), "").model_dump()["method"]["momentum"] == {
        "start": 0.9,
        "end": 0.9,
    }


class WithKind(Section):
    kind: str = "nearest"
    count: int = 2


def test_a_kind_is_no_argument_only_where_it_names_what_is_built():
    assert arguments(WithKind()) == {"kind": "nearest", "count": 2}
    assert list(arguments(validated(GOOD, "").views)) == list(signature(VIEWS["sce_weak_strong"]).parameters)
    assert not any("kind" in signature(one).parameters for one in (*METHODS.values(), *VIEWS.values()))


def test_an_argument_that_chooses_the_rows_of_a_bank_is_one_of_its_method():
    assert all(argument in signature(METHODS[name]).parameters for name, argument in FEATURES.items())


@pytest.mark.parametrize(("table", "names"), [("methods", METHODS), ("views", VIEWS)])
def test_sections_follow_the_signatures(table, names):
    """A default in a recipe's section is the default of the code, hence the paper's."""
    sections = {name: signature_section(name, function).model_fields for name, function in names.items()}
    if table == "views":
        assert sections["simclr"]["strength"].default == 1.0
        assert set(sections["byol"]) == {"kind", "size", "blur"}
        return
    momentum = {name: fields["momentum"].default for name, fields in sections.items() if "momentum" in fields}
    ends = {name: (follow.start, follow.end) for name, follow in momentum.items()}
    known = {
        "moco": (0.999, 0.999),
        "byol": (0.996, 1.0),
        "sce": (0.99, 0.99),
        "ressl": (0.999, 0.999),
        "ascl": (0.99, 0.99),
        "mochi": (0.999, 0.999),
        "interclr": (0.999, 0.999),
        "moco_v3": (0.99, 1.0),
        "dino": (0.996, 1.0),
        "relicv2": (0.996, 1.0),
        "revisiting": (0.995, 0.995),
    }
    assert {name: ends[name] for name in known} == known
    assert ends.keys() - known.keys() <= records().keys()  # whose defaults their own test files know
    assert sections["moco"]["temperature"].default == 0.07
    assert all("encoder" not in fields for fields in sections.values())


def test_the_nearest_word():
    assert nearest("temprature", ["rate", "temperature", "teacher"]) == "temperature"


CHOICES = [
    (name, key, value)
    for name, method in METHODS.items()
    for key, parameter in signature(method).parameters.items()
    if get_origin(parameter.annotation) is Literal
    for value in get_args(parameter.annotation)
]


@pytest.mark.parametrize(("name", "key", "value"), CHOICES)
def test_every_choice_of_a_method_can_be_made(name, key, value):
    """No limit of a number, which a key of another method has, stands in its way."""
    assert getattr(load(f"{name}_small_smoke", [f"method.{key}={value}"]).method, key) == value
