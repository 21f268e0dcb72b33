"""The blocks of docs/guides/exporting.md run in order, in a folder that holds photos/ and runs/sce-1."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from sources import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tests" / "cli"))

from command import lookalike as command
from command import write_images

GUIDE = (REPOSITORY / "docs" / "guides" / "exporting.md").read_text()
FENCE = re.compile(r"^(<!-- not run: .+? -->\n)?```(\w+)\n(.+?)^```$", re.MULTILINE | re.DOTALL)


def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("onnx", reason="needs the packages of pip install 'lookalike[export]'")
    monkeypatch.chdir(tmp_path)
    write_images(Path("photos"), 20)
    said = command("pretrain", "photos", "--recipe", "sce_small_smoke", "--out", "runs/sce-1")
    assert said.code == 0, said.err
    names: dict = {}
    for skipped, language, text in FENCE.findall(GUIDE):
        if skipped:
            continue
        if language == "python":
            exec(text, names)
            continue
        for line in text.splitlines():
            said = command(*shlex.split(line)[1:])
            assert said.code == 0, (line, said.err)
    assert tuple(names["features"].shape) == (5, 128)
    assert names["done"].difference == 0
