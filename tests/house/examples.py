"""The fenced blocks of the documentation: found, and made small enough to run in a test."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sources import REPOSITORY

from lookalike.recipes import load, names

DOCUMENTS = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")])
SHELL, PYTHON, SAID = ("bash", "console"), "python", "said"
FENCE = re.compile(
    r"^(?:<!-- not run: *(?P<reason>.*?) *-->\n+)?```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
FAR = ("hf:", "https://", "s3://", "timm:")  # needs the network: only understood
LONG = ("demo", "selftest", "--profile")  # have tests of their own
SMALL = {
    "epochs": "1",
    "batch": "16",
    "accumulate": "1",
    "views.size": "16",
    "backbone.name": "resnet18_quarter",
    "runtime.device": "cpu",
    "runtime.workers": "0",
    "runtime.precision": "fp32",
    "runtime.compile": "false",
}


@dataclass(frozen=True)
class Block:
    """A fenced block; reason: why it is not run, None where it is."""

    language: str
    text: str
    reason: str | None

    def lines(self) -> list[list[str]]:
        """The commands of a block for the shell, as words; of a console only what stands behind a prompt."""
        joined = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            joined = [line.removeprefix("$ ") for line in joined if line.startswith("$ ")]
        words = (shlex.split(line, comments=True) for line in joined)
        return [line for line in words if line]


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    return [Block(found["language"], found["text"], found["reason"]) for found in FENCE.finditer(page)]


def runnable(page: Path) -> list[Block]:
    """The blocks of a page that a test runs."""
    shown = blocks(page.read_text(encoding="utf-8"))
    return [block for block in shown if block.reason is None and block.language in (*SHELL, PYTHON)]


def only_understood(words: Sequence[str]) -> bool:
    """Whether the words of a verb are parsed and not run: what they name is far away, or it takes long."""
    return any(word in LONG or word.startswith(FAR) for word in words)


def small(words: Sequence[str]) -> list[str]:
    """The words of a verb; pretrain gets the smallest recipe of its kind, once its own has been found to be right."""
    if words[0] != "pretrain" or "--resume" in words:
        return list(words)
    recipe, method = value(words, "--recipe"), value(words, "--method")
    if recipe is not None:
        load(recipe, [word for word in words[1:] if "=" in word and "://" not in word])  # raises for a wrong key
    words = [word for word in words if word not in ("--recipe", recipe)]
    return [*words, "--recipe", miniature(recipe, method), *(f"{key}={number}" for key, number in SMALL.items())]


def miniature(recipe: str | None, method: str | None) -> str:
    """The small sibling of a recipe of the library, where it has one."""
    wanted = f"{recipe}_smoke" if recipe is not None else f"{method or 'simclr'}_small_smoke"
    return wanted if recipe is None or wanted in names() else recipe


def value(words: Sequence[str], option: str) -> str | None:
    """What follows an option."""
    return words[words.index(option) + 1] if option in words else None
