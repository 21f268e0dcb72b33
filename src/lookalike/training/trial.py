"""The one-time trial that picks precision, memory format and compilation: measured on the run's own network."""

import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from lookalike.functional.batch_norm import compiled_kernels
from lookalike.functional.machine_code import missing
from lookalike.training.runtime import Precision, Runtime

Auto = Literal["auto"]
GAIN = 0.9  # half precision or compilation must take at most this share of the time
COMPILE_ABOVE = 7200.0  # seconds of expected training below which compiling, which takes minutes, does not pay


def choose_runtime(
    encoder: nn.Module,
    pixels: Tensor,
    *,
    device: torch.device,
    precision: Precision | Auto,
    channels_last: bool | Auto,
    compile: bool | Auto,
    passes: float,
    say: Callable[[str], None],
) -> Runtime:
    """The runtime with every "auto" decided; `say` hears one sentence per decision.

    Forward and backward of a copy of `encoder` on `pixels` (B, C, H, W) are timed; `passes` is how many such passes the
    run will make. Nothing random is consumed and the encoder is left alone. Where nothing is "auto", nothing is timed.
    """
    formats = [False, True] if channels_last == "auto" else [channels_last]
    precisions: Sequence[Precision] = ["fp32", "bf16"] if precision == "auto" else [precision]
    choices = [Runtime(device=device, precision=p, channels_last=f) for p in precisions for f in formats]
    seconds = dict.fromkeys(choices, 0.0)
    if len(choices) > 1 or compile == "auto":
        seconds = {choice: _seconds(encoder, pixels, choice) for choice in choices}
    best = _best(seconds)
    if len(choices) > 1:
        shown = ", ".join(f"{_name(choice)} {1e3 * took:.0f} ms" for choice, took in seconds.items())
        say(f"computing in {_name(best)}: forward and backward of {len(pixels)} views take {shown}")
    if compile != "auto":
        return replace(best, compile=compile)
    if seconds[best] * passes < COMPILE_ABOVE:
        return best
    compiled = replace(best, compile=True)
    say("trying torch.compile, which may take some minutes; runtime.compile=false skips it")
    try:
        took = _seconds(encoder, pixels, compiled)
    except Exception as error:  # a compiler may be missing or refuse the network in many ways: then we do without
        say(f"not compiled: torch.compile failed here ({type(error).__name__})")
        return best
    chosen = compiled if took < GAIN * seconds[best] else best
    say(f"{'' if chosen.compile else 'not '}compiled: a pass then takes {took / seconds[best]:.0%} of the time")
    return chosen


def tell_of_kernels(runtime: Runtime, say: Callable[[str], None]) -> None:
    """Says what a run on a CPU does without, where its BatchNorm and its color jitter have no compiled kernels."""
    if runtime.device.type == "cpu" and sys.platform.startswith("linux") and (why := missing(compiled_kernels)):
        say(
            f"no compiled kernels for this CPU ({why}): BatchNorm in bf16 and color jitter take longer without numba; "
            "pip install 'lookalike[cpu]'"
        )


def _best(seconds: dict[Runtime, float]) -> Runtime:
    """The fastest; half precision only where it clearly pays."""
    full = min((c for c in seconds if c.half is None), key=seconds.__getitem__, default=None)
    best = min(seconds, key=seconds.__getitem__)
    return full if full is not None and seconds[best] > GAIN * seconds[full] else best


def _seconds(encoder: nn.Module, pixels: Tensor, runtime: Runtime) -> float:
    """The shortest of three passes after a warm-up, with weights and statistics of a copy."""
    net = deepcopy(encoder).to(runtime.device).train()
    net = net.to(memory_format=torch.channels_last) if runtime.channels_last else net
    if runtime.compile:
        net.compile()
    pixels = pixels.to(runtime.device)

    def once() -> None:
        with runtime.autocast():
            rows = net(pixels)
        rows.float().square().mean().backward()
        net.zero_grad()

    once()
    return min(_timed(once, runtime.device) for _ in range(3))


def _timed(once: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    once()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _name(runtime: Runtime) -> str:
    return f"{runtime.precision}{' channels_last' if runtime.channels_last else ''}"
