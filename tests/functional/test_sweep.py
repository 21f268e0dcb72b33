"""One pass over the keys equals the full matrix, for any tile, backend, size of logits and order of merging."""

import math

import pytest
import torch

from lookalike.functional.similarity import unit
from lookalike.functional.sweep import Swept, merge, sweep

NUMBERS = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def random_rows(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return unit(torch.randn(*shape, dtype=torch.float64)).to(dtype)


def full_matrix(q_BD: torch.Tensor, keys_ND: torch.Tensor, mask: torch.Tensor | None = None) -> Swept:
    logits_BN = q_BD.double() @ keys_ND.double().T
    if mask is not None:
        logits_BN = logits_BN.masked_fill(mask, -torch.inf)
    return Swept(logits_BN.logsumexp(1), logits_BN.softmax(1).nan_to_num(0.0) @ keys_ND.double())


def slow(q: list[float], keys: list[list[float]]) -> tuple[float, list[float]]:
    """Plain loops for one query."""
    weights = [math.exp(sum(a * b for a, b in zip(q, key, strict=True))) for key in keys]
    total = math.fsum(weights)
    mean = [math.fsum(w * key[d] for w, key in zip(weights, keys, strict=True)) / total for d in range(len(q))]
    return math.log(total), mean


def check(found: Swept, expected: Swept, tolerance: float) -> None:
    torch.testing.assert_close(found.log_sum.double(), expected.log_sum.double(), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found.mean.double(), expected.mean.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("backend", ["attention", "tiles"])
def test_equals_plain_loops(backend):
    q_BD, keys_ND = random_rows(3, 4) / 0.2, random_rows(9, 4)
    found = sweep(q_BD, keys_ND, backend=backend)
    for row, (log_sum, mean) in enumerate(slow(q.tolist(), keys_ND.tolist()) for q in q_BD):
        assert found.log_sum[row].item() == pytest.approx(log_sum, abs=1e-12)
        assert found.mean[row].tolist() == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize("backend", ["attention", "tiles"])
@pytest.mark.parametrize("dtype", list(NUMBERS))
@pytest.mark.parametrize("temperature", [0.01, 0.05, 0.2, 1.0])
@pytest.mark.parametrize("keys", [1, 2, 63, 4097])
def test_equals_the_full_matrix(backend, dtype, temperature, keys):
    q_BD, keys_ND = random_rows(5, 17, dtype=dtype), random_rows(keys, 17, dtype=dtype)
    u_BD = q_BD.to(torch.float64 if dtype == torch.float64 else torch.float32) / temperature
    check(sweep(u_BD, keys_ND, backend=backend), full_matrix(u_BD, keys_ND), NUMBERS[dtype])


@pytest.mark.parametrize("backend", ["attention", "tiles"])
@pytest.mark.parametrize("tile", [1, 7, 64, 130, 131])
@pytest.mark.parametrize("masked", [False, True])
def test_any_tile(tile, masked, backend):
    q_BD, keys_ND = random_rows(6, 8) / 0.05, random_rows(130, 8)
    mask = torch.rand(6, 130) < 0.4 if masked else None
    check(sweep(q_BD, keys_ND, mask=mask, backend=backend, tile=tile), full_matrix(q_BD, keys_ND, mask), 1e-12)


def test_more_queries_than_one_block():
    q_BD, keys_ND = random_rows(2050, 3), random_rows(70, 3)
    mask = torch.rand(2050, 70) < 0.5
    for backend in ("attention", "tiles"):
        check(sweep(q_BD, keys_ND, mask=mask, backend=backend), full_matrix(q_BD, keys_ND, mask), 1e-12)


@pytest.mark.parametrize("backend", ["attention", "tiles"])
@pytest.mark.parametrize("scale", [1e-3, 1e3, 1e6, 1e20])
def test_logits_of_any_size(backend, scale):
    """No fixed shift would survive: rows are not normalized and the logits reach 1e20."""
    q_BD, keys_ND = torch.randn(4, 6) * scale, torch.randn(50, 6)
    found, expected = sweep(q_BD, keys_ND, backend=backend), full_matrix(q_BD, keys_ND)
    torch.testing.assert_close(found.log_sum.double(), expected.log_sum, rtol=1e-6, atol=1e-5)
    if scale != 1e3:  # there the rounding of a float32 logit, 1e3 x 1e-7, is what one sees
        torch.testing.assert_close(found.mean.double(), expected.mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["attention", "tiles"])
def test_extreme_distributions(backend):
    key_D = random_rows(1, 5)
    same_ND = key_D.repeat(700, 1)
    found = sweep(random_rows(3, 5) / 0.1, same_ND, backend=backend)
    torch.testing.assert_close(found.mean, key_D.repeat(3, 1), rtol=0, atol=1e-13)  # all equal
    one_hot = sweep(torch.eye(5).double() * 1e4, torch.eye(5).double(), backend=backend)
    torch.testing.assert_close(one_hot.mean, torch.eye(5).double(), rtol=0, atol=0)
    pairs_ND = random_rows(20, 5)
    twice = sweep(pairs_ND / 0.1, torch.cat([pairs_ND, pairs_ND]), backend=backend)
    once = sweep(pairs_ND / 0.1, pairs_ND, backend=backend)
    check(twice, Swept(once.log_sum + math.log(2), once.mean), 1e-12)  # duplicates


@pytest.mark.parametrize("backend", ["attention", "tiles"])
@pytest.mark.parametrize("tile", [2, 100])
def test_rows_without_a_key(tile, backend):
    q_BD, keys_ND = random_rows(3, 4), random_rows(10, 4)
    mask = torch.zeros(3, 10, dtype=torch.bool)
    mask[1] = True
    mask[2, :4] = True  # whole tiles at the start
    found = sweep(q_BD, keys_ND, mask=mask, tile=tile, backend=backend)
    check(found, full_matrix(q_BD, keys_ND, mask), 1e-12)
    assert found.log_sum[1] == -torch.inf
    assert found.mean[1].tolist() == [0.0] * 4


@pytest.mark.parametrize("backend", ["attention", "tiles"])
def test_no_key_and_no_query(backend):
    none = sweep(random_rows(3, 4), random_rows(0, 4), backend=backend)
    assert none.log_sum.tolist() == [-math.inf] * 3
    assert not none.mean.any()
    assert sweep(random_rows(0, 4), random_rows(5, 4), backend=backend).mean.shape == (0, 4)


@pytest.mark.parametrize("backend", ["attention", "tiles"])
def test_a_missing_number_is_not_hidden(backend):
    q_BD, keys_ND = random_rows(2, 4), random_rows(9, 4)
    q_BD[0, 0] = torch.nan
    found = sweep(q_BD, keys_ND, backend=backend)
    assert found.log_sum.isnan().tolist() == [True, False]
    keys_ND[3] = torch.nan
    assert sweep(q_BD, keys_ND, backend=backend).mean.isnan().all()


@pytest.mark.parametrize("shards", [1, 2, 3, 4])
def test_shards_merge_in_any_order(shards):
    q_BD, keys_ND = random_rows(5, 8) / 0.05, random_rows(91, 8)
    parts = [sweep(q_BD, keys_ND[s::shards]) for s in range(shards)]
    for order in (parts, parts[::-1]):
        joined = order[0]
        for part in order[1:]:
            joined = merge(joined, part)
        check(joined, full_matrix(q_BD, keys_ND), 1e-12)


def test_merge_is_associative_and_has_a_neutral_element():
    q_BD, keys_ND = random_rows(5, 8) / 0.01, random_rows(91, 8)
    a, b, c = (sweep(q_BD, part) for part in keys_ND.split([1, 40, 50]))
    check(merge(merge(a, b), c), merge(a, merge(b, c)), 1e-12)
    none = sweep(q_BD, keys_ND[:0])
    check(merge(a, none), a, 0.0)
    check(merge(none, a), a, 0.0)
    check(merge(none, none), none, 0.0)


@pytest.mark.parametrize("backend", ["attention", "tiles"])
def test_strided_rows(backend):
    """The attention kernel of torch 2.14 misreads the rows of a transposed matrix of queries."""
    q_BD, keys_ND = random_rows(6, 3).T, random_rows(6, 40).T
    check(sweep(q_BD, keys_ND, backend=backend), full_matrix(q_BD, keys_ND), 1e-12)
    check(sweep(q_BD, keys_ND[::3], backend=backend), full_matrix(q_BD, keys_ND[::3]), 1e-12)
    wide_ND = random_rows(50, 12)[::2, 3:9]
    check(sweep(wide_ND[:4], wide_ND, backend=backend), full_matrix(wide_ND[:4], wide_ND), 1e-12)
    same_ND = random_rows(1, 6).expand(40, 6)
    check(sweep(q_BD, same_ND, backend=backend), full_matrix(q_BD, same_ND), 1e-12)


def test_attention_is_for_the_cpu():
    q_BD = torch.empty(3, 6, device="meta")
    with pytest.raises(ValueError, match="queries are on meta"):
        sweep(q_BD, q_BD, backend="attention")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype):
    q_BD, keys_ND = random_rows(4, 32, dtype=torch.float32) / 0.1, random_rows(300, 32, dtype=torch.float32)
    plain = [sweep(q_BD, keys_ND, backend=backend) for backend in ("attention", "tiles")]
    with torch.autocast("cpu", dtype=dtype):
        inside = [sweep(q_BD, keys_ND, backend=backend) for backend in ("attention", "tiles")]
    for a, b in zip(plain, inside, strict=True):
        assert torch.equal(a.mean, b.mean)
        assert torch.equal(a.log_sum, b.log_sum)
