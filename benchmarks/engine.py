"""The contrast engine against plain full matrices: python benchmarks/engine.py [--quick]

Writes benchmarks/results/engine-<date>.json and prints it:

    speed           loss and gradient of MoCo and SCE, B = 256, N = 262,144, D = 128, float32, two threads; the engine
                    and plain torch take turns in one process, and `ratio` is plain / engine of the same turn
    one_thread      the same on one thread, in processor time, which other work on the machine does not lengthen
    gradient_error  of the engine in float32 against full matrices in float64, relative
    memory_MiB      the highest resident memory during a call above that before it, in a process of its own
    keys            time (one thread, processor time) and memory for N = 2^14 ... 2^20
    backends        attention against tiles for other B and D, for half-precision keys and for a mask; two threads
    in_batch        NT-Xent of 4,096 pairs, against plain torch

Times are milliseconds: median, fastest and slowest of `repeats`. Memory is the kernel's high-water mark: Linux only.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lookalike.functional import nt_xent, soft_contrast
from machine import save

SEED, THREADS = 0, 2
B, N, D = 256, 262_144, 128
METHODS: dict[str, dict[str, Any]] = {
    "moco": {"temperature": 0.1},
    "sce": {"temperature": 0.1, "teacher_temperature": 0.05, "mix": 0.5},
}
SIZES = [(32, 65536, 128), (64, 65536, 128), (256, 4096, 128), (256, 65536, 64), (256, 65536, 128)]
SIZES += [(256, 65536, 512), (1024, 16384, 128), (4096, 4096, 128)]

Problem = Mapping[str, Tensor]


def rows(count: int, width: int, seed: int) -> Tensor:
    """Unit rows, made in place so that little memory is touched besides them."""
    x = torch.randn(count, width, generator=torch.Generator().manual_seed(SEED + seed))
    return x.div_(x.norm(dim=1, keepdim=True))


def problem(batch: int, keys: int, width: int) -> dict[str, Tensor]:
    return {"q": rows(batch, width, 1), "positive": rows(batch, width, 2), "keys": rows(keys, width, 3)}


def engine(method: str, backend: str, given: Problem) -> Tensor:
    """The gradient; "mask" in the problem is optional."""
    q, settings = given["q"].clone().requires_grad_(), METHODS[method] | {"backend": backend}
    if method == "sce":
        settings["teacher"] = given["positive"]
    found = soft_contrast(q, keys=given["keys"], positive=given["positive"], mask=given.get("mask"), **settings)
    return torch.autograd.grad(found.loss, q)[0]


def plain(method: str, given: Problem) -> Tensor:
    """The gradient as the published code of MoCo and SCE comes to it: all logits, softmax, backward."""
    q, k, keys, settings = given["q"].clone().requires_grad_(), given["positive"], given["keys"], METHODS[method]
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ keys.T], 1) / settings["temperature"]
    if method == "moco":
        loss = functional.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64))
    else:
        with torch.no_grad():
            relation = torch.softmax(k @ keys.T / settings["teacher_temperature"], 1)
            target = torch.cat([relation.new_zeros(len(q), 1), relation], 1) * (1 - settings["mix"])
            target[:, 0] += settings["mix"]
        loss = -(target * torch.log_softmax(logits, 1)).sum(1).mean()
    return torch.autograd.grad(loss, q)[0]


def nt_xent_engine(given: Problem) -> object:
    q, k = (given[name].clone().requires_grad_() for name in ("q", "positive"))
    return torch.autograd.grad(nt_xent(q, k, temperature=0.1), (q, k))


def nt_xent_plain(given: Problem) -> object:
    q, k = (given[name].clone().requires_grad_() for name in ("q", "positive"))
    z = functional.normalize(torch.cat([q, k]))
    logits = (z @ z.T / 0.1).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    return torch.autograd.grad(functional.cross_entropy(logits, torch.arange(len(z)).roll(len(q))), (q, k))


CALLS: dict[str, Callable[[Problem], object]] = {
    "moco, engine": partial(engine, "moco", "auto"),
    "moco, tiles": partial(engine, "moco", "tiles"),
    "moco, plain": partial(plain, "moco"),
    "sce, engine": partial(engine, "sce", "auto"),
    "sce, tiles": partial(engine, "sce", "tiles"),
    "sce, plain": partial(plain, "sce"),
    "nt_xent, engine": nt_xent_engine,
    "nt_xent, plain": nt_xent_plain,
}


def turns(
    calls: Mapping[str, Callable[[Problem], object]],
    given: Problem,
    repeats: int,
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Milliseconds of each call; the calls take turns, the first turn is left out."""
    clock: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = now()
            call(given)
            clock[name].append(1e3 * (now() - start))
    return {name: times[1:] for name, times in clock.items()}


def summary(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def summaries(clock: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    return {name: summary(values) for name, values in clock.items()}


def speed(repeats: int, now: Callable[[], float] = time.perf_counter) -> dict[str, object]:
    given, table = problem(B, N, D), {}
    for method in METHODS:
        clock = turns({name: CALLS[f"{method}, {name}"] for name in ("plain", "engine")}, given, repeats, now)
        ratios = [slow / fast for slow, fast in zip(clock["plain"], clock["engine"], strict=True)]
        table[method] = summaries(clock) | {"ratio": summary(ratios)}
    return {"B": B, "N": N, "D": D, **table}


def on_one_thread(call: Callable[[], object]) -> object:
    torch.set_num_threads(1)
    result = call()
    torch.set_num_threads(THREADS)
    return result


def gradient_error() -> dict[str, float]:
    given, errors = problem(B, N, D), {}
    wide = {name: x.double() for name, x in given.items()}
    for method in METHODS:
        chunks = [plain(method, wide | {n: wide[n][i : i + 32] for n in ("q", "positive")}) for i in range(0, B, 32)]
        exact = torch.cat(chunks) * 32 / B  # each chunk is a mean over 32 rows
        for backend in ("attention", "tiles"):
            error = (engine(method, backend, given).double() - exact).norm() / exact.norm()
            errors[f"{method}, {backend}"] = float(f"{error.item():.3g}")
    return errors


def peak(name: str, *sizes: int) -> float:
    """MiB above the memory before the call, measured in a process of its own."""
    command = [sys.executable, __file__, "--peak-of", name, *map(str, sizes)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(name: str, *sizes: int) -> None:
    given = problem(*sizes)
    CALLS[name]({key: x[: 2 * THREADS] for key, x in given.items()})  # libraries and thread pools are set up
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew: man 5 proc
    before = resident("VmRSS")
    CALLS[name](given)
    print(round((resident("VmHWM") - before) / 1024, 1))


def resident(field: str) -> int:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def growth(repeats: int) -> list[dict[str, object]]:
    table: list[dict[str, object]] = []
    for keys in (2**exponent for exponent in range(14, 21)):
        calls = {method: CALLS[f"{method}, engine"] for method in METHODS}
        clock = turns(calls, problem(B, keys, D), repeats, time.process_time)
        ns_per_key = {method: round(1e6 * min(times) / keys, 1) for method, times in clock.items()}
        memory = {method: peak(f"{method}, engine", B, keys, D) for method in METHODS}
        table.append({"N": keys, **summaries(clock), "fastest_ns_per_key": ns_per_key, "memory_MiB": memory})
    return table


def backends(repeats: int) -> list[dict[str, object]]:
    calls = {backend: partial(engine, "moco", backend) for backend in ("attention", "tiles")}
    table = [
        {"B": batch, "N": keys, "D": width, **summaries(turns(calls, problem(batch, keys, width), repeats))}
        for batch, keys, width in SIZES
    ]
    given = problem(256, 65536, 128)
    bank = given | {"keys": given["keys"].bfloat16()}
    masked = given | {"mask": torch.rand(256, 65536, generator=torch.Generator().manual_seed(SEED)) < 0.1}
    for name, variant in (("bfloat16 keys", bank), ("mask", masked)):
        table.append({"B": 256, "N": 65536, "D": 128, "with": name, **summaries(turns(calls, variant, repeats))})
    return table


def in_batch(repeats: int) -> dict[str, object]:
    calls = {name: call for name, call in CALLS.items() if name.startswith("nt_xent")}
    memory = {name: peak(name, 4096, 1, D) for name in calls}
    given = problem(4096, 1, D)
    one_thread = on_one_thread(lambda: summaries(turns(calls, given, repeats, time.process_time)))
    times = summaries(turns(calls, given, repeats))
    return {"pairs": 4096, "D": D, **times, "one_thread": one_thread, "memory_MiB": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the first three tables only; nothing is written")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--peak-of", nargs=4, metavar=("CALL", "B", "N", "D"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    if arguments.peak_of:
        name, *sizes = arguments.peak_of
        print_peak(name, *map(int, sizes))
        return
    frozen = [name for name in CALLS if not name.startswith("nt_xent")]
    body: dict[str, object] = {"seed": SEED, "repeats": arguments.repeats}
    body |= {"speed": speed(arguments.repeats), "gradient_error": gradient_error()}
    body |= {"one_thread": on_one_thread(lambda: speed(3, time.process_time))}
    body |= {"memory_MiB": {name: peak(name, B, N, D) for name in frozen}}
    if not arguments.quick:
        body |= {
            "keys": on_one_thread(lambda: growth(3)),
            "backends": backends(arguments.repeats),
            "in_batch": in_batch(3),
        }
        print(save("engine", body))
    print(json.dumps(body, indent=1))


if __name__ == "__main__":
    main()
