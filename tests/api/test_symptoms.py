"""What doctor sees in metrics and checkpoints: each trouble by its numbers, and nothing where there is none."""

import math
from pathlib import Path

import pytest
import torch

from lookalike.api.doctor import as_built
from lookalike.api.symptoms import collapsed, dropped, flat, starved, unlearned, unmoved
from lookalike.api.symptoms_of_state import stale, unfed
from lookalike.methods.method import Method
from lookalike.recipes import load
from lookalike.training.checkpoint import Checkpoint

RECIPE = load("simclr_small_smoke")
MOCO = load("moco_small_smoke", ["method.queue=64"])


def lines(count: int = 60, **changes: object) -> list[dict]:
    """Lines of training every 20 steps, and a reading of health after each, of a run in good health."""
    health = {"spread": 0.9, "rank": 30.0, "cosine": 0.1, "rows": 256, "dimensions": 64, "loss": 3.0, "uniform": 6.0}
    rows: list[dict] = []
    for number in range(1, count + 1):
        rows.append({"step": 20 * number, "loss": 3 + 3 / number, "wait": 0.02, "updated": True})
        rows.append({"step": 20 * number, "probe": True, **health, **changes})
    return rows


def recognized(trained: float, fresh: float) -> dict:
    return {"step": 1, "probe": True, "recognized/trained": trained, "recognized/random weights": fresh}


def save(step: int, method: Method) -> Checkpoint:
    tensors = {f"method/{name}": value.clone() for name, value in method.state_dict().items()}
    return Checkpoint(step=step, path=Path(), tensors=tensors, facts={})


@torch.no_grad()
def moved(method: Method, name: str, distance: float) -> None:
    """Moves all parameters of a part by as much."""
    for parameter in method.get_submodule(name).parameters():
        parameter += distance * torch.randn_like(parameter)


@pytest.fixture
def moco() -> Method:
    return as_built(MOCO, {"images": 200})


def trained(moco: Method, step: int = 200) -> Checkpoint:
    """A checkpoint of a MoCo in good health."""
    moved(moco, "encoder", 0.1)
    moved(moco, "projector", 0.1)
    moco.momentum_encoder.follow(moco.encoder, moco.projector, momentum=0.7)
    moco.queue.push(torch.nn.functional.normalize(torch.randn(48, moco.queue.rows().shape[1]), dim=1))
    return save(step, moco)


def test_good_health_has_no_symptom(moco) -> None:
    rows = lines()
    assert [*collapsed(rows, RECIPE), *flat(rows), *dropped(rows, RECIPE), *starved(rows, RECIPE)] == []
    assert [*unmoved(rows, RECIPE), *unlearned([*rows, recognized(0.5, 0.1)], RECIPE, 1000)] == []
    start, saves = as_built(MOCO, {"images": 200}), [trained(moco), trained(moco, 400)]
    assert [*unfed(start, saves, True), *stale(start, saves, MOCO, True)] == []
    assert [*collapsed([], RECIPE), *flat([]), *dropped([], RECIPE), *starved([], RECIPE)] == []


def test_a_collapse_comes_with_a_change() -> None:
    (found,) = collapsed(lines(spread=0.01, cosine=0.999), RECIPE)
    assert found.what == "complete collapse"
    assert found.sentence.startswith("step 1,200: The projections have collapsed")
    assert found.change == f"optimizer.rate={RECIPE.optimizer.rate / 10:g}"
    (found,) = collapsed(lines(loss=1e-6), RECIPE)
    assert (found.what, found.change) == ("zero loss", "method.temperature=0.4")


def test_a_collapse_that_has_passed_is_told_as_such() -> None:
    rows = lines(20, spread=0.01, cosine=0.999)
    rows[19]["collapse"] = "step 200: The projections have collapsed."
    rows += [{**row, "step": row["step"] + 400} for row in lines(20)]
    (found,) = collapsed(rows, RECIPE)
    assert found.what == "collapse while training"
    assert "the last readings do not show it any more" in found.sentence
    assert found.change is None


def test_a_loss_that_does_not_fall() -> None:
    rows = lines()
    for row in rows:
        if not row.get("probe"):
            row["loss"] = 5.0 + 0.1 * math.sin(row["step"])
    (found,) = flat(rows)
    assert found.what == "loss not falling"
    assert found.sentence.startswith("The loss is 4.989 at the end and was never higher than 5.015")
    assert flat([{name: value for name, value in row.items() if name != "uniform"} for row in rows]) == []  # as BYOL's
    assert flat(rows[:30]) == []  # too few lines to tell
    rising = [{**row, "loss": 3 + row["step"] / 500} if row["step"] < 600 else row for row in lines()]
    assert flat(rising) == []  # MoCo's loss rises while its queue fills, and falls then


def test_a_gradient_that_is_zero_to_the_end() -> None:
    rows = [{"step": step, "gradient_norm": float(step < 20)} for step in range(10, 80, 10)]
    (found,) = unmoved(rows, RECIPE)
    assert found.sentence.startswith("The gradient is 0 from step 20 to 70, so that nothing is learned")
    assert unmoved(rows[:-2], RECIPE) == []  # too few lines to tell
    assert unmoved([*rows, {"step": 80, "gradient_norm": 1.0}], RECIPE) == []
    assert unmoved([*rows, {"step": 80, "gradient_norm": None, "nonfinite": ["gradient_norm"]}], RECIPE) == []
    assert found.change is None
    assert unmoved(rows, load("simclr_small_smoke", ["runtime.precision=fp16"]))[0].change == "runtime.precision=fp32"


def test_less_is_recognized_than_by_random_weights() -> None:
    (found,) = unlearned([recognized(0.05, 0.1)], RECIPE, 1000)
    assert found.sentence.startswith("The encoder knows 5.0% of images by another view of them, and one with random")
    assert unlearned([recognized(0.05, 0.1)], RECIPE, 100) == []  # of few images
    assert unlearned([recognized(0.09, 0.1)], RECIPE, 1000) == []  # chance
    supcon = load("supcon_small_smoke")
    assert unlearned([recognized(0.05, 0.1)], supcon, 1000, labeled=True) == []  # classes are to look alike
    assert unlearned([recognized(0.05, 0.1)], supcon, 1000)
    assert unlearned([recognized(0.05, 0.1)], RECIPE, 1000, labeled=True)  # labels that it does not read


@pytest.mark.parametrize(
    ("precision", "counts", "change"),
    [
        ("bf16", {3: 2, 7: 1}, "runtime.precision=fp32"),
        ("fp32", {3: 3}, f"optimizer.rate={RECIPE.optimizer.rate / 10:g}"),
        ("fp16", {0: 31}, "runtime.precision=fp32"),
        ("fp16", {0: 12}, None),
        ("fp32", {}, None),
    ],
)
def test_dropped_steps_are_counted(precision, counts, change) -> None:
    rows = lines()
    for place, count in counts.items():
        rows[2 * place]["dropped"] = count
    found = dropped(rows, load("simclr_small_smoke", [f"runtime.precision={precision}"]))
    assert [finding.change for finding in found] == ([] if change is None else [change])
    if found:
        assert found[0].sentence.startswith(f"{sum(counts.values())} steps were dropped, the last before step ")


@pytest.mark.parametrize(("wait", "workers", "more"), [(0.4, 0, 2), (0.16, 3, 6), (0.14, 0, None)])
def test_a_starved_loader(wait, workers, more) -> None:
    rows = [{**row, "wait": wait} if "wait" in row else row for row in lines()]
    rows[0]["wait"] = 0.99  # the start
    found = starved(rows, load("simclr_small_smoke", [f"runtime.workers={workers}"]))
    assert [finding.change for finding in found] == ([] if more is None else [f"runtime.workers={more}"])
    if found:
        assert found[0].sentence.startswith(f"{wait:.0%} of the time")


def test_a_queue_that_is_never_fed(moco) -> None:
    start = as_built(MOCO, {"images": 200})
    (found,) = unfed(start, [save(50, moco)], True)
    assert found.what == "dead queue"
    assert found.sentence.startswith("The 64 rows of queue are those of step 0: nothing is pushed into it.")
    assert unfed(start, [save(50, moco)], False) == []  # --init: what it began with is not known
    (found,) = unfed(start, [save(50, moco), save(60, moco)], False)
    assert "are those of step 50" in found.sentence
    assert unfed(start, [save(0, moco)], True) == []


def test_a_queue_that_begins_late_is_not_dead() -> None:
    """SwAV's is empty before its epoch, and then fills."""
    method, start = (as_built(load("swav_small_smoke"), {"images": 200}) for _ in range(2))
    assert unfed(start, [save(50, method), save(60, method)], True) == []
    rows = torch.nn.functional.normalize(torch.randn(16, 16), dim=1)
    method.queue.push(**dict.fromkeys(method.codes, rows))
    assert unfed(start, [save(50, method), save(60, method)], True) == []
    method.queue.push(**dict.fromkeys(method.codes, rows.flip(0).flip(1)))
    full = [save(70, method), save(80, method)]
    assert {found.what for found in unfed(start, full, False)} == {"dead queue"}


def test_rows_that_repeat_one_another(moco) -> None:
    start = as_built(MOCO, {"images": 200})
    moco.queue.push(torch.ones(40, moco.queue.rows().shape[1]) + 1e-6 * torch.randn(40, 1))
    (found,) = unfed(start, [save(50, moco)], True)
    assert found.what == "repeated rows in the queue"
    assert found.sentence.startswith("61% of the 64 rows of queue repeat others")  # 39 of 64


def test_a_momentum_encoder_that_never_moves(moco) -> None:
    start = as_built(MOCO, {"images": 200})
    moved(moco, "encoder", 0.1)
    (found,) = stale(start, [save(50, moco)], MOCO, True)
    assert found.what == "stale momentum encoder"
    assert "momentum_encoder has not moved in 50 steps" in found.sentence
    assert found.change == "method.momentum=0.99"
    assert stale(start, [save(50, moco)], MOCO, False) == []
    first = save(50, moco)
    moved(moco, "encoder", 0.1)
    (found,) = stale(start, [first, save(150, moco)], MOCO, False)
    assert "has not moved in 100 steps" in found.sentence
    assert stale(start, [first, save(149, moco)], MOCO, False) == []  # a momentum near 1 at the end moves little


def test_a_momentum_encoder_that_hardly_moves(moco) -> None:
    start = as_built(MOCO, {"images": 200})
    moved(moco, "encoder", 0.1)
    moved(moco, "projector", 0.1)
    moco.momentum_encoder.follow(moco.encoder, moco.projector, momentum=0.996)
    (found,) = stale(start, [save(100, moco)], MOCO, True)
    assert "has made 0.4% of the way of its encoder in 100 steps" in found.sentence
    assert stale(start, [save(99, moco)], MOCO, True) == []


def test_a_momentum_encoder_without_momentum(moco) -> None:
    start = as_built(MOCO, {"images": 200})
    moved(moco, "encoder", 0.1)
    moco.momentum_encoder.follow(moco.encoder, moco.projector, momentum=0.0)
    (found,) = stale(start, [save(50, moco)], MOCO, True)
    assert found.what == "momentum encoder equals the encoder"
    moved(moco, "encoder", 0.01)  # MoCo's has the weights of the last step
    off = load("moco_small_smoke", ["method.queue=64", "method.momentum=0"])
    assert [finding.what for finding in stale(start, [save(50, moco)], off, True)] == [found.what]
    assert stale(start, [save(50, moco)], MOCO, True) == []


@pytest.mark.parametrize("name", ["byol", "sce"])
def test_what_a_momentum_encoder_follows_is_found_in_every_method(name) -> None:
    recipe = load(f"{name}_small_smoke")
    method = as_built(recipe, {"images": 200})
    moved(method, "projector", 0.1)
    (found,) = stale(as_built(recipe, {"images": 200}), [save(50, method)], recipe, True)
    assert found.what == "stale momentum encoder"
