"""Recipes as text: files, one level of `from:`, overrides, and mistakes as one sentence each."""

import re

import pytest
import yaml

from lookalike.recipes import RecipeError, dump, header, load, names, text, with_values

RECIPE = """
method: {kind: simclr, projector: {shape: simclr}, temperature: 0.3}
views: {kind: simclr, size: 24}
optimizer: {rate: 0.1}
epochs: 3
batch: 16
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file into the working folder."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, content: str) -> str:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
        return name

    return write


def sentence(*arguments) -> str:
    """What `load` has against its arguments: one line, no traceback."""
    with pytest.raises(RecipeError) as caught:
        load(*arguments)
    said = str(caught.value)
    assert "\n" not in said
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return said


@pytest.mark.parametrize("name", names())
def test_a_resolved_recipe_reads_back_as_itself(name, write):
    recipe = load(name)
    again = load(write("recipe.yaml", dump(recipe)))
    assert again == recipe
    assert dump(again) == dump(recipe)


def test_recipes_that_differ_are_not_equal():
    assert load("sce_cifar10") == load("sce_cifar10", ["seed=0"])
    assert load("sce_cifar10") != load("sce_cifar10", ["seed=1"])
    assert load("sce_cifar10") != load("sce_cifar10", ["method.momentum.end=1.0"])


def test_a_resolved_recipe_holds_every_key(write):
    resolved = yaml.safe_load(dump(load(write("mine.yaml", RECIPE))))
    assert resolved["method"]["reduction"] == "mean"
    assert resolved["method"]["projector"] == {"shape": "simclr", "hidden": None, "out": None}
    assert resolved["views"] == {"kind": "simclr", "size": 24, "strength": 1.0, "blur": True}
    assert resolved["saving"]["every"] == 1000
    assert resolved["runtime"]["precision"] == "auto"


def test_an_override_reaches_any_depth():
    changes = ["method.temperature=0.2", "epochs=1e2", "method.projector.hidden=77", "backbone.zero_init_last=yes"]
    recipe = load(
        "sce_cifar10", [*changes, "optimizer.shape=steps", "optimizer.milestones=[1, 2.5]", "method.momentum=0.5"]
    )
    method = recipe.model_dump()["method"]
    assert (method["temperature"], recipe.epochs) == (0.2, 100)
    assert method["projector"] == {"shape": "sce_cifar", "hidden": 77, "out": 128}
    assert recipe.backbone.zero_init_last
    assert recipe.optimizer.milestones == (1, 2.5)
    assert method["momentum"] == {"start": 0.5, "end": 0.5}
    assert method["queue"] == load("sce_cifar10").model_dump()["method"]["queue"]


def test_a_later_override_wins():
    assert load("simclr_small", ["batch=32", "batch=64"]).batch == 64


def test_another_kind_replaces_its_section():
    """Arguments of one plan are not those of another."""
    recipe = load("moco_small", ["views.kind=moco_v1", "views.size=40"])
    assert recipe.model_dump()["views"] == {"kind": "moco_v1", "size": 40}
    assert load("simclr_small", ["views.kind=byol"]).model_dump()["views"] == {
        "kind": "byol",
        "size": 224,
        "blur": True,
    }


def test_a_recipe_stands_on_one_other(write):
    write("mine.yaml", RECIPE)
    recipe = load(write("child.yaml", "from: mine.yaml\nmethod: {temperature: 0.4}\nepochs: 5"))
    assert (recipe.epochs, recipe.batch) == (5, 16)
    assert recipe.model_dump()["method"]["temperature"] == 0.4
    assert load(write("grown.yaml", "from: sce_cifar10\nbatch: 32")).batch == 32


def test_a_file_finds_its_parent_beside_itself(write):
    write("folder/mine.yaml", RECIPE)
    assert load(write("folder/child.yaml", "from: mine.yaml\nbatch: 8")).batch == 8


def test_the_library_comes_before_a_file_of_the_same_name(write):
    write("sce_small", "nonsense")
    assert load("sce_small").batch == 256


def test_values_are_replaced_and_checked_again():
    recipe = load("simclr_small")
    assert with_values(recipe, {"runtime": {"precision": "bf16"}}).runtime.precision == "bf16"
    assert recipe.runtime.precision == "auto"
    with pytest.raises(RecipeError, match=r"'runtime.precison'; the nearest is 'runtime.precision'"):
        with_values(recipe, {"runtime": {"precison": "bf16"}})


def test_a_header_goes_on_in_indented_lines():
    said = header("byol_cifar10")
    assert said["choices"].startswith("not official: the paper has no recipe for CIFAR-10.")
    assert said["choices"].endswith("on Imagenette")
    assert "#" not in said["choices"]
    assert set(said) == {"paper", "command", "hardware", "hours", "claim", "choices"}


def test_an_unknown_recipe_names_the_nearest():
    expected = "there is no recipe 'sce_cifar'; the nearest is 'sce_cifar10', all: lookalike recipes"
    assert sentence("sce_cifar") == expected
    with pytest.raises(RecipeError, match="'moco_smal'; the nearest is 'moco_small'"):
        text("moco_smal")


def test_a_missing_file_is_named(write):
    assert sentence("mine.yaml") == (
        "the recipe file mine.yaml does not exist; library recipes have no suffix: lookalike recipes"
    )
    child = write("child.yaml", "from: gone.yaml")
    assert sentence(child).startswith("the recipe file gone.yaml does not exist")
    assert sentence(write("lost.yaml", "from: sce_cifar")).startswith("there is no recipe 'sce_cifar'; the nearest is")


def test_a_folder_is_no_recipe_file(tmp_path):
    folder = tmp_path / "mine.yaml"
    folder.mkdir()
    assert sentence(str(folder)) == f"the recipe file {folder} cannot be read: Is a directory"


@pytest.mark.parametrize("content", ["method: [1, 2", "a: b: c", "\tkey: 1", "a: !!python/object:os.system 1", "\0"])
def test_what_is_not_yaml_is_said_so(content, write):
    assert sentence(write("mine.yaml", content)).startswith("mine.yaml is not YAML: ")


def test_bytes_are_not_yaml(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00")
    assert "mine.yaml is not YAML: " in sentence(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize("content", ["", "just words", "- a\n- b", "3"])
def test_yaml_that_is_no_recipe_is_said_so(content, write):
    expected = "mine.yaml holds no recipe: expected keys such as method, views, optimizer"
    assert sentence(write("mine.yaml", content)) == expected


@pytest.mark.parametrize(
    ("content", "key"), [(RECIPE + "epochs: 4", "epochs"), (RECIPE + "data: {cache: true, cache: false}", "cache")]
)
def test_a_key_that_stands_twice_is_not_dropped_silently(content, key, write):
    assert (
        sentence(write("mine.yaml", content)) == f"mine.yaml has the key '{key}' twice in one section: keep one of them"
    )


def test_the_same_key_in_two_sections_is_right(write):
    assert load(write("mine.yaml", RECIPE + "saving: {every: 3}\nwatching: {health_every: 3}")).saving.every == 3


def test_two_levels_of_from_are_one_too_many(write):
    write("a.yaml", RECIPE)
    write("b.yaml", "from: a.yaml")
    assert sentence(write("c.yaml", "from: b.yaml")) == (
        "c.yaml: its `from: b.yaml` has a `from:` of its own; one level is the limit"
    )
    assert "one level is the limit" in sentence(write("d.yaml", "from: sce_small_smoke"))
    assert "one level is the limit" in sentence(write("e.yaml", "from: e.yaml"))


@pytest.mark.parametrize("override", ["epochs", "=3", "", "method.=3", ".epochs=3", "method..temperature=3"])
def test_what_is_no_override_is_said_so(override):
    expected = f"{override!r} is not an override: write key=value, for example epochs=100"
    assert sentence("sce_small", [override]) == expected


def test_an_override_whose_value_is_no_yaml_is_said_so():
    assert sentence("sce_small", ["epochs=[1"]) == "'epochs=[1' is not an override: '[1' is not a YAML value"


@pytest.mark.parametrize(
    ("override", "wrong", "nearest"),
    [
        ("method.temprature=0.2", "method.temprature", "method.temperature"),
        ("optimiser.rate=0.1", "optimiser", "optimizer"),
        ("epochss=3", "epochss", "epochs"),
        ("method.projector.hiden=3", "method.projector.hiden", "method.projector.hidden"),
        ("epochs.a=3", None, "epochs"),
    ],
)
def test_an_override_is_checked_like_the_file(override, wrong, nearest):
    said = sentence("sce_small", [override])
    if wrong:
        assert said == f"sce_small: there is no key '{wrong}'; the nearest is '{nearest}'"
    else:
        assert re.fullmatch(r"sce_small: epochs = \{'a': 3\} is not possible: .+ number", said)


def test_a_new_kind_of_optimizer_must_bring_its_rate():
    """The rate of the old kind would be silently wrong, and the sentence says why it is asked for."""
    with pytest.raises(RecipeError, match=r"'optimizer.rate' is missing \(optimizer.kind=sgd starts that section anew"):
        load("simclr_bench", ["optimizer.kind=sgd"])
    assert load("simclr_bench", ["optimizer.kind=sgd", "optimizer.rate=0.1"]).optimizer.rate == 0.1


@pytest.mark.parametrize(
    "override",
    [
        "vicreg_small method.variance=-1",
        "vicreg_small method.covariance=-1",
        "barlow_twins_small method.redundancy=-1",
        "barlow_twins_small method.scale=0",
        "barlow_twins_small method.bias_rate=-1",
        "align_uniform_small method.align_weight=-1",
        "align_uniform_small method.uniform_weight=-1",
        "align_uniform_small method.alpha=0",
        "align_uniform_small method.t=0",
    ],
)
def test_a_weight_that_would_turn_a_loss_around_is_refused(override):
    name, change = override.split()
    with pytest.raises(RecipeError, match=r"is not possible: give (0 or more|a number above 0)$"):
        load(name, [change])
