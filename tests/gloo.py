"""A pool of gloo processes that stays up for the whole test session: `gloo.run(world, function, *args)`."""

import importlib.util
import multiprocessing
import os
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

LARGEST = 4
PATIENCE = 240.0  # seconds until a call counts as hung; a busy machine is slow
GRACE = 5.0  # seconds the other ranks get once one has failed


class WorkerError(Exception):
    """The traceback of a rank, as text: the cause of the exception that `run` raises."""


class Gloo:
    """Up to four processes, started at first use; each call sees a default group of exactly `world` ranks."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[tuple[Any, Connection]] = []
        self._folder = tempfile.TemporaryDirectory(prefix="gloo-")
        self._groups = 0
        self._world = 0  # of the group that is up; 0: none

    def run(self, world: int, function: Callable[..., Any], *args: Any, patience: float = PATIENCE) -> list[Any]:
        """Calls the module-level function on ranks 0 .. world-1, same args; results in rank order.

        A rank's exception is raised here, with the rank's traceback as its cause. Raises TimeoutError when a
        rank does not answer; the pool is then started anew at the next call.
        """
        if not 1 <= world <= LARGEST:
            raise ValueError(f"the pool has {LARGEST} processes: world {world} is not possible")
        self._start(world)
        if self._world != world:
            self._groups += 1
        self._world = 0  # until all have answered well: after a failure a collective may be half done
        path = Path(self._folder.name) / f"group-{self._groups}-{world}"
        source = sys.modules[function.__module__].__file__
        task = pickle.dumps((str(path), world, str(source), function.__module__, function.__qualname__, args))
        for _, connection in self._workers[:world]:
            connection.send_bytes(task)
        answers = self._answers(world, patience)
        for rank, (error, text) in ((r, a) for r, (fine, a) in sorted(answers.items()) if not fine):
            raise error from WorkerError(f"rank {rank} of {world}:\n{text}")
        if len(answers) < world:
            missing = sorted(set(range(world)) - set(answers))
            raise TimeoutError(f"ranks {missing} of {world} did not answer within {patience:g} s")
        self._world = world
        return [answers[rank][1] for rank in range(world)]

    def close(self) -> None:
        """Ends the processes and removes the rendezvous files."""
        self._stop()
        self._folder.cleanup()

    def _start(self, world: int) -> None:
        for rank in range(len(self._workers), world):
            here, there = self._context.Pipe()
            process = self._context.Process(target=_serve, args=(rank, there), daemon=True)
            process.start()
            there.close()
            self._workers.append((process, here))

    def _stop(self) -> None:
        for process, connection in self._workers:
            process.kill()
            process.join()
            connection.close()
        self._workers.clear()
        self._world = 0

    def _answers(self, world: int, patience: float) -> dict[int, tuple[bool, Any]]:
        """Rank -> (True, result) or (False, (exception, traceback)); a rank that hangs is missing."""
        pending = {connection: rank for rank, (_, connection) in enumerate(self._workers[:world])}
        answers: dict[int, tuple[bool, Any]] = {}
        deadline = time.monotonic() + patience
        while pending and (left := deadline - time.monotonic()) > 0:
            for ready in wait(list(pending), timeout=left):
                rank = pending.pop(ready)  # type: ignore[call-overload]
                answers[rank] = _receive(ready)  # type: ignore[arg-type]
                if not answers[rank][0]:
                    deadline = min(deadline, time.monotonic() + GRACE)
        if pending or any(not fine and isinstance(answer[0], EOFError) for fine, answer in answers.values()):
            self._stop()
        return answers


def _receive(connection: Connection) -> tuple[bool, Any]:
    try:
        return pickle.loads(connection.recv_bytes())
    except EOFError:
        return False, (EOFError("the process died"), "no traceback: killed, or out of memory")


def _serve(rank: int, connection: Connection) -> None:
    """The life of one process: meet, call, answer."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    from jaxtyping import install_import_hook

    install_import_hook("lookalike", "beartype.beartype")
    import torch

    torch.set_num_threads(1)
    group = ""
    while True:
        try:
            path, world, source, module, name, args = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        try:
            if path != group:
                group = ""
                _meet(path, rank, world)
                group = path
            torch.manual_seed(0)
            answer: tuple[bool, Any] = True, _find(source, module, name)(*args)
            message = pickle.dumps(answer)
        except BaseException as error:
            message = _failure(error)
        connection.send_bytes(message)


def _failure(error: BaseException) -> bytes:
    text = traceback.format_exc()
    try:
        message = pickle.dumps((False, (error, text)))
        pickle.loads(message)
    except Exception:  # an exception class that cannot travel
        message = pickle.dumps((False, (RuntimeError(f"{type(error).__name__}: {error}"), text)))
    return message


def _meet(path: str, rank: int, world: int) -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
    limit = timedelta(seconds=PATIENCE)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world, timeout=limit)


def _find(source: str, module: str, name: str) -> Callable[..., Any]:
    """The function `name` of a test module, which is imported from its file once per process."""
    if module not in sys.modules:
        folders = [str(Path(source).parent), str(Path(__file__).parent)]
        sys.path.extend(folder for folder in folders if folder not in sys.path)
        spec = importlib.util.spec_from_file_location(module, source)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[module] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[module])
        except BaseException:
            del sys.modules[module]
            raise
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    return found
