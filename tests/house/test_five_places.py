"""A method is five places: one that came with a record in its test file is named by no other source file."""

import ast

import pytest
from sources import Source, sources

from methods.records import records


@pytest.mark.parametrize("name", records())
def test_only_the_table_names_the_method(name: str) -> None:
    assert [source.path for source in sources() if names(source, name)] == ["recipes/tables.py"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('if kind == "toy": ...', True),
        ("from lookalike.methods.toy import Toy", True),
        ("from lookalike.methods import toy", True),
        ('"""What toy and others share."""', False),
        ("toy = 1", False),
    ],
)
def test_a_file_that_names_a_method_is_found(text: str, wrong: bool) -> None:
    assert names(Source("api/a.py", text), "toy") is wrong


def names(source: Source, method: str) -> bool:
    """Whether a string of the file is the method's name, or an import leads to its page."""
    page = f"lookalike.methods.{method}"
    strings = [node.value for node in ast.walk(source.tree) if isinstance(node, ast.Constant)]
    return method in strings or any(page in (module, f"{module}.{name}") for _, module, name in source.imports())
