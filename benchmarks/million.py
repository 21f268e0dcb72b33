"""A million negatives in every step, beside the bare matrix products: python benchmarks/million.py [--quick]

Steps of N classes or keys, batch 256, D = 256, float32; each with the bare products that it cannot do without:

    qk            contrast with cached embeddings of N images: loss, gradient of the queries          2 products
    classifier A  N class weights, logits remembered: loss, gradient, SGD with momentum and decay     3 products
    classifier B  the same with nothing remembered                                                    4 products
    plain         full matrices and torch's autograd, as far as they fit into 6 GiB

`one_thread` is processor time, which other work on the machine does not lengthen much; `two_threads` (only with
--two-threads) is time on the clock. A step and its products take turns in one process, and a ratio is that of two
neighbors. `growth` takes the second step in a process of its own, on one thread: its processor time, and memory_MiB,
the kernel's high-water mark above what the first step left (keys; weights, velocity and for A the logits); Linux
only. Writes benchmarks/results/million-<date>.json and .png, and prints the former.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch.nn import functional

from engine import resident, rows, summary
from lookalike.functional import ClassTarget, contrast
from lookalike.modules import InstanceClasses
from machine import RESULTS, save

B, D, N = 256, 256, 1_000_000
SIZES = [2**exponent for exponent in range(14, 21)]
TEMPERATURE, RATE, CHUNK = 0.15, 0.01, 2**16
PLAIN_QK, PLAIN_CLASSIFIER = 2**20, 2**18  # more would not fit into 6 GiB

Call = Callable[[], object]


def products(count: int, size: int) -> Call:
    """`count` bare products of B x D x N: logits, average, gradient, logits again; in chunks, so that all sizes fit."""
    x, w = rows(B, D, 1), rows(size, D, 2)
    logits, wide, narrow = torch.zeros(CHUNK, B), torch.zeros(CHUNK, D), torch.zeros(B, D)

    def call() -> None:
        for start in range(0, size, CHUNK):
            part = w[start : start + CHUNK]
            s, g = logits[: len(part)], wide[: len(part)]
            torch.mm(part, x.T, out=s)
            torch.mm(s.T, part, out=narrow)
            if count >= 3:
                torch.mm(s, x, out=g)
            if count >= 4:
                torch.mm(part, x.T, out=s)

    return call


def qk(size: int) -> Call:
    x, keys, index = rows(B, D, 1), rows(size, D, 2), torch.arange(B)

    def call() -> None:
        q = x.clone().requires_grad_()
        torch.autograd.grad(contrast(q, keys, index, temperature=TEMPERATURE).loss, q)

    return call


def plain_qk(size: int) -> Call:
    x, keys, index = rows(B, D, 1), rows(size, D, 2), torch.arange(B)

    def call() -> None:
        q = x.clone().requires_grad_()
        torch.autograd.grad(functional.cross_entropy(q @ keys.T / TEMPERATURE, index), q)

    return call


def classifier(size: int, remember: bool) -> Call:
    x, target, classes = (
        rows(B, D, 1)[:, None],
        ClassTarget(torch.arange(B)),
        InstanceClasses(size, D, remember=remember),
    )

    def call() -> None:
        q = x.clone().requires_grad_()
        found = classes(q, target, temperature=TEMPERATURE)
        found.loss.backward()
        classes.update(x, found.log_sum, target, temperature=TEMPERATURE, rate=RATE)

    return call


def plain_classifier(size: int) -> Call:
    x, index, weights = rows(B, D, 1), torch.arange(B), torch.nn.Parameter(rows(size, D, 2))
    optimizer = torch.optim.SGD([weights], lr=RATE, momentum=0.9, weight_decay=1e-4)

    def call() -> None:
        q = x.clone().requires_grad_()
        optimizer.zero_grad()
        functional.cross_entropy(q @ functional.normalize(weights).T / TEMPERATURE, index).backward()
        optimizer.step()

    return call


CALLS: dict[str, Callable[[int], Call]] = {
    "qk": qk,
    "classifier A": lambda size: classifier(size, True),
    "classifier B": lambda size: classifier(size, False),
    "qk, plain": plain_qk,
    "classifier, plain": plain_classifier,
    "2 products": lambda size: products(2, size),
    "3 products": lambda size: products(3, size),
    "4 products": lambda size: products(4, size),
}
BARE = {"qk": "2 products", "classifier A": "3 products", "classifier B": "4 products"}


def pair(name: str, size: int, repeats: int, now: Callable[[], float]) -> dict[str, object]:
    """A step and its bare products in turns, and what one takes of the other; the first turn is left out."""
    clock = turns({key: CALLS[key](size) for key in (name, BARE[name])}, repeats, now)
    ratios = [step / bare for step, bare in zip(*clock.values(), strict=True)]
    return {key: summary(times) for key, times in clock.items()} | {"ratio": summary(ratios)}


def turns(calls: dict[str, Call], repeats: int, now: Callable[[], float]) -> dict[str, list[float]]:
    """Milliseconds of each call; the calls take turns, the first turn is left out."""
    clock: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = now()
            call()
            clock[name].append(1e3 * (now() - start))
    return {name: times[1:] for name, times in clock.items()}


def steps(size: int, repeats: int, threads: int) -> dict[str, object]:
    torch.set_num_threads(threads)
    now = time.process_time if threads == 1 else time.perf_counter
    return {name: pair(name, size, repeats, now) for name in BARE}


def growth(sizes: list[int]) -> list[dict[str, object]]:
    """Each step by the number of classes or keys, and the plain forms as far as they fit."""
    table: list[dict[str, object]] = []
    for size in sizes:
        names = [*BARE, *["qk, plain"] * (size <= PLAIN_QK), *["classifier, plain"] * (size <= PLAIN_CLASSIFIER)]
        found = {name: apart(name, size) for name in names}
        table.append({"N": size, **found})
        print(json.dumps(table[-1]), file=sys.stderr)
    return table


def apart(name: str, size: int) -> dict[str, float]:
    """Milliseconds of processor time and MiB of a second step, measured in a process of its own."""
    command = [sys.executable, __file__, "--apart", name, str(size)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_second_step(name: str, size: int) -> None:
    call = CALLS[name](size)
    call()
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew: man 5 proc
    before, start = resident("VmRSS"), time.process_time()
    call()
    milliseconds, memory = 1e3 * (time.process_time() - start), (resident("VmHWM") - before) / 1024
    print(json.dumps({"milliseconds": round(milliseconds, 1), "memory_MiB": round(memory, 1)}))


def draw(table: list[dict], path: pathlib.Path) -> None:
    """Time and memory over the number of classes."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name in (*BARE, "qk, plain", "classifier, plain"):
        known = [row for row in table if name in row]
        sizes = [row["N"] for row in known]
        left.plot(sizes, [row[name]["milliseconds"] / 1e3 for row in known], marker="o", label=name)
        right.plot(sizes, [row[name]["memory_MiB"] for row in known], marker="o", label=name)
    left.set(xscale="log", yscale="log", xlabel="classes or keys", ylabel="seconds a step, one thread")
    right.set(
        xscale="log", yscale="symlog", ylim=(0, None), xlabel="classes or keys", ylabel="MiB beyond weights and buffers"
    )
    left.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one thread at 2^18 only; nothing is written")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--two-threads", action="store_true", help="also by the clock: for a machine without other work"
    )
    parser.add_argument("--apart", nargs=2, metavar=("CALL", "N"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.apart:
        print_second_step(arguments.apart[0], int(arguments.apart[1]))
        return
    if arguments.quick:
        print(json.dumps(steps(2**18, arguments.repeats, 1), indent=1))
        return
    body: dict[str, object] = {"B": B, "D": D, "N": N, "repeats": arguments.repeats}
    body["one_thread"] = steps(N, arguments.repeats, 1)
    print(json.dumps(body), file=sys.stderr)
    if arguments.two_threads:
        body["two_threads"] = steps(N, arguments.repeats, 2)
    body["growth"] = table = growth([*SIZES, N])
    path = save("million", body)
    draw([row for row in table if row["N"] != N], RESULTS / f"{path.stem}.png")
    print(json.dumps(body, indent=1))


if __name__ == "__main__":
    main()
