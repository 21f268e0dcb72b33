"""The cache holds what direct reads give, only where it fits, and the unreadable stay unreadable."""

import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lookalike.data import Cached, Folder, Images, Source, Unreadable, Wrapped, cached, pixels
from lookalike.data.cache import TASK


def fill(folder: Path, sizes: list[tuple[int, int] | None]) -> Folder:
    """One image of noise for each size (height, width), text for None."""
    rng = np.random.default_rng(3)
    for number, size in enumerate(sizes):
        path = folder / f"{number:05d}.png"
        if size is None:
            path.write_text("broken")
        else:
            Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8)).save(path)
    return Folder(folder)


def attempt(source: Source, index: int) -> tuple[Tensor | None, str | None]:
    """Pixels, or the sentence that says why not."""
    try:
        return source.read(index), None
    except Unreadable as error:
        return None, str(error)


def same(cache: Images, source: Images) -> bool:
    """Every member answers alike."""
    assert len(cache) == len(source)
    assert cache.identity() == source.identity()
    for index in range(len(source)):
        assert cache.name(index) == source.name(index)
        pixels, failure = attempt(source, index)
        again, same_failure = attempt(cache, index)
        assert failure == same_failure
        if failure is None:
            assert torch.equal(again, pixels)
            assert cache.size(index) == source.size(index)
        else:
            with pytest.raises(Unreadable, match=re.escape(failure)):
                cache.size(index)
    return True


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(
    "sizes",
    [
        [(6, 5)] * 200,
        [(6, 5), (3, 9), (1, 1)] * 50,
        [(6, 5), None, (6, 5)] * 50,
        [None, (6, 5), (4, 4)] * 30,
        [(6, 5)] * 150 + [(7, 5)] + [(6, 5)] * 150,  # the one that differs is not among the probed
        [(2, 3)] + [None] * 100,
    ],
    ids=["equal", "mixed", "equal with broken", "mixed with broken", "one differs", "one readable"],
)
def test_the_cache_equals_direct_reads(sizes, workers, tmp_path):
    source = fill(tmp_path, sizes)
    cache = cached(source, limit_bytes=10**6, workers=workers)
    assert isinstance(cache, Cached)
    assert isinstance(cache, Images)
    assert same(cache, source)
    assert cache.failures.keys() == {i for i, size in enumerate(sizes) if size is None}


def test_equal_sizes_make_one_tensor_and_batches_of_it(tmp_path):
    cache = cached(fill(tmp_path, [(6, 5)] * 100))
    assert cache.grid_NHWC.shape == (100, 6, 5, 3)
    index = torch.tensor([7, 0, 99, 7])
    batch = cache.pixels(index)
    assert torch.equal(batch, torch.stack([cache.source.read(i) for i in index.tolist()]))
    batch.zero_()
    assert torch.equal(cache.read(7), cache.source.read(7))


def test_batches_of_any_source(tmp_path):
    source = fill(tmp_path, [(6, 5), (6, 5), (2, 2), None])
    cache = cached(source)
    for of in (source, cache):
        equal = pixels(of, torch.tensor([1, 0]))
        assert torch.equal(equal, torch.stack([source.read(1), source.read(0)]))
        mixed = pixels(of, torch.tensor([2, 1]))
        assert [tuple(image.shape) for image in mixed] == [(3, 2, 2), (3, 6, 5)]
        assert torch.equal(mixed[0], source.read(2))
        with pytest.raises(Unreadable, match=r"00003\.png"):
            pixels(of, torch.tensor([0, 3]))


def test_one_channel(tmp_path):
    fill(tmp_path, [(6, 5)] * 70)
    source = Folder(tmp_path, channels=1)
    cache = cached(source)
    assert cache.grid_NHWC.shape == (70, 6, 5, 1)
    assert same(cache, source)


@pytest.mark.parametrize("sizes", [[(6, 5)] * 10, [(6, 5), (10, 3)] * 5])
def test_the_limit_is_exact(sizes, tmp_path):
    source = fill(tmp_path, sizes)
    assert cached(source, limit_bytes=10 * 90 - 1) is source
    assert isinstance(cached(source, limit_bytes=10 * 90), Cached)


def test_what_the_probe_missed_still_does_not_pass_the_limit(tmp_path):
    source = fill(tmp_path, [(6, 5)] * 3 + [(100, 100)])
    assert cached(source, limit_bytes=4 * 90, probe=1) is source


def test_nothing_readable_is_not_cached(tmp_path):
    source = fill(tmp_path, [None] * 5)
    assert cached(source) is source


@pytest.mark.parametrize("sizes", [[(6, 5)] * 200, [(6, 5), (2, 2)] * 100])
def test_progress_counts_up_to_the_end(sizes, tmp_path):
    heard: list[tuple[int, int]] = []
    cached(fill(tmp_path, sizes), workers=3, on_progress=lambda done, total: heard.append((done, total)))
    assert heard == [(min(done, 200), 200) for done in range(TASK, 200 + TASK, TASK)]


def test_an_interrupt_ends_the_filling(tmp_path):
    source = fill(tmp_path, [(6, 5)] * 1000)
    before = threading.active_count()

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(source, workers=2, on_progress=interrupt)
    assert threading.active_count() == before


def test_the_cache_outlives_the_files(tmp_path):
    source = fill(tmp_path, [(6, 5), (2, 2)] * 5)
    expected = [source.read(i) for i in range(10)]
    cache = cached(source)
    for path in tmp_path.iterdir():
        path.unlink()
    assert all(torch.equal(cache.read(i), expected[i]) for i in range(10))


class Changing:
    """A source whose third image grows between its header and its pixels."""

    channels, labels, concurrent = 3, None, True

    def __len__(self) -> int:
        return 6

    def size(self, index: int) -> tuple[int, int]:
        return (4, 4 + index % 2)

    def read(self, index: int) -> Tensor:
        return torch.full((3, 9, 9) if index == 2 else (3, *self.size(index)), index, dtype=torch.uint8)

    def name(self, index: int) -> str:
        return str(index)

    def identity(self) -> str:
        return "changing"


def test_a_file_that_changes_meanwhile_is_unreadable_and_hurts_no_other():
    cache = cached(Changing())
    with pytest.raises(Unreadable, match=r"^2 cannot be read: its size changed while it was read"):
        cache.read(2)
    for index in (0, 1, 3, 4, 5):
        assert torch.equal(cache.read(index), Changing().read(index))


def test_a_data_set_is_read_by_one_thread_in_order():
    seen: list[tuple[int, int]] = []

    class Numbers:
        def __len__(self) -> int:
            return 150

        def __getitem__(self, index: int) -> Tensor:
            seen.append((threading.get_ident(), index))
            return torch.full((3, 2, 2), index, dtype=torch.uint8)

    source = Wrapped(Numbers())
    cache = cached(source, workers=4)
    assert {thread for thread, _ in seen} == {threading.get_ident()}
    assert [index for _, index in seen][-150:] == list(range(150))
    assert same(cache, source)


def _sum_in_another_process(cache: Cached, answer: Tensor) -> None:
    answer[0] = sum(int(cache.read(i).sum()) for i in range(len(cache)))
    cache.buffer_T[0] = 77


@pytest.mark.parametrize("sizes", [[(6, 5)] * 20, [(6, 5), (2, 2)] * 10])
def test_worker_processes_share_the_pixels(sizes, tmp_path):
    cache = cached(fill(tmp_path, sizes)).share_memory_()
    expected = sum(int(cache.read(i).sum()) for i in range(20))
    answer = torch.zeros(1, dtype=torch.int64).share_memory_()
    worker = torch.multiprocessing.get_context("fork").Process(target=_sum_in_another_process, args=(cache, answer))
    worker.start()
    worker.join()
    assert answer.item() == expected
    assert cache.read(0)[0, 0, 0] == 77


def test_indices_beyond_the_end(tmp_path):
    cache = cached(fill(tmp_path, [(6, 5), (2, 2)]))
    with pytest.raises(IndexError):
        cache.read(2)
    assert torch.equal(cache.read(-1), cache.read(1))
