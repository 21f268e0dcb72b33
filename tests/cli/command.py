"""The command line called in this process, and tiny images to call it with."""

import contextlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from lookalike.cli import main

TINY = ("--recipe", "simclr_small_smoke")  # 16 pixels, batch 16, 2 epochs, a quarter of ResNet-18


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def lookalike(*words: object) -> Said:
    """The command `lookalike WORDS`, as a shell would run it."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Said(code, out.getvalue(), err.getvalue())


def mistake(*words: object) -> str:
    """The one sentence that the command says, after asserting that it is one, without traceback, and exit code 2."""
    said = lookalike(*words)
    assert said.code == 2, said
    assert "Traceback" not in said.err
    last = said.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert said.err.count("error: ") == 1
    return last.removeprefix("error: ")


def write_images(folder: Path, count: int, first: int = 0) -> Path:
    """folder/<number>.png: 32 x 32, color noise, the same for the same number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        noise = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((32, 32)).save(folder / f"{number:03}.png")
    return folder
