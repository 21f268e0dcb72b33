"""QK Iteration: the closed forms of its losses, a frozen side that stays, phases and banks that survive every stop."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from contracts.small_world import Death, Draws, Killed, Net
from lookalike.functional import in_batch_contrast, random
from lookalike.methods.qk_iteration import QKIteration
from lookalike.modules import Bank
from lookalike.training.checkpoint import Checkpoints
from lookalike.training.corpus import WholeDataSet
from lookalike.training.journal import Journal
from lookalike.training.loop import Training, train
from lookalike.training.metrics import Metrics
from lookalike.training.optimizers import Optimization
from lookalike.training.progress import Line
from lookalike.training.runtime import Runtime
from lookalike.training.saver import Saver
from lookalike.training.streams import Streams
from lookalike.training.timeline import timeline
from methods.fixtures import batch, identity

F64 = torch.float64
Q = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], dtype=F64)
K = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]], dtype=F64)
IMAGES, BATCH, STEPS = 300, 64, 8  # two rounds in two epochs of four steps: a phase has two


class Vectors:
    """A data set of vectors, as a method sees it in `prepare`: the same for every view."""

    def __init__(self, x_ND: Tensor) -> None:
        self.x_ND, self.size, self.asked = x_ND, len(x_ND), list[tuple[nn.Module, str, str]]()

    def encode(self, module: nn.Module, view: str, mode: str = "eval") -> Iterator[tuple[Tensor, Tensor]]:
        self.asked.append((module, view, mode))
        for index in torch.arange(self.size).split(2):
            with torch.no_grad():
                yield index, module(self.x_ND[index])

    def pair(self, view: str, table: Tensor, own: float = 0.0) -> None:
        raise AssertionError("this method sets no partners")

    def generator(self, name: str) -> torch.Generator:
        raise AssertionError("this method draws nothing in prepare")


def small(bank: Tensor, **settings) -> tuple[QKIteration, Vectors]:
    """Both sides the identity; the frozen one answers with `bank`."""
    size, dim = bank.shape
    method = QKIteration(identity(dim), identity(dim), Bank(size, dim, dtype=F64, derived=True), **settings)
    return method, Vectors(bank)


def loss_of(method: QKIteration, side: str, images: Vectors, rows: Tensor) -> Tensor:
    phase = next(phase for phase in method.plan(2.0) if phase.name == f"{side}/1")
    method.prepare(phase, images)
    return method(batch({phase.reads[0]: rows})).loss


@pytest.mark.parametrize(
    ("side", "rows", "bank", "each", "mean"),
    [
        ("query", Q, K, [0.751251, 0.627123, 0.943921], 0.774098),
        ("key", K, Q, [0.460373, 1.151251, 0.794304], 0.801976),
    ],
)
def test_closed_forms_of_both_steps(side: str, rows: Tensor, bank: Tensor, each: list[float], mean: float) -> None:
    """(i) Three images in two dimensions at temperature 1/2; the K step is the transpose of the same logits."""
    method, images = small(bank, temperature=0.5)
    assert loss_of(method, side, images, rows).item() == pytest.approx(mean, abs=1e-6)
    for number, expected in enumerate(each):
        order = torch.tensor([number, *(i for i in range(3) if i != number)])  # that image is the batch's first
        images.x_ND = bank[order]
        assert loss_of(method, side, images, rows[[number]]).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("live", [False, True])
def test_loss_and_gradient_by_loops(live: bool) -> None:
    """(ii) All images are candidates, the own one once; the frozen backbone has no gradient, a live head has."""
    x_BD, images = torch.randn(4, 3, dtype=F64), torch.randn(9, 3, dtype=F64)
    method, corpus = small(images, temperature=0.2, live_head=live)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=F64))
    loss = loss_of(method, "query", corpus, x_BD)
    loss.backward()
    networks = [method.query.encoder, method.query.head, method.key.encoder, method.key.head]
    weights = [network.weight.detach().clone().requires_grad_() for network in networks]
    total = torch.zeros((), dtype=F64)
    for i, row in enumerate(x_BD):
        q = weights[1] @ (weights[0] @ row)
        logits = []
        for image in images:
            k = weights[3] @ (weights[2] @ image)
            logits.append(q @ k / (q.norm() * k.norm()) / 0.2)
        total = total + torch.stack(logits).exp().sum().log() - logits[i]
    (total / 4).backward()
    assert loss.item() == pytest.approx(total.item() / 4, abs=1e-12)
    learns = [True, True, False, live]
    for network, weight, there in zip(networks, weights, learns, strict=True):
        if there:
            torch.testing.assert_close(network.weight.grad, weight.grad, atol=1e-12, rtol=1e-10)
        else:
            assert network.weight.grad is None


def test_both_steps_over_the_batch_are_the_symmetric_loss() -> None:
    """(iv) With the batch as the data set the two losses are the two directions of CLIP's."""
    q, k = (nn.functional.normalize(torch.randn(6, 4, dtype=F64), dim=1) for _ in range(2))
    method, images = small(k, temperature=0.1)
    one = loss_of(method, "query", images, q)
    other = loss_of(method, "key", Vectors(q), k)
    both = [in_batch_contrast(a, b, temperature=0.1) for a, b in ((q, k), (k, q))]
    assert (one + other).item() == pytest.approx(sum(both).item(), abs=1e-12)


def test_both_steps_with_live_heads_have_the_gradient_of_the_symmetric_loss() -> None:
    """(iv) Both heads learn in both steps; each backbone in its own alone."""
    x, images = torch.randn(6, 3, dtype=F64), torch.randn(6, 3, dtype=F64)
    method, corpus = small(images, temperature=0.1, live_head=True)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=F64))
    heads = [side.head.weight.detach().clone().requires_grad_() for side in (method.query, method.key)]
    backbones = [side.encoder.weight.detach() for side in (method.query, method.key)]
    q, k = (
        nn.functional.normalize(y @ f.T @ h.T, dim=1) for y, f, h in zip((x, images), backbones, heads, strict=True)
    )
    logits, own = q @ k.T / 0.1, torch.arange(6)
    (nn.functional.cross_entropy(logits, own) + nn.functional.cross_entropy(logits.T, own)).backward()
    for side, vectors, rows in (("query", corpus, x), ("key", Vectors(x), images)):
        frozen = method.key if side == "query" else method.query
        before = frozen.encoder.weight.grad
        loss_of(method, side, vectors, rows).backward()
        assert frozen.encoder.weight.grad is before
    for side, head in zip((method.query, method.key), heads, strict=True):
        torch.testing.assert_close(side.head.weight.grad, head.grad, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("side", ["query", "key"])
def test_the_side_that_answers_has_no_gradient(side: str) -> None:
    method, images = small(torch.randn(9, 3, dtype=F64))
    loss_of(method, side, images, torch.randn(4, 3, dtype=F64)).backward()
    learner, frozen = (method.query, method.key) if side == "query" else (method.key, method.query)
    assert all(parameter.grad.any() for parameter in learner.parameters())
    assert all(parameter.grad is None for parameter in frozen.parameters())
    assert not method.bank.rows().requires_grad


def test_more_images_never_make_it_easier() -> None:
    """(v) The loss with all keys is at least that with any of them that hold the positive."""
    q, k = torch.randn(3, 4, dtype=F64), torch.randn(40, 4, dtype=F64)
    losses = [loss_of(*small(k[:count])[:1], "query", Vectors(k[:count]), q).item() for count in (3, 4, 9, 20, 40)]
    assert losses == sorted(losses)
    assert losses[0] < losses[-1]


def test_all_alike_is_log_of_the_images() -> None:
    method, images = small(torch.ones(50, 4, dtype=F64))
    assert loss_of(method, "query", images, torch.ones(3, 4, dtype=F64)).item() == pytest.approx(math.log(50))


def test_the_plan_alternates_and_every_choice_shows() -> None:
    method, _ = small(K, rounds=2, query_share=0.25, restart=True, live_head=True, query_view="a", key_view="b")
    plan = method.plan(8.0)
    assert [(phase.name, phase.epochs, phase.reads) for phase in plan] == [
        ("query/1", 1.0, ("a",)),
        ("key/1", 3.0, ("b",)),
        ("query/2", 1.0, ("a",)),
        ("key/2", 3.0, ("b",)),
    ]
    assert [phase.trains for phase in plan[:2]] == [
        ("query.encoder", "query.head", "key.head"),
        ("key.encoder", "key.head", "query.head"),
    ]
    assert all(phase.restart for phase in plan)


@pytest.mark.parametrize(("epochs", "rounds"), [(100.0, 10), (10.0, 10), (4.5, 4), (0.5, 1)])
def test_more_rounds_than_epochs_are_lowered_and_said(epochs: float, rounds: int) -> None:
    method, _ = small(K)
    assert len(method.plan(epochs)) == 2 * rounds
    assert sum(phase.epochs for phase in method.plan(epochs)) == pytest.approx(epochs)
    said = [] if rounds == 10 else [f"10 rounds are more than {epochs:g} epochs: lowered to {rounds}"]
    assert method.notes(epochs) == said


def test_what_a_live_head_costs_is_said() -> None:
    method, _ = small(torch.zeros(1_000_000, 8, dtype=F64), live_head=True)
    (said,) = method.notes(100.0)
    assert "all 1,000,000 rows anew, twice a step" in said
    assert "0.5 GFLOP" in said  # 64 weights, 8 operations with each


def test_the_frozen_side_answers_for_its_own_view() -> None:
    method, images = small(K)
    first, second, *_ = method.plan(2.0)
    method.prepare(first, images)
    method.prepare(second, images)
    assert images.asked == [(method.key, "original", "eval"), (method.query, "edited", "eval")]
    live, images = small(K, live_head=True)
    live.prepare(first, images)
    assert images.asked == [(live.key.encoder, "original", "eval")]


@pytest.mark.parametrize(
    ("settings", "learned", "mode"), [({}, 0, "train"), ({"raw_start": False}, 0, "eval"), ({}, 1, "eval")]
)
def test_a_side_that_has_not_learned_answers_with_batch_statistics(settings: dict, learned: int, mode: str) -> None:
    encoder = nn.Sequential(identity(2), nn.BatchNorm1d(2, dtype=F64))
    method = QKIteration(encoder, identity(2), Bank(4, 2, dtype=F64, derived=True), **settings)
    for _ in range(learned):
        method.key(Q)
    images = Vectors(torch.cat([K, Q[:1]]))
    method.prepare(method.plan(2.0)[0], images)
    assert [asked[2] for asked in images.asked] == [mode]


def test_impossible_choices_are_sentences() -> None:
    with pytest.raises(ValueError, match=r"query_share is 1\.0"):
        small(K, query_share=1.0)
    with pytest.raises(ValueError, match="a live head with BatchNorm"):
        QKIteration(identity(), nn.BatchNorm1d(2), Bank(3, 2, derived=True), live_head=True)


class Pictures:
    """Images of random pixels; the read of number `last` kills the process."""

    def __init__(self, last: int | None = None) -> None:
        shape = (IMAGES, 3, 8, 8)
        self.pixels = torch.randint(256, shape, generator=random.generator("pictures"), dtype=torch.uint8)
        self.last, self.reads = last, 0

    def __len__(self) -> int:
        return IMAGES

    def read(self, index: int) -> Tensor:
        self.reads += 1
        if self.reads == self.last:
            raise Killed
        return self.pixels[index]

    def name(self, index: int) -> str:
        return str(index)


def go(
    folder: Path,
    *,
    live: bool = False,
    every: int = 1,
    die_after: int | None = None,
    last: int | None = None,
    bank: Bank | None = None,
):
    """Trains two rounds in fp64, or goes on where the folder stands: the method, the losses, the reads."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        bank = bank or Bank(IMAGES, 12, derived=True)
        method = QKIteration(Net(12), nn.Linear(12, 12), bank, rounds=2, live_head=live, temperature=0.1)
    source = Pictures(last)
    training = Training(
        method=method,
        streams=Streams(source=source, views=Draws(), batch=BATCH, seed=3),
        optimization=Optimization(name="sgd", rate=0.05, weight_decay=1e-2, momentum=0.9),
        runtime=Runtime(precision="fp64"),
        saver=Saver(checkpoints=Checkpoints(folder, keep=9), every=every),
        journal=Journal(Metrics(folder / "metrics.jsonl"), Line(quiet=True), images=BATCH, every=1),
        stop=Death(die_after),
    )
    train(training, 2.0)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return method, {row["step"]: row["loss"] for row in rows if "loss" in row}, source.reads


def saved(folder: Path, step: int) -> dict[str, Tensor]:
    found = Checkpoints(folder, keep=9).load(step)
    assert found is not None
    return found.tensors


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, tuple[Path, dict[int, float], int]]:
    found = {}
    for live in (False, True):
        folder = tmp_path_factory.mktemp("unbroken")
        _, losses, reads = go(folder, live=live)
        found[live] = folder, losses, reads
    return found


def demand_the_same(folder: Path, losses: dict[int, float], expected: tuple[Path, dict[int, float], int]) -> None:
    assert len(losses) == STEPS
    assert losses == expected[1]
    mine, theirs = saved(folder, STEPS), saved(expected[0], STEPS)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


@pytest.mark.parametrize("live", [False, True])
def test_the_frozen_side_is_bit_identical_and_unknown_to_the_optimizer(live: bool, unbroken) -> None:
    """(iii) Weights and batch statistics, with weight decay and momentum in use; of a live head the backbone's."""
    folder, _, _ = unbroken[live]
    states = {step: saved(folder, step) for step in (0, 2, 4, 6, 8)}
    for before, after, learner, frozen in ((0, 2, "query", "key"), (2, 4, "key", "query"), (6, 8, "key", "query")):
        one, two = states[before], states[after]
        held = f"method/{frozen}.encoder." if live else f"method/{frozen}."
        assert all(torch.equal(value, two[name]) for name, value in one.items() if name.startswith(held))
        moved = [n for n, value in one.items() if n.startswith(f"method/{learner}.") and not torch.equal(value, two[n])]
        assert {name.split(".")[1] for name in moved} == {"encoder", "head"}
        assert any("running_mean" in name for name in moved)
    remembered = {name.split("/")[1].rpartition(".")[0] for name in states[2] if name.startswith("optimizer/")}
    assert {name for name in remembered if name.startswith("key.")} == ({"key.head"} if live else set())
    assert not any("bank" in name for name in states[8])


@pytest.mark.parametrize("live", [False, True])
def test_stopped_hard_within_a_phase_of_k_and_resumed(live: bool, tmp_path: Path, unbroken) -> None:
    """Steps 2 and 3 are K's first ones: the third is saved, the fourth is lost."""
    with pytest.raises(Killed):
        go(tmp_path, live=live, every=3, die_after=3)
    assert saved(tmp_path, 3)
    demand_the_same(tmp_path, go(tmp_path, live=live)[1], unbroken[live])


def test_killed_half_way_through_filling_the_bank(tmp_path: Path, unbroken) -> None:
    """The first bank and two steps read IMAGES + 2 BATCH images; the second bank dies after one of its two chunks."""
    assert unbroken[False][2] == 4 * IMAGES + STEPS * BATCH
    with pytest.raises(Killed):
        go(tmp_path, last=IMAGES + 2 * BATCH + 280)
    _, losses, reads = go(tmp_path)
    assert reads == 3 * IMAGES + (STEPS - 2) * BATCH  # the second bank anew, the first one never again
    demand_the_same(tmp_path, losses, unbroken[False])


def test_a_bank_in_a_file_gives_the_same_bits_and_leaves_nothing(tmp_path: Path, unbroken) -> None:
    bank = Bank(IMAGES, 12, dtype=F64, derived=True, folder=tmp_path)
    demand_the_same(tmp_path, go(tmp_path, bank=bank)[1], unbroken[False])
    assert bank.mapped
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "metrics.jsonl"}


def test_edits_are_drawn_anew_for_each_phase_and_alike_after_a_stop() -> None:
    """What Q's bank is made of in the two phases of K."""
    assert torch.equal(edited(1), edited(1))
    assert not torch.equal(edited(1), edited(3))


def edited(phase: int) -> Tensor:
    """The first images as the bank of a phase is filled from them."""
    method, _ = small(K, rounds=2)
    stretch = timeline(method.plan(2.0), size=IMAGES, batch=BATCH)[phase]
    streams = Streams(source=Pictures(), views=Draws(), batch=BATCH, seed=3)
    return WholeDataSet(streams, stretch, Runtime()).pixels(torch.arange(5), "edited")
