"""From a recipe to objects: parts that fit, first weights that repeat, and misfits that are named."""

import pytest
import torch
from torch import nn

from lookalike.functional.margin import Margin
from lookalike.functional.schedules import Clock
from lookalike.recipes import (
    RecipeError,
    build_encoder,
    build_method,
    build_optimization,
    build_views,
    load,
    view_size,
)

QUARTER = ["backbone.name=resnet18_quarter"]


def encoder(recipe):
    return build_encoder(recipe.backbone, channels=recipe.data.channels, size=view_size(recipe), seed=recipe.seed)


def built(name, *overrides, images=1000, say=lambda note: None):
    recipe = load(name, [*QUARTER, *overrides])
    return build_method(recipe, encoder(recipe), images, say)


def sentence(name, *overrides) -> str:
    with pytest.raises(RecipeError) as caught:
        built(name, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_first_weights_are_a_function_of_the_seed():
    state = torch.random.get_rng_state()
    one, again, other = built("sce_small"), built("sce_small"), built("sce_small", "seed=1")
    assert torch.equal(state, torch.random.get_rng_state())  # the global generator is left as it was
    for (name, tensor), second, third in zip(
        one.state_dict().items(), again.state_dict().values(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, second), name
        drawn = tensor.is_floating_point() and tensor.dim() > 1 and "mean" not in name and "std" not in name
        assert not drawn or not torch.equal(tensor, third), name


def test_weights_do_not_depend_on_the_method():
    """Runs of different methods start from one backbone."""
    one, other = built("simclr_small"), built("byol_small")
    for (name, tensor), second in zip(
        one.encoder.state_dict().items(), other.encoder.state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, second), name


def test_numbers_of_the_recipe_reach_the_method():
    method = built("sce_small", "method.temperature=0.3", "method.mask_positive=official", "method.momentum.end=1.0")
    assert (method.temperature, method.mask_positive, method.keys) == (0.3, "official", ("weak",))
    ends = [method.momentum(Clock(step=step, steps=10, epoch=0.0, epochs=1.0)) for step in (0, 5, 10)]
    assert ends == pytest.approx([0.99, 0.995, 1.0])
    assert isinstance(method.predictor, nn.Identity)


def test_a_queue_keeps_to_half_of_the_images_and_says_so():
    notes = []
    method = built("moco_small", images=1000, say=notes.append)
    assert len(method.queue.rows()) == 500
    assert notes == ["the queue of 4096 is capped at 500: more would hold keys of over half of the 1000 images"]
    assert len(built("moco_small", images=100_000, say=notes.append).queue.rows()) == 4096
    assert len(notes) == 1


def test_rows_that_a_method_keeps_itself_are_capped_too():
    notes = []
    method = built("swav_small", images=1000, say=notes.append)
    assert method.queue.size == 500
    assert set(method.queue.columns) == {"global/1", "global/2"}
    assert notes == ["the queue of 3840 is capped at 500: more would hold keys of over half of the 1000 images"]
    assert built("swav_small", "method.queue=0", say=notes.append).queue is None
    assert len([note for note in notes if "capped" in note]) == 1


def test_prototypes_are_as_many_and_as_wide_as_the_recipe_says():
    method = built("swav_small", "method.prototypes=70", "method.projector.out=16")
    assert method.prototypes.weight.shape == (70, 16)


def test_rate_and_decay_have_the_ends_of_the_recipe():
    given = ["optimizer.start=0.25", "optimizer.end=0.1", "optimizer.weight_decay=0.04", "optimizer.final_decay=0.4"]
    rule = build_optimization(load("swav_small", given))
    clocks = [Clock(step=step, steps=200, epoch=float(step), epochs=200.0) for step in (0, 5, 10, 105, 200)]
    assert [rule.schedule(clock) for clock in clocks] == pytest.approx([0.25, 0.625, 1.0, 0.55, 0.1])
    assert [rule.weight_decay(clocks[n]) for n in (0, 4)] == pytest.approx([0.04, 0.4])
    assert build_optimization(load("swav_small")).weight_decay == 5e-4


def test_a_queue_holds_at_least_a_batch():
    assert len(built("moco_small", "batch=64", images=80).queue.rows()) == 64


def test_a_bank_has_a_row_for_each_image_and_the_embeddings_width():
    assert built("npid_small", "method.projector.out=24", images=1000).bank.rows().shape == (1000, 24)


def test_clusters_negatives_and_margins_are_what_the_recipe_says():
    method = built("interclr_small", "method.inter_margin={size: 0.4, measure: arc}", images=10_000)
    assert method.inter_margin == Margin(0.4, "arc")
    assert (method.clusters.count, method.clusters.smallest) == (78, 21)
    assert method.sampler.sizes(10_000) == (125, 1000)
    assert built("moco_small", "method.margin=-0.2").margin == Margin(-0.2)


def test_numbers_of_clusters_and_negatives_that_do_not_fit_are_refused():
    few = sentence("interclr_imagenet")
    assert few.startswith("method: 10000 clusters of at least 20 need 200000 images, and there are 1000")
    assert "give a count of at most the pool" in sentence("interclr_small", "method.sampler={count: 9, pool: 8}")
    assert "radians from -pi to pi" in sentence("interclr_small", "method.inter_margin={size: 3.5, measure: arc}")


def test_the_queue_is_as_wide_as_the_embedding():
    assert built("moco_small", "method.projector.out=24").queue.rows().shape[1] == 24
    assert built("sce_imagenet", images=100).queue.rows().shape[1] == 256


def test_view_size_is_that_of_the_largest_view():
    assert view_size(load("sce_imagenet_multicrop", ["views.size=112"])) == 112
    assert view_size(load("moco_cifar10")) == 32


def test_an_unknown_backbone_names_the_nearest():
    with pytest.raises(RecipeError) as caught:
        encoder(load("sce_small", ["backbone.name=resnet5"]))
    assert str(caught.value).startswith("backbone.name: unknown backbone 'resnet5': the nearest names are resnet5")


def test_impossible_views_are_named():
    with pytest.raises(RecipeError, match=r"^views: strengths of a jitter are 0 or more, got ColorJitter"):
        build_views(load("simclr_small", ["views.strength=-1"]))


def test_heads_of_unequal_outputs_are_named():
    assert sentence("byol_small", "method.predictor.out=64") == (
        "method.projector gives 256 numbers and method.predictor gives 64 numbers, but their outputs are compared: "
        "give both the same `out`"
    )


@pytest.mark.parametrize("key", ["statistics", "momentum_statistics"])
def test_batch_statistics_that_do_not_exist_are_named(key):
    said = sentence("sce_small", f"backbone.{key}=splitt:8")
    assert said.startswith(f"backbone.{key}: unknown policy of batch statistics 'splitt:8'")


@pytest.mark.parametrize(
    ("overrides", "rows"),
    [(["batch=20"], 20), (["batch=8"], 8), (["batch=64", "accumulate=8"], 8), (["batch=48", "accumulate=4"], 12)],
)
def test_batch_statistics_that_do_not_fit_the_batch_are_named(overrides, rows):
    assert sentence("sce_small", *overrides) == (
        f"backbone.momentum_statistics = 'split:8' cuts {rows} images (batch / accumulate) into 8 groups: "
        "choose a batch that is a multiple of 8 and at least 16"
    )


def local_statistics(batch: int) -> str:
    try:
        built("simclr_small_smoke", f"batch={batch}", "backbone.statistics=local")
    except RecipeError as error:
        return str(error)
    return "built"


def test_a_process_has_statistics_of_at_least_two_images(gloo):
    assert (
        gloo.run(2, local_statistics, 2)
        == [
            "backbone.statistics = 'local' leaves a process one of 2 images (batch / accumulate), which has no "
            "statistics: choose a batch of 4 or more, or statistics 'global'"
        ]
        * 2
    )
    assert gloo.run(2, local_statistics, 4) == ["built"] * 2


def test_batch_statistics_that_just_fit_are_taken():
    assert built("sce_small", "batch=16").queue is not None
    assert built("moco_small", "batch=64", "accumulate=4").queue is not None


@pytest.mark.parametrize(
    ("scaling", "batch", "rate"),
    [("none", 512, 0.1), ("linear", 512, 0.2), ("linear", 64, 0.025), ("sqrt", 64, 0.8), ("sqrt", 1024, 3.2)],
)
def test_rates_are_scaled(scaling, batch, rate):
    changes = [f"optimizer.scaling={scaling}", f"batch={batch}", "optimizer.rate=0.1"]
    assert build_optimization(load("simclr_small", changes)).rate == pytest.approx(rate)


def test_every_key_of_the_optimizer_arrives():
    changes = ["kind: lars", "rate: 0.5", "weight_decay: 0.01", "momentum: 0.8", "no_decay: one_dimensional", "clip: 3"]
    made = build_optimization(load("simclr_small", [f"optimizer={{{', '.join(changes)}, lars_rate: inside}}"]))
    assert (made.name, made.rate, made.weight_decay, made.momentum) == ("lars", 0.5, 0.01, 0.8)
    assert (made.no_decay, made.clip, made.lars_rate) == ("one_dimensional", 3.0, "inside")


def test_what_is_free_of_decay_reaches_the_parameters():
    def exempt(name: str) -> set[str]:
        method = built(name)
        learnable = {key: p for key, p in method.named_parameters() if p.requires_grad}
        groups = build_optimization(load(name)).build(learnable, method).param_groups
        return {key for group in groups if group["exempt"] for key in group["names"]}

    assert exempt("moco_v2_imagenet") == set()
    norms = exempt("simclr_imagenet")
    assert {"encoder.body.bn1.weight", "encoder.body.bn1.bias", "projector.1.weight"} <= norms
    assert "encoder.body.conv1.weight" not in norms
    assert "projector.0.bias" in exempt("byol_imagenet")
    assert "encoder.body.bn1.weight" in exempt("sce_imagenet")


def test_a_warm_up_longer_than_half_the_run_is_shortened_and_says_so():
    notes = []
    made = build_optimization(load("sce_cifar10", ["epochs=2"]), notes.append)
    assert notes == ["a warm-up of 5 epochs is too long for 2: shortened to 0.2"]
    factors = [made.schedule(Clock(step=0, steps=1, epoch=epoch, epochs=2.0)) for epoch in (0.1, 0.2, 1.1, 2.0)]
    assert factors == pytest.approx([0.5, 1.0, 0.5, 0.0])
    build_optimization(load("sce_cifar10", ["epochs=10"]), notes.append)
    assert len(notes) == 1


@pytest.mark.parametrize(("statistics", "told"), [("global", True), ("local", True), ("split:8", False)])
def test_a_shuffle_that_hides_nothing_is_said(statistics, told):
    recipe = load("moco_small", [f"backbone.statistics={statistics}", "batch=16"])
    notes = list[str]()
    build_method(recipe, encoder(recipe), 64, notes.append)
    assert any("method.shuffle has no effect" in note for note in notes) == told


def test_without_a_shuffle_nothing_is_said():
    recipe = load("moco_small", ["backbone.statistics=global", "method.shuffle=false", "method.queue=16", "batch=16"])
    build_method(recipe, encoder(recipe), 64, pytest.fail)


@pytest.mark.parametrize(("live", "width"), [("false", 256), ("true", 128)])
def test_the_bank_of_a_live_head_is_as_wide_as_the_backbone(live, width):
    method = built("qk_iteration_small", f"method.live_head={live}", "method.bank=fp16")
    assert method.bank.table.shape == (1000, width)
    assert method.bank.table.dtype == torch.float16
    assert not any(name.startswith("bank") for name in method.state_dict())


def test_a_bank_that_memory_cannot_hold_lies_in_a_file_of_the_run_and_says_so(tmp_path, monkeypatch):
    recipe, notes = load("qk_iteration_small", QUARTER), list[str]()
    assert not build_method(recipe, encoder(recipe), 1000, notes.append, tmp_path).bank.mapped
    monkeypatch.setattr("lookalike.recipes.build_parts.SHARE", 1e-9)  # as if a machine had next to no memory
    assert build_method(recipe, encoder(recipe), 1000, notes.append, tmp_path).bank.mapped
    (note,) = notes
    assert note.startswith("the bank of 1,000 x 256 numbers takes 0.001 GB, and memory has ")
    assert f"it lies in a file without a name in {tmp_path}, gone when this process ends" in note
    assert list(tmp_path.iterdir()) == []
    assert not built("qk_iteration_small").bank.mapped  # nowhere to lie


def told(name: str) -> list[str]:
    recipe, notes = load(name, [*QUARTER, "backbone.statistics=global"]), list[str]()
    build_method(recipe, encoder(recipe), 1000, notes.append)
    return [note for note in notes if "processes" in note]


def test_what_each_of_several_processes_holds_is_said(gloo):
    dealt, whole = (gloo.run(2, told, name)[0] for name in ("instance_classifier_small", "qk_iteration_small"))
    assert dealt == ["the 1,000 x 128 numbers of class weights are dealt over 2 processes, saved whole"]
    assert whole == ["the bank of 1,000 x 256 numbers is whole in each of 2 processes, 0.001 GB each"]
    assert told("qk_iteration_small") == []
