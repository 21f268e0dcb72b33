"""Real processes: SIGTERM and Ctrl-C stop after the step and lose nothing; torchrun trains one encoder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import TINY, lookalike

LONG = ("--epochs", "12", "saving.every=1000")  # 48 steps
PATIENCE = 120.0  # seconds; a busy machine takes ten to import torch


def started(*words: object, several: int = 1) -> subprocess.Popen[str]:
    module = ["-m", "lookalike"]
    if several > 1:
        module = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(several), *module]
    command = [sys.executable, *module, *map(str, words)]
    here = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, text=True, env=here, preexec_fn=heard)


def heard() -> None:
    """Signals have their usual meaning, also where the tests run in the background or under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def rows(run: Path) -> list[dict]:
    """The lines of steps; probes write others."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "probe" not in line]


def wait_for_steps(process: subprocess.Popen[str], run: Path) -> None:
    """Returns once the run has made some steps."""
    until = time.monotonic() + PATIENCE
    while not (run / "metrics.jsonl").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Standard output and error of a process that ends by itself; one that hangs is ended here."""
    try:
        return process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.terminate()
        raise


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    run = tmp_path_factory.mktemp("unbroken") / "run"
    assert lookalike("pretrain", photos, *TINY, *LONG, "--out", run).code == 0
    return run


def test_a_signal_stops_after_the_step_and_the_run_goes_on_to_the_same_bits(photos, unbroken, tmp_path):
    wanted = {"term": (signal.SIGTERM, 0), "hang-up": (signal.SIGHUP, 0), "ctrl-c": (signal.SIGINT, 130)}
    processes = {name: started("pretrain", photos, *TINY, *LONG, "--out", tmp_path / name) for name in wanted}
    for name, (number, _) in wanted.items():
        wait_for_steps(processes[name], tmp_path / name)
        processes[name].send_signal(number)
    for name, (_, code) in wanted.items():
        _, err = ended(processes[name])
        run, last = tmp_path / name, err.splitlines()[-1]
        assert processes[name].returncode == code, err
        assert "Traceback" not in err
        assert last.startswith("stopped after step ")
        assert last.endswith(f" of 48; go on with: lookalike pretrain --resume {run}")
        done = int(last.split()[3])
        assert done < 48
        assert (run / "checkpoints" / "latest").read_text() == f"step-{done:08}\n"
        assert not (run / "encoder.safetensors").exists()
        said = lookalike("pretrain", "--resume", run)
        assert said.code == 0, said.err
        assert (run / "encoder.safetensors").read_bytes() == (unbroken / "encoder.safetensors").read_bytes()
        assert [row["step"] for row in rows(run)] == list(range(1, 49))


def test_a_terminal_that_closes_does_not_end_the_run(photos, unbroken, tmp_path):
    """As after `2>&1 | less`, left early: what nobody reads is still in the log."""
    process, run = started("pretrain", photos, *TINY, *LONG, "--out", tmp_path / "run"), tmp_path / "run"
    wait_for_steps(process, run)
    process.stderr.close()
    assert process.wait(PATIENCE) == 0
    process.stdout.close()
    assert (run / "encoder.safetensors").read_bytes() == (unbroken / "encoder.safetensors").read_bytes()
    assert "next: lookalike evaluate" in (run / "log.txt").read_text()


def test_two_processes_measure_alone_and_share_decoded_pixels(photos, tmp_path):
    """The trial runs on the first process only, and so does decoding into a file: nobody may wait for the other."""
    words = (*TINY, "runtime.precision=auto", "runtime.channels_last=auto", "--epochs", "1", "data.cache=false")
    stored = (*words, f"data.store={tmp_path / 'pixels'}")
    process = started("pretrain", photos, *stored, "--out", tmp_path / "two", several=2)
    out, err = ended(process)
    assert process.returncode == 0, (out, err)
    assert "computing in" in err
    assert len(list((tmp_path / "pixels").iterdir())) == 2
    impossible = (f"data.store={photos / '000.png' / 'pixels'}", "--out", tmp_path / "none")
    process = started("pretrain", photos, *words, *impossible, several=2)
    out, err = ended(process)
    assert process.returncode != 0
    assert "decoded pixels cannot be kept" in err


def test_two_processes_train_the_encoder_of_one(photos, tmp_path):
    words = (*TINY, "--epochs", "1", "runtime.precision=fp64")
    process = started("pretrain", photos, *words, "--out", tmp_path / "two", several=2)
    out, err = ended(process)
    assert process.returncode == 0, (out, err)
    assert lookalike("pretrain", photos, *words, "--out", tmp_path / "one").code == 0
    assert err.count("next: lookalike evaluate") == 1  # one process speaks
    assert "Warning" not in err
    assert [path.name for path in (tmp_path / "two").glob("*.safetensors")] == ["encoder.safetensors"]
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [row["step"] for row in two] == [1, 2, 3, 4]
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=1e-9)
    assert lookalike("pretrain", "--resume", tmp_path / "two").code == 0
