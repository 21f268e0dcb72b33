"""One process equals two: loss and gradients of each tiny method, measured with processes started for it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from lookalike.api.tiny import batch, prepared, tiny
from lookalike.functional.collectives import all_sum, rank, world
from lookalike.training.processes import processes
from lookalike.training.weights import load_weights, save_weights

PROCESSES, ROWS = 2, (12, 7)  # an even share, and one that is not
PATIENCE = 40.0  # seconds until processes that do not answer are ended
PROGRAM = "import sys; from lookalike.api.two_processes import answer; answer(sys.argv[1], sys.argv[2:])"


class Alone(Exception):  # noqa: N818
    """No second process can be started here, or the two do not meet. The message says why."""


def difference(names: Sequence[str]) -> Mapping[str, float]:
    """Method -> largest difference between one process and each of two, in fp64, over losses and gradients.

    Gradients are averaged over processes, as training does. Raises Alone where two processes do not come about, and
    RuntimeError with a process's last line where one fails later.
    """
    with TemporaryDirectory(prefix="lookalike-") as folder:
        running = _started(Path(folder), names)
        try:
            alone = {name: share(name) for name in names}
            _wait(running, Path(folder), PATIENCE)
        finally:
            _end(running)
        answers = [load_weights(Path(folder) / f"{number}.safetensors") for number in range(PROCESSES)]
    return {
        name: max(
            float((answer[f"{name}/{key}"] - value).abs().max()) for answer in answers for key, value in whole.items()
        )
        for name, whole in alone.items()
    }


def share(name: str) -> dict[str, Tensor]:
    """Losses of this process's rows of both batches, and gradients averaged over processes."""
    found = {}
    for rows in ROWS:
        method = prepared(tiny(name).double())
        step = method(batch(method, rows))
        step.loss.backward()
        found[f"{rows}/loss"] = step.loss.detach().reshape(1)
        for key, parameter in method.named_parameters():
            if parameter.grad is not None:
                found[f"{rows}/{key}"] = all_sum(parameter.grad) / world()
    return found


def answer(folder: str, names: Sequence[str]) -> None:
    """What each of the processes does: meet, compute, write."""
    with processes("cpu"):
        (Path(folder) / f"{rank()}.met").touch()
        found = {f"{name}/{key}": value for name in names for key, value in share(name).items()}
        save_weights(Path(folder) / f"{rank()}.safetensors", found)


def _started(folder: Path, names: Sequence[str]) -> list[subprocess.Popen[str]]:
    running = list[subprocess.Popen[str]]()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for number in range(PROCESSES):
        place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": PROCESSES, "MASTER_PORT": port}
        told = {name: str(value) for name, value in place.items()}
        told |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
        told |= {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"} if os.name != "nt" else {}
        try:
            running.append(
                subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, str(folder), *names],
                    env={**os.environ, **told},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        except OSError as error:
            _end(running)
            raise Alone(f"a second process cannot be started ({error.strerror or error})") from error
    return running


def _wait(running: Sequence[subprocess.Popen[str]], folder: Path, patience: float) -> None:
    """Until all have answered, or one has failed."""
    deadline = time.monotonic() + patience
    while any(process.poll() is None for process in running) and not any(process.returncode for process in running):
        if time.monotonic() > deadline:
            raise Alone(f"two processes did not answer within {patience:g} s")
        time.sleep(0.05)
    for process in running:
        if not process.returncode:
            continue
        assert process.stderr is not None
        lines = process.stderr.read().strip().splitlines() or [f"exit code {process.returncode}"]
        if len(list(folder.glob("*.met"))) < PROCESSES:
            raise Alone(f"two processes do not meet ({lines[-1]})")
        raise RuntimeError(lines[-1])


def _end(running: Sequence[subprocess.Popen[str]]) -> None:
    """Ends what still runs."""
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
