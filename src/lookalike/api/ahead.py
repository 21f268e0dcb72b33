"""Images decoded ahead of what computes with them, batch by batch, the unreadable ones noted and left out."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from lookalike.data import Images, Skipped, Unreadable

READERS = 4  # threads that decode


def decoded(
    source: Images, index: Sequence[int], batch: int, skipped: list[Skipped]
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """(index (B,), images) of at most `batch` at a time; the next are decoded while the caller has these.

    Images that cannot be read are added to `skipped`; a batch of none is left out.
    """
    slices = [index[start : start + batch] for start in range(0, len(index), batch)]
    with ThreadPoolExecutor(READERS if source.concurrent else 1) as pool:
        jobs = [pool.submit(_read, source, i) for i in slices[0]] if slices else []
        for numbers, following in zip(slices, [*slices[1:], []], strict=True):
            images = [job.result() for job in jobs]
            jobs = [pool.submit(_read, source, i) for i in following]
            found = list(zip(numbers, images, strict=True))
            skipped += [Skipped(i, source.name(i), x.reason) for i, x in found if isinstance(x, Unreadable)]
            readable = {i: x for i, x in found if not isinstance(x, Unreadable)}
            if readable:
                yield torch.tensor(list(readable)), list(readable.values())


def _read(source: Images, index: int) -> Tensor | Unreadable:
    try:
        return source.read(index)
    except Unreadable as error:
        return error
