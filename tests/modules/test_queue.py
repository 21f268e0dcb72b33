"""The ring buffer against a plain list, its resume, and its columns."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.modules import Column, Queue

VIDEO = {"rgb": Column(2), "flow": Column(3), "video": Column(dtype=torch.int64)}


def by_age(queue: Queue, column: str | None = None) -> list:
    """The rows, oldest first."""
    rows = queue.rows(column)
    return (torch.roll(rows, -int(queue.position), 0) if queue.full else rows).tolist()


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 9), st.lists(st.integers(0, 21), max_size=12), st.booleans(), st.integers(0, 12))
def test_any_sequence_of_batches_is_a_plain_list(size: int, batches: list[int], full: bool, resume: int) -> None:
    queue = Queue(size, 1, init="normal" if full else "empty")
    plain = queue.rows().tolist()
    for number, rows in enumerate(batches):
        pushed = torch.arange(100 * number, 100 * number + rows).float().unsqueeze(1)
        queue.push(pushed)
        plain = [*plain, *pushed.tolist()][-size:]
        if number == resume:
            again = Queue(size, 1, init="empty")
            again.load_state_dict({name: tensor.clone() for name, tensor in queue.state_dict().items()})
            queue = again
        assert by_age(queue) == plain
        assert queue.filled == len(plain) == int(queue.count)
        assert queue.full == (len(plain) == size)


def test_wrap_writes_exactly_the_oldest_rows() -> None:
    queue = Queue(4, 1, init="empty")
    queue.push(torch.tensor([[1.0], [2.0], [3.0]]))
    assert queue.rows().tolist() == [[1.0], [2.0], [3.0]]
    queue.push(torch.tensor([[4.0], [5.0]]))
    assert queue.rows().tolist() == [[5.0], [2.0], [3.0], [4.0]]
    assert int(queue.position) == 1


def test_starts_full_of_random_rows_of_norm_one() -> None:
    queue = Queue(512, 16, seed=3)
    assert queue.full
    torch.testing.assert_close(queue.rows().norm(dim=1), torch.ones(512))
    assert queue.rows().mean().abs() < 0.02
    assert torch.equal(queue.rows(), Queue(512, 16, seed=3).rows())
    assert not torch.equal(queue.rows(), Queue(512, 16, seed=4).rows())


def test_rows_are_a_view_and_pushed_keys_carry_no_graph() -> None:
    queue = Queue(4, 2)
    rows, keys = queue.rows(), torch.ones(1, 2, requires_grad=True)
    queue.push(keys * 2)
    assert rows[0].tolist() == [2.0, 2.0]
    assert not queue.rows().requires_grad
    assert list(queue.parameters()) == []


def test_state_dict_holds_everything_and_goes_on_the_same() -> None:
    queue = Queue(5, columns=VIDEO, init="empty")
    queue.clear(["rgb", "video"])
    push = {"rgb": torch.randn(7, 2), "video": torch.arange(7)}
    queue.push(**push)
    again = Queue(5, columns=VIDEO, seed=9)
    again.load_state_dict(queue.state_dict())
    assert queue.state_dict()["position"].dtype == torch.int64
    for each in (queue, again):
        each.push(rgb=torch.ones(2, 2), video=torch.tensor([70, 80]))
    for name in ("rgb", "video"):
        assert by_age(again, name) == by_age(queue, name)
    assert by_age(again, "video") == [4, 5, 6, 70, 80]
    with pytest.raises(ValueError, match="'flow' was asked for"):
        again.rows("flow")


def test_columns_share_one_write_position_and_a_push_fills_those_in_use() -> None:
    queue = Queue(4, columns=VIDEO)
    assert queue.rows("video").tolist() == [-1] * 4
    ids = torch.tensor([10, 11, 12])
    queue.push(rgb=ids[:, None].expand(3, 2).float(), flow=-ids[:, None].expand(3, 3).float(), video=ids)
    for position, video in enumerate(queue.rows("video").tolist()[:3]):
        assert queue.rows("rgb")[position].tolist() == [video, video]
        assert queue.rows("flow")[position].tolist() == [-video] * 3
    with pytest.raises(ValueError, match="exactly flow, rgb, video, and rgb was given"):
        queue.push(rgb=torch.zeros(1, 2))
    with pytest.raises(ValueError, match="different numbers of rows"):
        queue.push(rgb=torch.zeros(1, 2), flow=torch.zeros(2, 3), video=torch.zeros(1, dtype=torch.int64))
    queue.clear(["rgb"])
    assert queue.filled == 0
    queue.push(rgb=torch.zeros(1, 2))
    assert queue.rows("rgb").tolist() == [[0.0, 0.0]]
    queue.clear()
    with pytest.raises(ValueError, match="and rgb was given"):
        queue.push(rgb=torch.zeros(1, 2))


def test_half_precision_stays_when_the_module_is_converted() -> None:
    queue = Queue(4, 2, dtype=torch.float16).to(torch.float32)
    assert queue.rows().dtype == torch.float16
    queue.push(torch.full((1, 2), 0.5))
    assert queue.rows()[0].tolist() == [0.5, 0.5]
    assert Queue(4, 2).double().rows().dtype == torch.float64


def test_mistakes_are_sentences() -> None:
    with pytest.raises(ValueError, match="size 0 was given"):
        Queue(0, 2)
    with pytest.raises(ValueError, match="exactly one of them"):
        Queue(4)
    with pytest.raises(ValueError, match=r"shape \(2,\), and the push has torch.float32 rows of shape \(3,\)"):
        Queue(4, 2).push(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="fills exactly keys, and q was given"):
        Queue(4, 2).push(q=torch.zeros(1, 2))
    with pytest.raises(ValueError, match="audio was to be used"):
        Queue(4, columns=VIDEO).clear(["audio"])
    with pytest.raises(ValueError, match=r"torch.int64 rows of shape \(\), and the push has torch.float32"):
        Queue(4, columns={"video": VIDEO["video"]}).push(video=torch.zeros(1))
