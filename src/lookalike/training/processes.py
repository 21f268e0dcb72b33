"""One process or many: joins the group that torchrun describes, and picks the device of this process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

PATIENCE = timedelta(hours=1)  # for what the first process does alone: decoding, a trial, an online score


@contextmanager
def processes(device: str) -> Iterator[torch.device]:
    """The device of this process; inside, the process group is joined if torchrun started more than one process.

    device "auto" is the accelerator if there is one. NCCL on CUDA, gloo elsewhere.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    place = pick(device)
    if several:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield place
    finally:
        if several:
            dist.destroy_process_group()


def pick(device: str) -> torch.device:
    """The named device, or the best one there is. Raises ValueError for one that is not there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"the device asked for is {device!r}, and this machine has no CUDA device: ask for cpu, or auto"
        )
    try:
        place = torch.device(device)
    except RuntimeError:
        raise ValueError(f"the device asked for is {device!r}: it is auto, cpu, cuda or cuda:N") from None
    if place.type not in ("cpu", "cuda", "mps") or (place.type == "mps" and not torch.backends.mps.is_available()):
        raise ValueError(f"the device asked for is {device!r}, which this machine does not have: ask for auto")
    if place.type == "cuda" and place.index is None:
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    return place


def spread_text(text: str) -> str:
    """The first process's text, in every process."""
    if not dist.is_initialized():
        return text
    place = "cuda" if dist.get_backend() == "nccl" else "cpu"
    data = torch.tensor(list(text.encode()), dtype=torch.uint8, device=place)
    length = torch.tensor(len(data), device=place)
    dist.broadcast(length, 0)
    if dist.get_rank():
        data = torch.empty(int(length), dtype=torch.uint8, device=place)
    dist.broadcast(data, 0)
    return bytes(data.tolist()).decode()
