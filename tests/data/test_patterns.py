"""Brace patterns name what bash would name."""

import shutil
import subprocess

import pytest

from lookalike.data.patterns import expanded, is_pattern

PATTERNS = [
    "shards-{0000..0003}.tar",
    "{8..11}.tar",
    "{08..11}.tar",
    "{3..0}",
    "a{1..2}-{x,y}b",
    "{train,test}/{00..02}.tar",
    "{5..5}",
    "{a,}z",
]


def test_numbers_keep_their_width_and_the_last_braces_count_fastest():
    assert expanded("s-{0009..0011}.tar") == ["s-0009.tar", "s-0010.tar", "s-0011.tar"]
    assert expanded("{8..10}") == ["8", "9", "10"]
    assert expanded("{a,b}{2..1}") == ["a2", "a1", "b2", "b1"]
    assert expanded("plain.tar") == ["plain.tar"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash, to ask it")
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_names_are_those_of_bash(pattern):
    said = subprocess.run(["bash", "-c", f"printf '%s\\n' {pattern}"], capture_output=True, text=True, check=True)
    assert expanded(pattern) == said.stdout.splitlines()
    assert is_pattern(pattern)


@pytest.mark.parametrize("text", ["a.tar", "{}", "{a}", "a{b", "}x,{", "{1.2}"])
def test_what_is_no_pattern(text):
    assert not is_pattern(text)
    assert expanded(text) == [text]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("s-{0..x}.tar", "has {0..x}, which is no range: write two numbers, as {0000..0009}"),
        ("s-{..9}.tar", "has {..9}, which is no range: write two numbers, as {0000..0009}"),
        ("{0..99999999999}", "names more than 1,000,000 files: narrow its range"),
        ("{0..9999}{0..9999}", "names 100,000,000 files, more than 1,000,000: narrow its range"),
    ],
)
def test_patterns_that_cannot_be_meant(pattern, reason):
    with pytest.raises(ValueError) as caught:
        expanded(pattern)
    assert str(caught.value) == f"the pattern {pattern} {reason}"
