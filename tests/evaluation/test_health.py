"""Health: closed forms, collapses that are named, and nets in good health that raise no alarm."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lookalike.evaluation import Diagnosis, Reading, alignment, diagnose, health, rankme, uniformity


def history(count: int = 10, every: int = 20, **changes: float | None) -> list[Reading]:
    """Readings of a net in good health, with changes."""
    healthy = {"rows": 512, "dimensions": 128, "spread": 0.9, "rank": 40.0, "cosine": 0.1, "loss": 4.0, "uniform": 6.0}
    return [Reading(step=every * i, **{**healthy, **changes}) for i in range(count)]


def plain_health(rows: np.ndarray) -> dict[str, float]:
    """Loops over dimensions and pairs, in double precision."""
    z = np.array([x / np.linalg.norm(x) for x in rows])
    N, D = z.shape
    spread = math.sqrt(np.mean([(np.std(z[:, d]) * math.sqrt(D)) ** 2 for d in range(D)]))
    cosine = np.mean([z[i] @ z[j] for i in range(N) for j in range(N) if i != j])
    s = np.linalg.svd(rows, compute_uv=False)
    p = s / s.sum() + 1e-7
    return {"spread": spread, "cosine": cosine, "rank": math.exp(-sum(x * math.log(x) for x in p))}


@pytest.mark.parametrize(("rows", "dimensions", "shift"), [(20, 7, 0.0), (9, 30, 1.0), (64, 64, -3.0)])
def test_readings_equal_plain_loops(rows, dimensions, shift):
    z = torch.randn(rows, dimensions) * 5 + shift
    found, expected = health(z), plain_health(z.double().numpy())
    assert (found["rows"], found["dimensions"]) == (rows, dimensions)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_rankme_of_the_identity_is_d_and_of_one_direction_is_1():
    assert rankme(torch.eye(32)).item() == pytest.approx(32, rel=1e-4)
    assert rankme(7 * torch.eye(16).repeat(5, 1)).item() == pytest.approx(16, rel=1e-4)
    assert rankme(torch.randn(50, 1) @ torch.randn(1, 24)).item() == pytest.approx(1, abs=1e-3)
    assert rankme(torch.zeros(5, 3)).item() == pytest.approx(1, abs=1e-4)
    # singular values 3 and 1: exp(-(3/4 log 3/4 + 1/4 log 1/4))
    assert rankme(torch.diag(torch.tensor([3.0, 1.0]))).item() == pytest.approx(4 / 3**0.75, rel=1e-5)


def test_spread_and_cosine_of_known_clouds():
    cloud = health(torch.randn(4000, 64))
    assert cloud["spread"] == pytest.approx(1, abs=1e-3)
    assert cloud["cosine"] == pytest.approx(0, abs=2e-3)
    alike = health(torch.ones(10, 5) * torch.arange(1, 11)[:, None])
    assert alike["spread"] == pytest.approx(0, abs=1e-3)
    assert alike["cosine"] == pytest.approx(1, abs=1e-5)
    poles = health(torch.tensor([[1.0, 0], [-1, 0]]))
    assert (poles["spread"], poles["cosine"]) == (pytest.approx(1), pytest.approx(-1))


def test_a_rotation_and_the_norms_of_rows_change_nothing_in_spread_and_cosine():
    z = torch.randn(40, 6) * torch.tensor([5.0, 1, 1, 0.1, 0.1, 0])
    turn = torch.linalg.qr(torch.randn(6, 6)).Q
    one, other = health(z), health((z @ turn) * torch.rand(40, 1).add(0.1))
    assert one["spread"] == pytest.approx(other["spread"], rel=1e-4)
    assert one["cosine"] == pytest.approx(other["cosine"], abs=1e-5)


def test_health_needs_no_gradient_and_takes_low_precision():
    z = torch.randn(16, 4, requires_grad=True)
    assert health(z.bfloat16())["rank"] == pytest.approx(health(z)["rank"], rel=1e-2)
    assert all(isinstance(value, int | float) for value in health(z).values())


def test_health_refuses_what_cannot_be_read():
    with pytest.raises(ValueError, match="there is 1 row"):
        health(torch.randn(1, 4))
    with pytest.raises(ValueError, match="2 of 4 rows are not finite"):
        health(torch.tensor([[1.0], [math.nan], [math.inf], [2.0]]))


def test_alignment_and_uniformity_closed_forms():
    z = torch.randn(30, 5)
    assert alignment(z, 3 * z) == pytest.approx(0, abs=1e-6)
    assert alignment(z, -z) == pytest.approx(4, rel=1e-6)
    assert alignment(torch.tensor([[1.0, 0]]), torch.tensor([[0, 2.0]])) == pytest.approx(2)
    assert uniformity(torch.tensor([[1.0, 0], [-3, 0]])) == pytest.approx(-8)  # antipodal: distance^2 = 4
    assert uniformity(torch.ones(9, 4)) == pytest.approx(0, abs=1e-9)
    # a square: 4 pairs at distance^2 2 and 2 pairs at 4
    square = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    assert uniformity(square, t=1.0) == pytest.approx(math.log((4 * math.exp(-2) + 2 * math.exp(-4)) / 6))


def test_uniformity_in_tiles_equals_all_pairs():
    z = torch.randn(2100, 3)
    expected = torch.pdist(F.normalize(z.double(), dim=1)).pow(2).mul(-2).exp().mean().log().item()
    assert uniformity(z) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "cause", "words"),
    [
        ({"spread": 0.02, "cosine": 0.9996}, "complete collapse", "all images look alike (std 0.02 of what is healthy"),
        ({"cosine": 0.995, "spread": 0.11}, "complete collapse", "mean cosine 0.995"),
        ({"rank": 1.5, "rows": 64}, "dimensional collapse", "rank 1.5 of 128"),
        ({"rank": 3.0}, "dimensional collapse", "rank 3.0 of 128"),
        ({"loss": math.log(4097), "uniform": math.log(4097)}, "uniform loss", "stays at 8.318"),
        ({"loss": 8.9, "uniform": math.log(4097)}, "uniform loss", "it would be 8.318 if all images looked alike"),
        ({"loss": 12.6, "uniform": math.log(4097)}, "loss above uniform", "The loss is 12.6, far above 8.318"),
        ({"loss": 0.0002}, "zero loss", "The loss is 0.0002"),
    ],
)
def test_each_collapse_is_named_with_the_setting_to_change(changes, cause, words):
    found = diagnose(history(**changes))
    assert isinstance(found, Diagnosis)
    assert found.cause == cause
    assert words in found.sentence
    assert "optimizer.rate" in found.sentence or "method.temperature" in found.sentence


def test_a_collapse_is_named_within_200_steps_of_readings_every_20():
    readings = history(11, spread=0.01, cosine=0.9999)
    named = [r.step for n, r in enumerate(readings) if diagnose(readings[: n + 1])]
    assert named[0] == 180


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rank": 6.0, "rows": 200},  # below 5 % of 128, but 200 rows cannot show more than 5 % of 100
        {"rank": 1.0, "rows": 40},  # too few rows to tell
        {"rank": 7.0},
        {"spread": 0.12, "cosine": 0.98},
        {"loss": math.log(4097) - 0.2, "uniform": math.log(4097)},
        {"loss": 0.0, "uniform": None},  # a cosine loss starts at 0 and has no keys
        {"loss": None},
        {"loss": -0.97, "uniform": None},
    ],
)
def test_healthy_histories_raise_no_alarm(changes):
    assert diagnose(history(**changes)) is None


def test_the_start_of_training_never_counts():
    assert diagnose([]) is None
    assert diagnose(history(5, spread=0.0, cosine=1.0, rank=1.0)) is None
    assert diagnose(history(9, spread=0.0, cosine=1.0, rank=1.0)) is None  # steps 100 to 160: four readings


def test_one_good_reading_breaks_the_row_and_rising_readings_are_no_collapse():
    collapsed = history(12, spread=0.02, cosine=0.9998)
    assert diagnose(collapsed) is not None
    assert diagnose([*collapsed[:-2], history(12)[-2], collapsed[-1]]) is None
    rising = [Reading(**{**vars(r), "spread": 0.02 + 0.005 * n}) for n, r in enumerate(collapsed)]
    assert diagnose(rising) is None
    rank = [Reading(**{**vars(r), "rank": 2 + 0.3 * n}) for n, r in enumerate(history(12))]
    assert diagnose(rank) is None


def test_a_high_loss_that_falls_is_no_alarm():
    high = history(12, loss=7.0)
    assert diagnose(high) is not None
    falling = [Reading(**{**vars(r), "loss": 9.0 - 0.25 * n}) for n, r in enumerate(high)]
    assert diagnose(falling) is None  # from 7.1 to 6.4
    settling = [Reading(**{**vars(r), "loss": 6 + 1 / (1 + n)}) for n, r in enumerate(high)]
    assert diagnose(settling).cause == "uniform loss"  # it falls towards 6, and no further
    huge = [Reading(**{**vars(r), "loss": 4000.0 - 200 * n}) for n, r in enumerate(high)]
    assert diagnose(huge).cause == "loss above uniform"


def test_a_spread_that_hardly_rises_is_a_collapse():
    rising = [Reading(**{**vars(r), "spread": 0.002 * n, "cosine": 0.9999}) for n, r in enumerate(history(12))]
    assert diagnose(rising).cause == "complete collapse"


def test_nothing_counts_while_the_learning_rate_rises():
    collapsed = history(30, spread=0.02, cosine=0.9998)
    warming = [Reading(**{**vars(r), "rate": min(n, 20) / 100}) for n, r in enumerate(collapsed)]
    named = [r.step for n, r in enumerate(warming) if diagnose(warming[: n + 1])]
    assert named[0] == 20 * 25  # five readings after the last rise, at reading 20
    falling = [Reading(**{**vars(r), "rate": 1 / (1 + n)}) for n, r in enumerate(collapsed)]
    assert diagnose(falling[:10]) is not None


def test_a_finished_encoder_is_diagnosed_from_one_reading():
    z = torch.ones(100, 8) + 0.001 * torch.randn(100, 8)
    assert diagnose([Reading(step=0, **health(z))], warmup=0, patience=1).cause == "complete collapse"
    assert diagnose([Reading(step=0, **health(torch.randn(100, 8)))], warmup=0, patience=1) is None


def contrast(z1: Tensor, z2: Tensor) -> Tensor:
    """NT-Xent at temperature 0.2."""
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = (z @ z.T / 0.2).masked_fill(torch.eye(len(z), dtype=torch.bool), -math.inf)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(z1)))


def attract(z1: Tensor, z2: Tensor) -> Tensor:
    """Positives only, gradient on both sides: collapses by design."""
    return 2 - 2 * F.cosine_similarity(z1, z2).mean()


def train(loss_of: Callable[[Tensor, Tensor], Tensor], *, norm: bool, constant: bool, rate: float, seed: int):
    """Trains on scanned digits for 200 steps; (step and cause of the first alarm or None, readings)."""
    torch.manual_seed(seed)
    x = torch.from_numpy(load_digits().data).float() / 16
    x = x[:1].expand(len(x), -1) if constant else x
    middle = [nn.BatchNorm1d(128)] if norm else []
    net = nn.Sequential(nn.Linear(64, 128), *middle, nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 32))
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    uniform = math.log(2 * 128 - 1) if loss_of is contrast else None
    readings = []
    for step in range(201):
        batch = x[torch.randint(0, len(x), (128,))]
        z1, z2 = (net(batch * (torch.rand_like(batch) < 0.7) + 0.1 * torch.randn_like(batch)) for _ in range(2))
        loss = loss_of(z1, z2)
        if step % 20 == 0:
            readings.append(Reading(step=step, loss=loss.item(), uniform=uniform, **health(torch.cat([z1, z2]))))
            if found := diagnose(readings):
                return (step, found.cause), readings
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return None, readings


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("norm", [True, False])
def test_contrastive_training_on_digits_raises_no_alarm(norm, seed):
    alarm, readings = train(contrast, norm=norm, constant=False, rate=0.05, seed=seed)
    assert alarm is None
    assert readings[-1].loss < readings[0].loss - 0.5


def test_a_random_network_that_does_not_learn_raises_no_alarm():
    assert train(contrast, norm=True, constant=False, rate=0.0, seed=0)[0] is None


@pytest.mark.parametrize("seed", range(2))
def test_attraction_without_repulsion_is_a_complete_collapse(seed):
    alarm, _ = train(attract, norm=False, constant=False, rate=0.05, seed=seed)
    assert alarm == (180, "complete collapse")


@pytest.mark.parametrize("seed", range(2))
def test_equal_images_are_noticed(seed):
    alarm, _ = train(contrast, norm=False, constant=True, rate=0.05, seed=seed)
    assert alarm is not None
    assert alarm[1] in ("complete collapse", "uniform loss")
