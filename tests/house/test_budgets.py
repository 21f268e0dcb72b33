"""Pages stay pages: the lengths of files and functions, the depth of nesting, the number of a constructor's numbers."""

import ast

import pytest
from sources import REPOSITORY, Source, nowhere

METHOD, LOOP, FILE, FUNCTION, NESTING, NUMBERS, MAP = 150, 200, 300, 40, 3, 8, 120
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
INNER = (ast.FunctionDef, ast.AsyncFunctionDef)


def test_files_keep_their_budget():
    nowhere(long_files)


def test_functions_keep_their_budget():
    nowhere(long_functions)


def test_nesting_keeps_its_budget():
    nowhere(deep_functions)


def test_constructors_keep_their_budget():
    nowhere(many_numbers)


def test_the_map_keeps_its_budget():
    assert len((REPOSITORY / "ARCHITECTURE.md").read_text().splitlines()) <= MAP


@pytest.mark.parametrize(
    ("path", "lines", "wrong"),
    [
        ("methods/sce.py", 150, False),
        ("methods/sce.py", 151, True),
        ("methods/method.py", 151, True),
        ("training/loop.py", 200, False),
        ("training/loop.py", 201, True),
        ("functional/contrast.py", 300, False),
        ("functional/contrast.py", 301, True),
    ],
)
def test_long_files_are_found(path, lines, wrong):
    assert bool(long_files(Source(path, "x = 1\n" * lines))) is wrong


@pytest.mark.parametrize(("lines", "wrong"), [(39, False), (40, True)])
def test_long_functions_are_found(lines, wrong):
    method = "class A:\n    @property\n    def f(self):\n" + "        x = 1\n" * lines
    assert bool(long_functions(Source("modules/a.py", method))) is wrong


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("for a in b:\n  if a:\n    with a:\n      a()", False),
        ("for a in b:\n  if a:\n    with a:\n      while a: a()", True),
        ("if a: pass\nelif b: pass\nelif c: pass\nelif d: pass\nelif e: pass", False),
        ("if a:\n  pass\nelse:\n  for b in c:\n    if b:\n      try: b()\n      except E: pass", True),
        ("if a:\n  def g():\n    if a:\n      for b in c:\n        if b: b()", False),
        ("def g():\n  if a:\n    for b in c:\n      if b:\n        if c: b()", True),
        ("try: a()\nexcept E:\n  if a:\n    if b:\n      if c: d()", True),
        ("match a:\n  case 1:\n    if a:\n      if b:\n        if c: d()", True),
        ("return [a for a in b if a for c in a if c]", False),
    ],
)
def test_deep_functions_are_found(text, wrong):
    body = "".join(f"    {line}\n" for line in text.splitlines())
    assert bool(deep_functions(Source("modules/a.py", f"def f():\n{body}"))) is wrong


@pytest.mark.parametrize(("count", "wrong"), [(8, False), (9, True)])
def test_many_numbers_are_found(count, wrong):
    numbers = ", ".join(f"n{number}=1" for number in range(count))
    constructor = f"class A:\n    def __init__(self, encoder, projector, *, {numbers}): ..."
    assert bool(many_numbers(Source("modules/a.py", constructor))) is wrong


def long_files(source: Source) -> list[str]:
    in_methods = source.layer == "methods" and source.parts[-1] != "__init__.py"
    budget = METHOD if in_methods else LOOP if source.path == "training/loop.py" else FILE
    return [f"{source.path}: {source.lines} lines, the budget is {budget}"] if source.lines > budget else []


def long_functions(source: Source) -> list[str]:
    return [
        source.at(function, f"{function.name} has {length(function)} lines, the budget is {FUNCTION}")
        for function in source.functions()
        if length(function) > FUNCTION
    ]


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def deep_functions(source: Source) -> list[str]:
    return [
        source.at(function, f"{function.name} nests {depth(function)} deep, the budget is {NESTING}")
        for function in source.functions()
        if depth(function) > NESTING
    ]


def depth(node: ast.AST) -> int:
    """Blocks within blocks below a node; an elif is as deep as its if, an inner function is measured by itself."""
    inside = [child for child in ast.iter_child_nodes(node) if not isinstance(child, INNER)]
    return max((depth(child) + deeper(node, child) for child in inside), default=0)


def deeper(parent: ast.AST, child: ast.AST) -> bool:
    chained = isinstance(parent, ast.If) and isinstance(child, ast.If) and parent.orelse == [child]
    return isinstance(child, BLOCKS) and not chained


def many_numbers(source: Source) -> list[str]:
    return [
        source.at(
            function, f"a constructor takes {len(function.args.kwonlyargs)} keyword-only numbers, not over {NUMBERS}"
        )
        for function in source.functions()
        if function.name == "__init__" and len(function.args.kwonlyargs) > NUMBERS
    ]
