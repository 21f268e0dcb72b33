"""Curation around a method: what is accepted, what is drawn again, and that scoring leaves no trace."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from contracts.small_world import Net
from lookalike.functional.agreement import Agreement
from lookalike.functional.collectives import gather_rows, rank, world
from lookalike.methods.byol import BYOL
from lookalike.methods.method import Batch, Method
from lookalike.methods.npid import NPID
from lookalike.methods.simclr import SimCLR
from lookalike.methods.with_auxiliary import WithAuxiliary
from lookalike.methods.with_curation import WithCuration
from lookalike.modules import Bank, Rotation, mlp, with_batch_statistics
from methods.fixtures import batch, identity, progress

ROWS, INF = 6, float("inf")
LOOSE, STRICT = Agreement(kind="mean", threshold=0.0), Agreement(kind="worst", threshold=-5.0)


@dataclass(frozen=True)
class Drawn:
    """Other batches, in the order in which they are drawn; `asked` notes what was asked for."""

    others: Sequence[Batch]
    asked: list[int]

    def again(self, batch: Batch, attempt: int) -> Batch:
        self.asked.append(attempt)
        return self.others[attempt - 1]

    def reserve(self, batch: Batch, offset: int) -> Batch:
        self.asked.append(offset)
        other = self.others[len(self.asked) - 1]
        return replace(other, index=other.index + 100, position=batch.position)


def noisy(noise: float, seed: int = 0, rows: int = ROWS) -> dict[str, Tensor]:
    """Views whose partners are `noise` apart; boxes that overlap the less."""
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.randn(2, rows, 2, dtype=torch.float64, generator=generator)
    return {"view/1": one, "view/2": one + noise * other}


def drawing(noises: Sequence[float], step: int = 0) -> Batch:
    """A batch of the first noise, and what comes when it is drawn again."""
    batches = [with_boxes(batch(noisy(noise, seed), step), noise) for seed, noise in enumerate(noises)]
    return replace(batches[0], redraw=Drawn(batches[1:], []))


def with_boxes(drawn: Batch, noise: float) -> Batch:
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(ROWS, 1)
    part = torch.tensor([[0.0, 0.0, 1.0, 1.0 / (1 + noise)]]).repeat(ROWS, 1)
    return replace(drawn, aux={"view/1/box": box, "view/2/box": part})


def method_of(agreement: Agreement, **settings) -> WithCuration:
    return WithCuration(SimCLR(identity(), nn.Identity()), agreement, **settings)


def plain(drawn: Batch) -> Tensor:
    return SimCLR(identity(), nn.Identity())(drawn).loss


@pytest.mark.parametrize(
    ("agreement", "settings"),
    [(Agreement(threshold=INF), {}), (STRICT, {"tries": 0}), (STRICT, {"warmup": 1.0})],
)
def test_a_threshold_of_infinity_no_tries_and_the_warm_up_are_the_method_to_the_bit(agreement, settings) -> None:
    seen = drawing([3.0, 0.1])
    method, alone = method_of(agreement, **settings), SimCLR(identity(), nn.Identity())
    found, expected = method(seen), alone(seen)
    found.loss.backward()
    expected.loss.backward()
    assert torch.equal(found.loss, expected.loss)
    assert torch.equal(method.method.encoder.weight.grad, alone.encoder.weight.grad)
    assert seen.redraw.asked == []


def test_an_accepted_batch_is_not_drawn_again() -> None:
    seen = drawing([0.01, 0.01])
    step = method_of(LOOSE)(seen)
    assert torch.equal(step.loss, plain(seen))
    assert seen.redraw.asked == []
    assert (step.metrics["curation_acceptance"].item(), step.metrics["curation_draws"].item()) == (1.0, 1.0)


def test_the_first_that_is_accepted_is_taken() -> None:
    seen = drawing([9.0, 9.0, 0.01, 0.001])
    step = method_of(Agreement(kind="nearest", threshold=0.0))(seen)
    assert seen.redraw.asked == [1, 2]
    assert torch.equal(step.loss, plain(seen.redraw.others[1]))
    assert step.metrics["curation_acceptance"].item() == pytest.approx(1 / 3)
    assert step.metrics["curation_draws"].item() == 3.0


@pytest.mark.parametrize("best", range(4))
def test_where_none_is_accepted_the_one_of_least_score_is_taken(best: int) -> None:
    noises = [3.0 + n for n in range(4)]
    noises[best] = 0.1
    seen = drawing(noises)
    step = method_of(STRICT)(seen)
    candidates = [seen, *seen.redraw.others]
    scores = [STRICT.score(one.views["view/1"], one.views["view/2"]).item() for one in candidates]
    assert seen.redraw.asked == [1, 2, 3]
    assert step.metrics["curation_score"].item() == pytest.approx(min(scores))
    assert torch.equal(step.loss, plain(candidates[scores.index(min(scores))]))
    assert step.metrics["curation_acceptance"].item() == 0.0
    assert step.metrics["curation_overlap_drawn"].item() == pytest.approx(1 / (1 + noises[0]))
    assert step.metrics["curation_overlap"].item() == pytest.approx(1 / (1 + noises[scores.index(min(scores))]))


def test_scores_are_of_the_encoder_or_the_projector() -> None:
    flat = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    nn.init.zeros_(flat.weight)
    agreement, seen = Agreement(kind="mean", distance="l2"), drawing([3.0])
    method = WithCuration(SimCLR(identity(), flat), agreement, tries=0, through=("encoder", "projector"))
    assert method(seen).metrics["curation_score"].item() == 0.0
    assert method_of(agreement, tries=0)(seen).metrics["curation_score"].item() != 0.0


def test_only_pairs_that_fail_are_replaced_and_only_by_better_ones() -> None:
    one = torch.eye(ROWS, dtype=torch.float64)
    two, better = one.clone(), one.clone()
    two[1], two[4] = -one[1], -one[4]
    better[4] = -one[4]  # as bad as before
    batches = [batch({"view/1": one, "view/2": x}) for x in (two, better)]
    seen = replace(batches[0], redraw=Drawn([replace(batches[1], index=batches[1].index + 50)], []))
    agreement = Agreement(kind="mean", threshold=0.0, pairs=True)
    method = WithCuration(SimCLR(identity(ROWS), nn.Identity()), agreement, tries=1)
    choice, _ = method.choose(seen)
    assert choice.batch.index.tolist() == [0, 51, 2, 3, 4, 5]
    assert torch.equal(choice.batch.views["view/2"][1], one[1])
    assert choice.judged.tolist() == [1, 2, 1, 1, 2, 1]
    assert choice.accepted.tolist() == [1, 1, 1, 1, 0, 1]


@pytest.mark.parametrize(
    ("drawn", "pairs", "taken", "accepted"),
    [
        ([6, 3, 7, 8, 9, 10], True, [0, 1, 2, 3, 9, 5], [1, 0, 1, 1, 1, 1]),  # image 3 is there
        ([6, 9, 7, 8, 9, 10], True, [0, 9, 2, 3, 4, 5], [1, 1, 1, 1, 0, 1]),  # image 9 comes twice
        ([6, 1, 7, 8, 9, 10], True, [0, 1, 2, 3, 9, 5], [1, 1, 1, 1, 1, 1]),  # the image itself, seen otherwise
        ([6, 9, 7, 8, 9, 10], False, [0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 0]),
        ([6, 3, 7, 8, 9, 10], False, [6, 3, 7, 8, 9, 10], [1, 1, 1, 1, 1, 1]),
    ],
)
def test_no_image_enters_a_batch_twice(drawn, pairs, taken, accepted) -> None:
    one = torch.eye(ROWS, dtype=torch.float64)
    two = one.clone()
    two[1], two[4] = -one[1], -one[4]
    better = replace(batch({"view/1": one, "view/2": one}), index=torch.tensor(drawn) - 100)  # `reserve` adds 100
    seen = replace(batch({"view/1": one, "view/2": two}), redraw=Drawn([better], []))
    agreement = Agreement(kind="worst", threshold=0.0, pairs=pairs)
    method = WithCuration(SimCLR(identity(ROWS), nn.Identity()), agreement, tries=1, redraw="images")
    choice, _ = method.choose(seen)
    assert choice.batch.index.tolist() == taken
    assert choice.accepted.tolist() == accepted


def test_new_images_come_from_the_reserve_and_move_the_cursor() -> None:
    method = method_of(STRICT, tries=2, redraw="images")
    offsets = []
    for step in range(3):
        seen = drawing([3.0, 2.0, 1.0], step)
        found = method(seen)
        offsets += seen.redraw.asked
        method.after_update(progress(step, updated=True), found.keep)
    assert offsets == [0, 6, 12, 18, 24, 30]
    assert int(method.cursor) == 36
    assert method.counts.tolist() == [3 * 3 * ROWS, 0]
    easy = method_of(LOOSE, redraw="images")
    easy.after_update(progress(updated=True), easy(drawing([0.01])).keep)
    assert (int(easy.cursor), easy.counts.tolist()) == (0, [ROWS, ROWS])


def test_micro_batches_and_tries_have_places_of_their_own() -> None:
    method, taken = method_of(STRICT, tries=2, redraw="images"), list[int]()
    for start in (0, ROWS, 2 * ROWS):
        seen = drawing([3.0, 2.0, 1.0])
        seen = replace(seen, position=seen.position + start)
        method(seen)
        taken += [place + start + row for place in seen.redraw.asked for row in range(ROWS)]
    assert sorted(taken) == list(range(2 * 3 * ROWS))


class Observed(nn.Module):
    """Notes in which mode, and with or without gradient, it is used."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.seen = net, list[tuple[bool, bool]]()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((self.training, torch.is_grad_enabled()))
        return self.net(x)


def base(encoder: nn.Module) -> Method:
    torch.manual_seed(3)
    method = BYOL(encoder, mlp(6, [7, 4]), mlp(4, [7, 4]))
    return with_batch_statistics(method, "global").double()


def images(rows: int = 8, seed: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    views = {f"view/{n}": torch.randint(256, (rows, 3, 8, 8), generator=generator).to(torch.uint8) for n in (1, 2)}
    return batch(views)


def test_scoring_leaves_batchnorm_modes_and_gradients_alone() -> None:
    torch.manual_seed(2)
    method = WithCuration(base(Observed(Net(6))), STRICT, tries=2)
    seen = replace(images(), redraw=Drawn([images(seed=6), images(seed=7)], []))
    step = method(seen)
    encoder = method.method.encoder
    assert encoder.seen == [(False, False)] * 6 + [(True, True)] * 2
    assert int(encoder.net.norm.num_batches_tracked) == 2  # the method's own two forwards
    assert encoder.training
    step.loss.backward()
    assert encoder.net.conv.weight.grad.abs().sum() > 0


def test_rotation_turns_the_batch_that_was_chosen() -> None:
    torch.manual_seed(2)
    inner = WithAuxiliary(base(Net(6)), {"rotation": (Rotation(6).double(), 0.5)})
    method = WithCuration(inner, STRICT, tries=1, through=("method.encoder",))
    other = images(seed=6)
    seen = replace(images(), redraw=Drawn([other], []))
    choice, _ = method.choose(seen)
    assert torch.equal(method(seen).loss, inner(choice.batch).loss)
    trains = method.plan(1.0)[0].trains
    assert trains[0] == "method.method.encoder"
    assert trains[-1] == "method.tasks.rotation"


def test_a_method_of_one_view_is_refused() -> None:
    method = WithCuration(NPID(identity(), nn.Identity(), Bank(20, 2)), LOOSE)
    with pytest.raises(ValueError, match=r"curation compares two views of an image, and the method reads \('view',\)"):
        method.plan(1.0)


def one_step(rows: int, pairs: bool) -> dict[str, Tensor]:
    """What this process's share of a curated batch gives: loss, metrics, averaged gradients, counters."""
    torch.manual_seed(2)
    agreement = Agreement(kind="nearest", threshold=0.0, pairs=pairs)
    method = WithCuration(base(Net(6)), agreement, tries=3, redraw="images")
    mine = torch.arange(rank(), rows, world())

    def share(whole: Batch) -> Batch:
        views = {view: x[mine] for view, x in whole.views.items()}
        return replace(whole, views=views, index=whole.index[mine], position=mine)

    others = [share(images(rows, seed)) for seed in (6, 7, 8)]
    step = method(replace(share(images(rows)), redraw=Drawn(others, [])))
    step.loss.backward()
    found = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
    if world() > 1:
        for value in found.values():
            dist.all_reduce(value)
            value /= world()
    method.after_update(progress(updated=True), {key: gather_rows(x.detach()) for key, x in step.keep.items()})
    return found | {"loss": step.loss.detach(), **step.metrics} | dict(method.named_buffers())


@pytest.mark.parametrize("pairs", [False, True])
def test_processes_equal_the_joined_batch(pairs: bool, gloo) -> None:
    whole = one_step(7, pairs)
    assert whole["curation_draws"] > 1
    for share in gloo.run(2, one_step, 7, pairs):
        assert share.keys() == whole.keys()
        for key, value in whole.items():
            torch.testing.assert_close(
                share[key], value, atol=1e-9, rtol=1e-12, msg=lambda text, key=key: f"{key}: {text}"
            )
