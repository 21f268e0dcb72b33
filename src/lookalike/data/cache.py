"""All decoded pixels in memory, where they fit: one uint8 tensor that worker processes can share.

B batch, N images, C channels, H height, W width, T all bytes.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from lookalike.data.decode import Unreadable
from lookalike.data.images import Images, Source, evenly
from lookalike.data.memory import available_memory

SHARE = 0.4  # of the available memory; our choice: the rest is for the network and its batches
TASK = 64  # images a thread decodes before it reports

Progress = Callable[[int, int], None]
Map = Callable[..., Iterator]


class Cached:
    """A source whose pixels lie decoded in `buffer_T`, one image after the other; sizes_N2 holds (height, width).

    In the buffer the channels of a pixel stand side by side, as `decode` gives them.
    `failures` holds the unreadable ones: reading these raises Unreadable again. The other members are the source's own.
    What `read` and `pixels` return may be a view of the buffer: do not write to it.
    """

    concurrent = True

    def __init__(
        self,
        source: Images,
        buffer_T: UInt8[Tensor, "T"],
        sizes_N2: Int64[Tensor, "N 2"],
        failures: dict[int, Unreadable],
    ) -> None:
        self.source, self.buffer_T, self.sizes_N2, self.failures = source, buffer_T, sizes_N2, failures
        self.channels, self.labels = source.channels, source.labels
        ends = (self.channels * sizes_N2.prod(1)).cumsum(0)
        self.starts = torch.cat([torch.zeros(1, dtype=torch.int64), ends])
        equal = bool((sizes_N2 == sizes_N2[0]).all())
        self.grid_NHWC = buffer_T.view(len(sizes_N2), *sizes_N2[0].tolist(), self.channels) if equal else None

    def __len__(self) -> int:
        return len(self.sizes_N2)

    def read(self, index: int) -> UInt8[Tensor, "C H W"]:
        self._demand_readable(index)
        return self.place(index)

    def pixels(self, index_B: Int64[Tensor, "B"]) -> UInt8[Tensor, "B C H W"] | list[Tensor]:
        """Those images, as one tensor where their sizes are equal. Raises Unreadable."""
        for index in index_B.tolist() if self.failures else ():
            self._demand_readable(index)
        if self.grid_NHWC is not None:
            return self.grid_NHWC.index_select(0, index_B).permute(0, 3, 1, 2)  # 20 times as fast as indexing
        return stacked([self.place(index) for index in index_B.tolist()])

    def place(self, index: int) -> UInt8[Tensor, "C H W"]:
        """Where the pixels of an image lie, readable or not."""
        index = range(len(self))[index]
        start, stop = self.starts[index : index + 2].tolist()
        return self.buffer_T[start:stop].view(*self.sizes_N2[index].tolist(), self.channels).permute(2, 0, 1)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def size(self, index: int) -> tuple[int, int]:
        self._demand_readable(index)
        height, width = self.sizes_N2[index].tolist()
        return height, width

    def identity(self) -> str:
        return self.source.identity()

    def share_memory_(self) -> "Cached":
        """Moves the tensors to shared memory, in place: worker processes then get a handle instead of a copy."""
        for tensor in (self.buffer_T, self.sizes_N2, self.starts):
            tensor.share_memory_()
        return self

    def _demand_readable(self, index: int) -> None:
        if index in self.failures:
            failure = self.failures[index]
            raise Unreadable(failure.path, failure.reason)


def cached(
    source: Images,
    *,
    limit_bytes: int | None = None,
    workers: int | None = None,
    on_progress: Progress | None = None,
    probe: int = 64,
) -> Images:
    """The source with its pixels decoded once into memory (`Cached`), or the source itself if they do not fit.

    limit_bytes: by default 40 % of the available memory. workers: decoding threads, by default one a core; one for a
    source that cannot be read by several. on_progress hears (images done, images).

    The headers of `probe` evenly spaced images tell whether decoding is worth starting. If these are all of one size,
    so may be all others: they are decoded at once into a tensor (N, C, H, W). If not, or if one turns out to differ
    (then progress starts anew), all headers are read first, so that nothing is held twice.
    """
    limit = int(SHARE * available_memory()) if limit_bytes is None else limit_bytes
    sizes = [size for index in evenly(len(source), probe) if (size := size_of(source, index))]
    mean = sum(height * width for height, width in sizes) / max(1, len(sizes))
    if not sizes or source.channels * mean * len(source) > limit:
        return source
    with threads(source, workers) as parallel:
        if len(set(sizes)) == 1:
            sizes_N2 = torch.tensor(sizes[:1]).repeat(len(source), 1)
            cache = decoded(source, sizes_N2, parallel, on_progress)
            if not any(isinstance(failure, _Changed) for failure in cache.failures.values()):
                return cache
            del cache
        sizes_N2 = sizes_of(source, parallel)
        if source.channels * int(sizes_N2.prod(1).sum()) > limit:
            return source
        return decoded(source, sizes_N2, parallel, on_progress, settled=True)


def pixels(source: Source, index_B: Int64[Tensor, "B"]) -> UInt8[Tensor, "B C *size"] | list[Tensor]:
    """Those samples of any source, as one tensor where their sizes are equal. Raises Unreadable."""
    if isinstance(source, Cached):
        return source.pixels(index_B)
    return stacked([source.read(index) for index in index_B.tolist()])


def stacked(images: list[Tensor]) -> Tensor | list[Tensor]:
    """One tensor where all sizes are equal, else the list."""
    return torch.stack(images) if len({image.shape for image in images}) == 1 else images


class _Changed(Unreadable):
    """An image of another size than was foreseen."""


def decoded(
    source: Images,
    sizes_N2: Tensor,
    parallel: Map,
    on_progress: Progress | None,
    settled: bool = False,
    buffer_T: Tensor | None = None,
) -> Cached:
    """A cache of images of these sizes, filled; if these are a guess (not settled), up to the first that differs."""
    if buffer_T is None:
        buffer_T = torch.empty(source.channels * int(sizes_N2.prod(1).sum()), dtype=torch.uint8)
    cache = Cached(source, buffer_T, sizes_N2, {})
    tasks = [range(start, min(start + TASK, len(source))) for start in range(0, len(source), TASK)]
    for task, failures in zip(tasks, parallel(lambda task: _decode_into(cache, task), tasks), strict=True):
        cache.failures.update(failures)
        if not settled and any(isinstance(failure, _Changed) for failure in failures.values()):
            break
        if on_progress is not None:
            on_progress(task.stop, len(source))
    return cache


def _decode_into(cache: Cached, task: range) -> dict[int, Unreadable]:
    failures: dict[int, Unreadable] = {}
    for index in task:
        try:
            image, place = cache.source.read(index), cache.place(index)
            if image.shape != place.shape:
                raise _Changed(cache.name(index), "its size changed while it was read")
            place.copy_(image)
        except Unreadable as error:
            failures[index] = type(error)(error.path, error.reason)  # anew: without the frames it came through
    return failures


def sizes_of(source: Images, parallel: Map) -> Int64[Tensor, "N 2"]:
    """(height, width) of every image, by the headers; (0, 0) where that cannot be read."""
    return torch.tensor(list(parallel(lambda index: size_of(source, index) or (0, 0), range(len(source)))))


def size_of(source: Images, index: int) -> tuple[int, int] | None:
    try:
        return source.size(index)
    except Unreadable:
        return None


@contextmanager
def threads(source: Images, workers: int | None) -> Iterator[Map]:
    """Gives a `map` that keeps order, over threads where the source allows it."""
    count = min(32, os.cpu_count() or 1) if workers is None else workers
    if count <= 1 or not source.concurrent:
        yield map
        return
    with ThreadPoolExecutor(count) as pool:
        try:
            yield pool.map
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
