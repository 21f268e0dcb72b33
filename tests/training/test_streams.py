"""Batches as a function of seed, phase, round and sample: for any ranks and workers, bad files, partners, redraws."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from contracts.small_world import Draws, Samples
from lookalike.data import Skips, Unreadable
from lookalike.functional.order import Shuffle, Window
from lookalike.methods.method import Batch, Phase
from lookalike.training.streams import Pairs, Streams
from lookalike.training.timeline import Stretch, timeline

SIZE, BATCH = 64, 16
VIEWS = ("view/1", "view/2")
CPU = torch.device("cpu")


class Torn(Samples):
    """The samples, some of which cannot be read."""

    def __init__(self, *broken: int) -> None:
        super().__init__(3, 8, 8)
        self.broken = broken

    def read(self, index: int) -> Tensor:
        if index in self.broken:
            raise Unreadable(self.name(index), "image file is truncated")
        return super().read(index)


def stretch(
    batch: int = BATCH, order: Shuffle | Window | None = None, epochs: float = 2.0, partners: tuple[str, ...] = ()
) -> Stretch:
    phase = Phase(
        name="learn", epochs=epochs, trains=("net",), reads=VIEWS, order=order or Shuffle(), partners=partners
    )
    return timeline([phase], size=SIZE, batch=batch)[0]


def streams(*broken: int, batch: int = BATCH, **named) -> Streams:
    return Streams(source=Torn(*broken), views=Draws(), batch=batch, seed=3, **named)


def steps(stream: Streams, on: Stretch, start: int = 0) -> list[list[Batch]]:
    return list(stream.batches(on, start, CPU))


def joined(shares: list[Batch]) -> dict[str, Tensor]:
    """The rows of several ranks or micro-batches by position."""
    order = torch.cat([share.position for share in shares]).argsort()
    found = {"position": torch.cat([s.position for s in shares])[order]}
    found["index"] = torch.cat([s.index for s in shares])[order]
    for kind in ("views", "aux"):
        for name in getattr(shares[0], kind):
            found[name] = torch.cat([getattr(s, kind)[name] for s in shares])[order]
    return found


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("order", [Shuffle(), Window(size=32, shift=16)])
def test_a_stream_follows_its_order(order) -> None:
    on = stretch(order=order)
    got = [batch.index for [batch] in steps(streams(), on)]
    rounds = [order.indices(seed=3, phase=0, round=r, size=SIZE) for r in range((on.stop - 1) // on.per_round + 1)]
    assert torch.equal(torch.cat(got), torch.cat(rounds)[: on.stop * BATCH])


def test_a_view_is_that_of_its_sample_and_round() -> None:
    """Pixels drawn for one sample alone equal its row in the batch; in the next round they are others."""
    draws, source = Draws(), Samples(3, 8, 8)
    seen: dict[int, list[Tensor]] = {}
    for number, [batch] in enumerate(steps(streams(), stretch())):
        for row, i in enumerate(batch.index.tolist()):
            drawn = draws.draw(torch.tensor([i]), seed=3, epoch=(0, number // 4), attempt=0, names=VIEWS)
            alone = draws.render([source.read(i)], drawn, VIEWS)
            assert all(torch.equal(alone[name][0], batch.views[name][row]) for name in VIEWS)
            seen.setdefault(i, []).append(batch.views["view/1"][row])
    assert sum(not torch.equal(*views) for views in seen.values()) == SIZE


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_ranks_and_micro_batches_join_to_the_same_global_batch(world: int, accumulate: int) -> None:
    """Rank r holds positions r::R of every micro-batch, uneven shares too (16 or 8 rows over 3)."""
    on = stretch(epochs=1.25)
    whole = [joined(parts) for parts in steps(streams(), on)]
    ranks = [steps(streams(accumulate=accumulate, rank=r, world=world), on) for r in range(world)]
    share = BATCH // accumulate
    for step in range(on.stop):
        for r in range(world):
            for micro, batch in enumerate(ranks[r][step]):
                assert batch.position.tolist() == list(range(micro * share, (micro + 1) * share))[r::world]
        assert_same(joined([batch for rank in ranks for batch in rank[step]]), whole[step])


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_equal_for_any_workers(workers: int) -> None:
    on, before = stretch(), torch.get_rng_state()
    for one, other in zip(steps(streams(), on), steps(streams(workers=workers), on), strict=True):
        assert_same(joined(one), joined(other))
        assert one[0].progress == other[0].progress
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stream_goes_on_where_it_is_told_to() -> None:
    whole, rest = steps(streams(), stretch()), steps(streams(), stretch(), start=5)
    assert [batch.progress.run.step for [batch] in rest] == [5, 6, 7]
    for one, other in zip(whole[5:], rest, strict=True):
        assert_same(joined(one), joined(other))


def test_a_bad_file_gives_way_to_the_same_slot_of_a_later_batch(tmp_path: Path) -> None:
    """Of the first round's 64 places: 5 and 21 are bad (so place 37 stands in for both), and 60 (wraps to 12)."""
    order = Shuffle().indices(seed=3, phase=0, round=0, size=SIZE).tolist()
    bad = {5: 37, 21: 37, 60: 12}
    on = stretch(epochs=1.0)
    skips = Skips(tmp_path / "skipped.jsonl", SIZE, allowed=0.1)
    sound = steps(streams(), on)
    torn = steps(streams(*(order[place] for place in bad), skips=skips), on)
    views = {i: (step, row) for step, [b] in enumerate(sound) for row, i in enumerate(b.index.tolist())}
    for step, ([before], [after]) in enumerate(zip(sound, torn, strict=True)):
        for row in range(BATCH):
            place = step * BATCH + row
            i = order[bad.get(place, place)]
            assert after.index[row] == i
            assert before.index[row] == order[place]
            whence, where = views[i]
            for name in VIEWS:
                assert torch.equal(after.views[name][row], sound[whence][0].views[name][where])
    assert set(skips.met) == {order[place] for place in bad}
    lines = (tmp_path / "skipped.jsonl").read_text().splitlines()
    assert {json.loads(line)["index"] for line in lines} == set(skips.met)


def test_a_bad_file_gives_way_alike_on_all_ranks() -> None:
    order = Shuffle().indices(seed=3, phase=0, round=0, size=SIZE).tolist()
    broken, on = (order[4], order[17], order[20]), stretch(epochs=1.0)
    whole = [joined(parts) for parts in steps(streams(*broken), on)]
    ranks = [steps(streams(*broken, rank=r, world=3), on) for r in range(3)]
    for step in range(on.stop):
        assert_same(joined([rank[step][0] for rank in ranks]), whole[step])


def test_groups_and_labels_go_with_the_samples() -> None:
    groups, labels = torch.arange(SIZE) // 4, torch.arange(SIZE) % 7
    [batch] = steps(streams(groups=groups, labels=labels), stretch())[1]
    assert torch.equal(batch.group, batch.index // 4)
    assert torch.equal(batch.labels, batch.index % 7)
    [plain] = steps(streams(), stretch())[1]
    assert plain.group is None
    assert plain.labels is None


@pytest.mark.parametrize(("batch", "accumulate", "world"), [(16, 3, 1), (16, 8, 3), (2, 1, 3)])
def test_a_batch_that_cannot_be_cut_is_refused(batch: int, accumulate: int, world: int) -> None:
    sentence = (
        f"a batch of {batch} cannot be cut into {accumulate} equal parts for {world} processes: "
        f"choose a batch size that is a multiple of {accumulate * world}"
    )
    with pytest.raises(ValueError) as raised:
        streams(batch=batch, accumulate=accumulate, world=world)
    assert str(raised.value) == sentence


GROUP = torch.tensor([7, -2, 7, 9, -2, 7, 7, 30, 7])  # members 0 2 5 6 8, 1 4, and alone 3 and 7


def test_a_partner_is_another_member_of_the_group() -> None:
    pairs, index = Pairs(GROUP, 0.0), torch.arange(9)
    for key in range(300):
        other = pairs.choose(index, key)
        assert torch.equal(GROUP[other], GROUP)
        assert (other == index).nonzero().flatten().tolist() == [3, 7]


def test_partners_are_roughly_uniform() -> None:
    """800 draws for each member of a group of five: chi squared over its four others, p < 1e-5."""
    pairs, counts = Pairs(GROUP, 0.0), torch.zeros(9, 9)
    for key in range(800):
        counts[torch.arange(9), pairs.choose(torch.arange(9), key)] += 1
    for i in (0, 2, 5, 6, 8):
        others = counts[i][[j for j in (0, 2, 5, 6, 8) if j != i]]
        assert others.sum() == 800
        assert ((others - 200) ** 2 / 200).sum() < 27


def test_a_sample_keeps_itself_as_often_as_asked() -> None:
    """Half the time, five standard errors; always with 1."""
    index = torch.arange(2000) % 1000
    group = torch.arange(1000) // 10
    kept = torch.cat([Pairs(group, 0.5).choose(index[:1000], key) == index[:1000] for key in range(10)])
    assert abs(kept.double().mean() - 0.5) < 5 * 0.5 / 10_000**0.5
    assert torch.equal(Pairs(group, 1.0).choose(index, 4), index)


def test_a_partner_is_a_function_of_key_and_sample() -> None:
    pairs, index = Pairs(torch.arange(60) // 20, 0.1), torch.arange(60)
    whole = pairs.choose(index, 5)
    for some in ([7], [59, 7, 0], [7, 7]):
        assert torch.equal(pairs.choose(torch.tensor(some), 5), whole[some])
    assert not torch.equal(pairs.choose(index, 6), whole)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_partner_view_shows_the_partner(world: int) -> None:
    """The parameters are the sample's own, the pixels the partner's; equal for any ranks, and new each round."""
    group, on = torch.arange(SIZE) // 8, stretch(partners=("view/2",))
    pairs = {"view/2": Pairs(group, 0.0)}
    ranks = [steps(streams(pairs=pairs, rank=r, world=world), on) for r in range(world)]
    draws, source, seen = Draws(), Samples(3, 8, 8), {}
    for step in range(on.stop):
        got = joined([rank[step][0] for rank in ranks])
        index, other = got["index"], got["view/2/partner"]
        assert torch.equal(group[index], group[other])
        assert not (index == other).any()
        drawn = draws.draw(index, seed=3, epoch=(0, step // 4), attempt=0, names=VIEWS)
        assert torch.equal(got["view/1"], draws.render(source.pixels[index], drawn, VIEWS)["view/1"])
        assert torch.equal(got["view/2"], draws.render(source.pixels[other], drawn, VIEWS)["view/2"])
        for i, j in zip(index.tolist(), other.tolist(), strict=True):
            seen.setdefault(i, []).append(j)
    assert sum(a != b for a, b in seen.values()) > SIZE / 2  # a new choice each round: 6 of 7 differ on average


@pytest.mark.parametrize("world", [1, 2])
def test_where_a_partner_cannot_be_read_the_sample_stands_for_itself(world: int) -> None:
    """Groups of two, so that the bad sample's companion has no other; no row gets another row's partner."""
    group, on, broken = torch.arange(SIZE) // 2, stretch(partners=("view/2",)), (10, 33)
    pairs = {"view/2": Pairs(group, 0.0)}
    ranks = [steps(streams(*broken, pairs=pairs, rank=r, world=world), on) for r in range(world)]
    own = [batch for [batch] in steps(streams(*broken), on)]
    for step in range(on.stop):
        got = joined([rank[step][0] for rank in ranks])
        index, alone = got["index"], torch.isin(got["index"], torch.tensor([11, 32]))
        assert torch.equal(got["view/2/partner"], torch.where(alone, index, index ^ 1))
        assert torch.equal(got["view/2"][alone], own[step].views["view/2"][alone])


def test_without_a_table_a_partner_is_the_sample_itself() -> None:
    [batch] = steps(streams(), stretch(partners=("view/2",)))[0]
    [plain] = steps(streams(), stretch())[0]
    assert torch.equal(batch.aux["view/2/partner"], batch.index)
    assert torch.equal(batch.views["view/2"], plain.views["view/2"])


def test_again_draws_the_same_samples_anew_and_reproducibly() -> None:
    [batch] = steps(streams(), stretch())[2]
    assert batch.again(0) is batch
    first, repeated, second = batch.again(1), batch.again(1), batch.again(2)
    assert_same(joined([first]), joined([repeated]))
    for other in (first, second):
        assert torch.equal(other.index, batch.index)
        assert torch.equal(other.position, batch.position)
        assert other.progress == batch.progress
    for one, other in ((batch, first), (batch, second), (first, second)):
        for name in VIEWS:
            changed = (one.views[name] != other.views[name]).flatten(1).any(1)
            assert changed.all(), name


@pytest.mark.parametrize("world", [2, 3])
def test_redraws_of_ranks_join_to_those_of_one_process(world: int) -> None:
    on = stretch()
    [whole] = steps(streams(), on)[5]
    shares = [steps(streams(rank=r, world=world), on, start=5)[0][0] for r in range(world)]
    assert_same(joined([share.again(2) for share in shares]), joined([whole.again(2)]))
    for offset in (40, 49):  # within a cycle, and across its end
        assert_same(joined([share.reserve(offset) for share in shares]), joined([whole.reserve(offset)]))


def test_the_reserve_repeats_no_sample_within_a_cycle() -> None:
    """Four batches of sixteen are the 64 samples once; the next cycle is another permutation."""
    [batch] = steps(streams(), stretch())[0]
    taken = torch.cat([batch.reserve(offset).index for offset in range(0, 2 * SIZE, BATCH)])
    first, second = taken[:SIZE], taken[SIZE:]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(SIZE))
    assert not torch.equal(first, second)
    across = batch.reserve(SIZE - 5)
    assert torch.equal(across.index, taken[SIZE - 5 : SIZE + 11])


def test_the_reserve_goes_by_position_and_draws_views_of_its_own() -> None:
    """A micro-batch takes the places of its positions; a sample met in both has other pixels than in its batch."""
    on = stretch(epochs=1.0)
    [whole] = steps(streams(), on)[0]
    halves = steps(streams(accumulate=2), on)[0]
    assert_same(joined([half.reserve(10) for half in halves]), joined([whole.reserve(10)]))
    assert torch.equal(whole.reserve(10).index[4:], whole.reserve(14).index[:12])
    own = {i: view for [b] in steps(streams(), on) for i, view in zip(b.index.tolist(), b.views["view/1"], strict=True)}
    reserve = whole.reserve(0)
    for i, view in zip(reserve.index.tolist(), reserve.views["view/1"], strict=True):
        assert not torch.equal(view, own[i])
