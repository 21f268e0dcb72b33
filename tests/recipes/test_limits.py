"""Numbers that the images, a batch or the queue cannot serve: for each method a sentence, or a fallback it tells."""

import inspect
import math

import pytest
import torch

from lookalike.functional.schedules import Clock
from lookalike.methods.method import Batch, Method, Progress
from lookalike.modules import NormedPrototypes, Prototypes, Queue, Rows
from lookalike.recipes import METHODS, RecipeError, build_encoder, build_method, delays, load, names
from lookalike.training.timeline import timeline
from methods.records import records

IMAGES, BATCH, FAR = 64, 16, 3001
SIZES = {"neighbors", "hardest", "negatives", "others", "recent", "window"}  # of which there may be too few
NO_SIZES = {"pairs", "with_query", "shift", "iterations", "frozen_steps", "rounds"}  # any number of which can be had
SAMPLED = ["method.classes.sampled=true"]  # of which only some classes may take part
WITH = {  # without which a number has no effect
    ("pic", "recent"): SAMPLED,
    ("instance_classifier", "negatives"): SAMPLED,
    ("npid", "negatives"): ["method.objective=nce"],
}
PARTS = (Queue, Queue | None, Rows, Prototypes, NormedPrototypes)


class NothingElse:
    def again(self, batch: Batch, attempt: int) -> Batch:
        raise AssertionError("nothing is drawn again here")

    def reserve(self, batch: Batch, offset: int) -> Batch:
        raise AssertionError("nothing new is drawn here")


def built(name: str, *overrides: str, images: int = IMAGES) -> tuple[Method, list[str]]:
    """The method of a smoke recipe, and what is said about it."""
    recipe, notes = load(name, [f"batch={BATCH}", *overrides]), list[str]()
    encoder = build_encoder(recipe.backbone, channels=3, size=16, seed=0)
    method = build_method(recipe, encoder, images, notes.append)
    timeline(method.plan(recipe.epochs), size=images, batch=recipe.batch)
    return method, notes


def loss(method: Method) -> float:
    """Of one batch of noise."""
    index, clock = torch.arange(BATCH), Clock(step=0, steps=8, epoch=0.0, epochs=2.0)
    views = {
        view: torch.randint(256, (BATCH, 3, 16, 16), dtype=torch.uint8)
        for phase in method.plan(2.0)
        for view in phase.reads
    }
    progress = Progress(phase=clock, run=clock, seed=0)
    found = method(Batch(views=views, index=index, position=index, progress=progress, redraw=NothingElse())).loss
    return float(found.detach())


def counts(name: str) -> list[str]:
    """The constructor's numbers of rows, images or prototypes."""
    parameters = inspect.signature(METHODS[name]).parameters.values()
    return [one.name for one in parameters if one.annotation in PARTS or one.name in SIZES]


@pytest.mark.parametrize("name", METHODS)
def test_every_whole_number_of_a_method_is_a_size_or_is_known_to_be_none(name):
    """A new one is put into SIZES, and then needs a limit, or into no_sizes of the method's record."""
    whole = {
        parameter.name
        for parameter in inspect.signature(METHODS[name]).parameters.values()
        if parameter.annotation in (int, int | None)
    }
    told = {number for name, record in records().items() for number in record.no_sizes}
    assert whole <= SIZES | NO_SIZES | told


@pytest.mark.parametrize(("name", "key"), [(name, key) for name in METHODS for key in counts(name)])
def test_more_than_there_is(name, key):
    """Refused in a sentence that names the number, or told in one; then a step is possible."""
    with_it = WITH.get((name, key), [])
    try:
        method, said = built(f"{name}_small_smoke", f"method.{key}={FAR}", *with_it)
    except ValueError as error:
        method, said = None, [str(error)]
    (told,) = (sentence for sentence in said if str(FAR) in sentence)
    assert ": " in told
    assert "\n" not in told
    assert method is None or math.isfinite(loss(method))


@pytest.mark.parametrize("name", [name for name in METHODS if {"queue", "recent"} & set(counts(name))])
def test_a_queue_shorter_than_a_batch(name):
    key = "recent" if "recent" in counts(name) else "queue"
    sampled = SAMPLED if key == "recent" else []
    method, notes = built(f"{name}_small_smoke", f"method.{key}=4", *sampled)
    assert f"method.{key} is 4, and a batch has 16 images: the last 4 are kept" in notes
    assert math.isfinite(loss(method))


@pytest.mark.parametrize(
    ("name", "several"),
    [("moco", ["method.symmetric=true"]), ("sce", ["method.keys=[weak,strong]", "method.queries=[weak,strong]"])],
)
def test_a_queue_shorter_than_the_keys_of_a_batch(name, several):
    told = "the queue has {} rows, and a batch 32 keys: the last {} are kept"
    for rows, images in ((20, IMAGES), (16, BATCH)):  # as asked for, and capped at a batch
        method, notes = built(f"{name}_small_smoke", *several, "method.queue=20", images=images)
        assert told.format(rows, rows) in notes
        assert math.isfinite(loss(method))
    _, notes = built(f"{name}_small_smoke", *several, "method.queue=32")
    assert not [note for note in notes if "are kept" in note]


@pytest.mark.parametrize("name", METHODS)
def test_one_image_at_a_time(name):
    with pytest.raises(RecipeError, match=r"^a batch of 4 in 4 parts is one image at a time.* lower accumulate to 2 "):
        built(f"{name}_small_smoke", "batch=4", "accumulate=4", "backbone.statistics=global")


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_larger_than_the_data_set(name):
    with pytest.raises(ValueError, match=r"^a batch of 16 is larger than the 10 images of a round: lower the batch"):
        built(f"{name}_small_smoke", images=10)


@pytest.mark.parametrize(
    ("name", "others", "key", "count", "told"),
    [
        ("ascl_byol_cifar10", [], "neighbors", 16, "a batch has 15 other images: all of them are neighbors"),
        ("relicv2_small", ["batch=8"], "others", 8, "a batch has 7 other images: all of them are compared"),
        ("npid_small", [], "negatives", 65, "there are 64 images: some are drawn several times"),
        ("mochi_small", ["method.queue=20"], "hardest", 21, "the queue has 20 rows: all of them are the hardest"),
        ("instance_classifier_small", [], "hardest", 64, "there are 63 other images: all of them share the smoothing"),
        ("pic_small", ["method.shift=8"], "window", 65, "there are 64 images: every window is all of them"),
        ("pic_small", SAMPLED, "recent", 65, "there are 64 images: all that were visited take part"),
        ("interclr_small", [], "sampler.pool", 65, "there are 64 images: the pool is all of them"),
        ("interclr_small", [], "sampler.count", 7, "the pool has 6 images: all of other clusters are drawn"),
        (
            "interclr_small",
            ["method.sampler.rule=hard"],
            "sampler.count",
            65,
            "the pool has 64 images: all of other clusters are drawn",
        ),
        (
            "swav_small",
            ["method.queue=20", "accumulate=2"],
            "prototypes",
            29,
            "28 samples are shared out among them (a micro-batch, and the queue): each gets less than one",
        ),
    ],
)
def test_the_first_number_that_is_too_large(name, others, key, count, told):
    _, notes = built(f"{name}_smoke", *others, f"method.{key}={count}")
    assert f"method.{key} is {count}, and {told}" in notes
    _, notes = built(f"{name}_smoke", *others, f"method.{key}={count - 1}")
    assert not [note for note in notes if note.startswith(f"method.{key} ")]


def test_prototypes_of_length_one_are_counted_too():
    _, notes = built("dino_small_smoke", "method.prototypes={count: 65, learned_length: true}")
    assert "method.prototypes.count is 65, and there are 64 images: some prototypes have none of their own" in notes


def late(name: str, *overrides: str, images: int = IMAGES) -> list[str]:
    """What is said to begin too late, in 2 epochs of 4 steps: the last one begins at 1.75."""
    words = [f"batch={BATCH}", "epochs=2", *overrides]
    method, _ = built(name, *words, images=images)
    recipe = load(name, words)
    end = timeline(method.plan(recipe.epochs), size=images, batch=BATCH)[-1]
    return delays(recipe, method, end.progress(end.stop - 1, 0).run)


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("mochi_small_smoke", ["method.warmup=1.76"], "method.warmup is 1.76 epochs, and the last step begins at 1.75"),
        ("interclr_small_smoke", ["method.warmup=2"], "method.warmup is 2 epochs"),
        ("ressl_small_smoke", ["method.warmup=2"], "method.warmup is 2 epochs"),
        ("revisiting_small_smoke", ["method.warmup=5"], "method.warmup is 5 epochs"),
        ("swav_small_smoke", ["method.queue_epoch=2"], "method.queue_epoch is 2 epochs"),
        ("swav_small_smoke", ["method.frozen_steps=8"], "prototypes would learn only after the last step (8)"),
        ("dino_small_smoke", ["method.frozen_epochs=2"], "prototypes would learn only after the last step (8)"),
        ("simclr_small_smoke", ["with.curation.warmup=3"], "with.curation.warmup is 3 epochs"),
    ],
)
def test_what_would_begin_after_the_last_step_is_told(name, overrides, said):
    (note,) = late(name, *overrides)
    assert said in note


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("mochi_small_smoke", ["method.warmup=1.75"]),
        ("mochi_small_smoke", ["method.warmup=5", "method.pairs=0", "method.with_query=0"]),
        ("swav_small_smoke", ["method.frozen_steps=7"]),
        ("swav_small_smoke", ["method.queue=0", "method.queue_epoch=5"]),
        ("dino_small_smoke", ["method.frozen_epochs=1.75"]),
    ],
)
def test_what_begins_in_time_is_not_told(name, overrides):
    assert late(name, *overrides) == []


def test_steps_are_counted_as_they_are_trained():
    """One and a half epochs of five steps are eight: the loop rounds."""
    assert late("swav_small_smoke", "method.frozen_steps=7", "epochs=1.5", images=80) == []


@pytest.mark.parametrize("name", [name for name in names() if name.endswith("_smoke")])
def test_nothing_begins_too_late_in_a_smoke_run(name):
    assert late(name) == []
