"""Mixed negatives: written examples, a slow oracle, whose negatives they are, masks, chunks, the share of the query."""

import pytest
import torch

from lookalike.functional import soft_contrast
from lookalike.functional.mixing import mixed_negatives, mixes
from lookalike.functional.neighbors import nearest_keys
from methods.fixtures import KEY, keyed

F64 = torch.float64
HARD = torch.tensor([[0.0, 1.0], [0.6, 0.8]], dtype=F64)


def mixed(chances, pairs: int, keys=HARD, q=KEY, **settings):
    given = {"hardest": 2, "temperature": 1.0, **settings}
    return mixed_negatives(q, keys, torch.tensor([chances], dtype=F64), pairs=pairs, **given)


def slow(q, keys, chances, pairs: int, hardest: int) -> list[torch.Tensor]:
    """The mixed negatives of one query, one by one (Kalantidis et al. 2020, section 3)."""
    hard = sorted(keys, key=lambda key: -float(q @ key))[:hardest]
    found = []
    for number, (i, j, share) in enumerate(chances.tolist()):
        other = hard[int(j * len(hard))]
        h = share * hard[int(i * len(hard))] + (1 - share) * other
        if number >= pairs:
            h = share / 2 * q + (1 - share / 2) * other
        found.append(h / h.norm())
    return found


def test_the_written_example() -> None:
    """q = k = (1, 0), keys (0, 1) and (0.6, 0.8), t = 1. The second key is the harder one."""
    pair, own = [0.6, 0.1, 0.5], [0.0, 0.1, 1.0]  # both keys by halves; the query and (0.6, 0.8) by halves
    assert mixed([pair], 1).log_sum.item() == pytest.approx(0.316228, abs=1e-6)
    assert mixed([own], 0).log_sum.item() == pytest.approx(0.894427, abs=1e-6)
    for chances, pairs, h in ((pair, 1, [0.316228, 0.948683]), (own, 0, [0.894427, 0.447214])):
        assert mixed([chances], pairs).mean[0].tolist() == pytest.approx(h, abs=1e-6)  # of one, itself
    for beside, loss in ((None, 0.712067), (mixed([pair], 1), 0.933309), (mixed([pair, own], 1), 1.236262)):
        found = soft_contrast(KEY, positive=KEY, keys=HARD, temperature=1.0, beside=beside)
        assert found.loss.item() == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize("scratch", [1, 2**26])
@pytest.mark.parametrize("hardest", [1, 5, 99])
def test_by_loops(hardest, scratch, monkeypatch) -> None:
    monkeypatch.setattr("lookalike.functional.mixing.SCRATCH", scratch)
    q, keys, chances = keyed("q", 7), keyed("queue", 35), torch.rand(7, 8, 3, dtype=F64)
    found = mixed_negatives(q, keys, chances, pairs=5, hardest=hardest, temperature=0.2)
    for row in range(7):
        h = torch.stack(slow(q[row], keys, chances[row], 5, hardest))
        logits = h @ q[row] / 0.2
        assert found.log_sum[row].item() == pytest.approx(logits.logsumexp(0).item(), abs=1e-10)
        torch.testing.assert_close(found.mean[row], logits.softmax(0) @ h, rtol=1e-10, atol=1e-12)


def test_the_largest_chance_picks_the_last_key_in_fp32_too() -> None:
    """1 - 2^-32, the largest number that a draw gives, is 1 in fp32: the index would be the number of keys."""
    largest = 1 - 2.0**-32
    chances = torch.tensor([[[largest, largest, largest]]], dtype=F64)
    q, keys = KEY.float(), HARD.float()
    found = mixed_negatives(q, keys, chances, pairs=1, hardest=2, temperature=1.0)
    assert found.mean.tolist() == [pytest.approx([0.0, 1.0])]  # of the two the farther one, with itself


def test_each_query_has_negatives_of_its_own() -> None:
    """A query alone has the same as within a batch."""
    q, keys, chances = keyed("q", 7), keyed("queue", 35), torch.rand(7, 8, 3, dtype=F64)
    whole = mixed_negatives(q, keys, chances, pairs=5, hardest=3, temperature=0.2)
    for row in (0, 6):
        alone = mixed_negatives(q[row : row + 1], keys, chances[row : row + 1], pairs=5, hardest=3, temperature=0.2)
        torch.testing.assert_close(alone.log_sum[0], whole.log_sum[row], rtol=1e-12, atol=1e-12)


def test_an_end_of_the_line_is_the_key_itself() -> None:
    q, keys, chances = keyed("q", 7), keyed("queue", 35), torch.rand(7, 8, 3, dtype=F64)
    near, count = nearest_keys(q, keys, 4).rows, torch.full((7, 1), 4)
    for share, column in ((1.0, 0), (0.0, 1)):
        chances[..., 2] = share
        picked = near.gather(1, (chances[..., column] * 4).long())
        torch.testing.assert_close(mixes(q, keys, near, count, chances, 8), keys[picked], rtol=1e-12, atol=1e-12)


def test_mixing_with_the_query_is_harder_than_the_key_and_less_than_half_of_the_query() -> None:
    q, keys, chances = keyed("q", 7), keyed("queue", 35), torch.rand(7, 50, 3, dtype=F64)
    near, count = nearest_keys(q, keys, 35).rows, torch.full((7, 1), 35)
    h = mixes(q, keys, near, count, chances, 0)
    key = keys[near.gather(1, (chances[..., 1] * 35).long())]
    to_query, to_key, before = ((a * b).sum(2) for a, b in ((h, q[:, None]), (h, key), (q[:, None], key)))
    assert (to_query > before).all()
    assert (to_key > to_query).all()


def test_masked_keys_are_not_mixed() -> None:
    q, keys, chances = keyed("q", 7), keyed("queue", 35), torch.rand(7, 8, 3, dtype=F64)
    mask = torch.zeros(7, 35, dtype=torch.bool).scatter_(1, nearest_keys(q, keys, 3).rows, True)
    found = mixed_negatives(q, keys, chances, pairs=5, hardest=4, temperature=0.2, mask=mask)
    for row in range(7):
        rest = keys[~mask[row]]
        logits = torch.stack(slow(q[row], rest, chances[row], 5, 4)) @ q[row] / 0.2
        assert found.log_sum[row].item() == pytest.approx(logits.logsumexp(0).item(), abs=1e-10)
    none = mixed_negatives(q, keys, chances, pairs=5, hardest=4, temperature=0.2, mask=torch.ones_like(mask))
    assert none.log_sum.isneginf().all()
    assert none.mean.abs().sum() == 0


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="the temperature is 0"):
        mixed([[0.5, 0.5, 0.5]], 1, temperature=0.0)
