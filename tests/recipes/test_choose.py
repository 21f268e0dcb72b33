"""The rule for a bare folder: its cases, its bounds, and that what it chooses can be built."""

import pytest

from lookalike.recipes import (
    METHODS,
    RecipeError,
    build_encoder,
    build_method,
    build_optimization,
    choose,
    load,
    method_name,
    view_size,
)
from lookalike.recipes.choose import CPU_STEPS, DEFAULT_METHOD, STEPS

CPU = ("backbone.name=resnet18_quarter",)
ON_CPU = "on a CPU: a quarter-width ResNet-18, batches of 128 at most"


@pytest.mark.parametrize(
    ("method", "side", "images", "device", "recipe", "overrides"),
    [
        # 50,000 images of 32 pixels: as the recipe stands
        ("simclr", 32, 50_000, "cuda", "simclr_small", ("views.size=32",)),
        ("sce", 48, 50_000, "mps", "sce_small", ("views.size=32",)),
        # above 48 pixels views of 64, above 64 photos
        ("sce", 49, 50_000, "cuda", "sce_small", ("views.size=64",)),
        ("sce", 64, 50_000, "cuda", "sce_small", ("views.size=64",)),
        ("sce", 65, 50_000, "cuda", "sce_photos", ("views.size=128",)),
        ("byol", 191, 50_000, "cuda", "byol_photos", ("views.size=128",)),
        ("byol", 192, 50_000, "cuda", "byol_photos", ("views.size=224",)),
        # a CPU: 50,000 // 128 = 390 steps an epoch; 12 epochs make 4,680
        ("simclr", 32, 50_000, "cpu", "simclr_small",
         ("views.size=32", *CPU, "batch=128", "epochs=12", "optimizer.warmup=0.6")),
        # 991 photos on a CPU: 7 steps an epoch; 143 epochs make 1,001
        ("simclr", 256, 991, "cpu", "simclr_photos",
         ("views.size=64", *CPU, "batch=128", "epochs=143", "optimizer.warmup=14.3")),
        # ImageNet on one GPU: 5,004 steps an epoch; 19 epochs make 95,076
        ("simclr", 375, 1_281_167, "cuda", "simclr_photos", ("views.size=224", "epochs=19", "optimizer.warmup=1.9")),
        # few images: four batches of them, and groups of batch statistics of at least four images
        ("simclr", 32, 1024, "cuda", "simclr_small", ("views.size=32", "epochs=500", "optimizer.warmup=25")),
        ("simclr", 32, 1023, "cuda", "simclr_small",
         ("views.size=32", "batch=128", "epochs=286", "optimizer.warmup=14.3")),
        ("moco", 32, 128, "cuda", "moco_small", ("views.size=32", "batch=32", "epochs=500", "optimizer.warmup=25")),
        ("moco", 32, 100, "cuda", "moco_small",
         ("views.size=32", "batch=16", "backbone.statistics=split:4", "epochs=334", "optimizer.warmup=16.7")),
        ("sce", 32, 40, "cuda", "sce_small",
         ("views.size=32", "batch=8", "backbone.momentum_statistics=split:2", "epochs=400", "optimizer.warmup=20")),
        ("simclr", 32, 9, "cpu", "simclr_small",
         ("views.size=32", *CPU, "batch=8", "epochs=1000", "optimizer.warmup=50")),
        # more than fits: a part of one epoch
        ("simclr", 32, 2_560_000, "cpu", "simclr_small",
         ("views.size=32", *CPU, "batch=128", "epochs=0.25", "optimizer.warmup=0.0125")),
    ],
)  # fmt: skip
def test_cases(method, side, images, device, recipe, overrides):
    choice = choose(method, side=side, images=images, device=device)
    assert (choice.recipe, choice.overrides) == (recipe, overrides)


def test_each_decision_has_its_sentence():
    choice = choose(None, side=32, images=100, device="cpu")
    assert choice.reasons == (
        "no method was given: simclr",
        "images are 32 pixels: small stem, 32-pixel views",
        ON_CPU,
        "100 images are few: batches of 16",
        "epochs: 200, which make 1,200 steps, between 1,000 and 5,000",
    )
    choice = choose("byol", side=300, images=1_281_167, device="cuda")
    assert choice.reasons == (
        "images are 300 pixels: the network's own stem, 224-pixel views",
        "epochs: 19, which make 95,076 steps, between 2,000 and 100,000",
    )


def test_without_a_method_there_is_one_constant():
    choice = choose(None, side=32, images=50_000, device="cuda")
    assert DEFAULT_METHOD in METHODS
    assert method_name(load(choice.recipe)) == DEFAULT_METHOD


def test_what_the_user_gives_is_neither_decided_nor_explained():
    given = ["epochs=5", "batch=64", "views.size=48", "backbone.name=resnet18"]
    choice = choose(None, side=32, images=100, device="cpu", given=given)
    assert choice.reasons == ("no method was given: simclr",)
    assert choice.overrides == ("optimizer.warmup=0.25",)  # in proportion to 10 of 200
    assert load(choice.recipe, (*choice.overrides, *given)).epochs == 5
    # steps are counted with the batch that will be used
    choice = choose("simclr", side=32, images=6400, device="cpu", given=["batch=64"])
    assert choice.reasons[-1] == "epochs: 50, which make 5,000 steps, between 1,000 and 5,000"
    for wrong in ("batch=many", "batch=0", "epochs=five", "epochs=-1"):
        with pytest.raises(RecipeError, match=wrong.partition("=")[0]):
            choose(None, side=32, images=100, device="cpu", given=[wrong])


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(RecipeError, match=r"^there is no method 'simcrl'; the nearest is 'simclr'$"):
        choose("simcrl", side=32, images=100, device="cpu")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("method", METHODS)
def test_steps_stay_within_bounds_for_any_number_of_images(method, device):
    least, most = CPU_STEPS if device == "cpu" else STEPS
    for number, images in enumerate(
        [8, 15, 16, 31, 63, 64, 97, 333, *(round(1000 * 2.7**power) for power in range(11))]
    ):
        choice = choose(method, side=(60, 300)[number % 2], images=images, device=device)
        recipe = load(choice.recipe, choice.overrides)
        steps = recipe.epochs * (images // recipe.batch)
        assert least <= steps <= most
        assert recipe.batch & (recipe.batch - 1) == 0
        assert recipe.batch == 8 or images // recipe.batch >= 4
        build_optimization(recipe, pytest.fail)  # no note: the warm-up need not be shortened


@pytest.mark.parametrize("images", [8, 17, 40, 100, 3000])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_chosen_is_built(method, images):
    for side in (32, 300):
        choice = choose(method, side=side, images=images, device="cpu")
        recipe = load(choice.recipe, choice.overrides)
        size = view_size(recipe)
        assert size == (32 if side == 32 else 64)
        encoder = build_encoder(recipe.backbone, channels=3, size=size, seed=0)
        assert encoder.body.conv1.stride == (1, 1)  # the small stem
        assert encoder in build_method(recipe, encoder, images, lambda note: None).modules()


@pytest.mark.parametrize("images", range(2, 12))
def test_a_handful_of_images_gets_a_batch_that_they_fill(images):
    choice = choose(None, side=32, images=images, device="cpu")
    batch = load(choice.recipe, choice.overrides).batch
    assert 2 <= batch <= images
