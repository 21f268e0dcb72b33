"""The package's source files, read and parsed once; and a synthetic one for showing that a check can fail."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "src" / "lookalike"
CONTRACT = (
    "methods/method.py",
    "methods/corpus.py",
    "methods/around.py",
    "methods/facts.py",
    "methods/rows.py",
)  # what every method may know; others are methods


@dataclass(frozen=True)
class Source:
    """One Python file: `path` is relative to src/lookalike, as in "methods/sce.py"."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @property
    def parts(self) -> tuple[str, ...]:
        return Path(self.path).parts

    @property
    def layer(self) -> str:
        """The folder or file right under the package: "methods"; "" for the package's own __init__ and __main__."""
        name = self.parts[0].removesuffix(".py")
        return "" if name in ("__init__", "__main__") else name

    @property
    def is_method(self) -> bool:
        return self.layer == "methods" and self.path not in ("methods/__init__.py", *CONTRACT)

    def at(self, node: ast.AST, what: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {what}"

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    def classes(self) -> Iterator[ast.ClassDef]:
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))

    def imports(self) -> Iterator[tuple[ast.stmt, str, str | None]]:
        """(statement, module, name) of every import, wherever it stands; relative ones are made absolute."""
        package = ("lookalike", *self.parts[:-1])
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node, alias.name, None) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                start = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
                module = ".".join(part for part in (start, node.module) if part)
                yield from ((node, module, alias.name) for alias in node.names)

    @cached_property
    def meanings(self) -> dict[str, str]:
        """What an imported name stands for: {"F": "torch.nn.functional", "load": "torch.load"}."""
        known = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                known |= {
                    a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names
                }
            elif isinstance(node, ast.ImportFrom) and node.module:
                known |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        return known

    def dotted(self, node: ast.AST) -> str:
        """The full name of an expression: "torch.nn.functional.normalize" for F.normalize."""
        if isinstance(node, ast.Name):
            return self.meanings.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return f"{self.dotted(node.value)}.{node.attr}"
        return ""

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        return ((node, self.dotted(node.func)) for node in ast.walk(self.tree) if isinstance(node, ast.Call))


def sources() -> list[Source]:
    """Every Python file of the package."""
    files = sorted(PACKAGE.rglob("*.py"))
    return [Source(file.relative_to(PACKAGE).as_posix(), file.read_text(encoding="utf-8")) for file in files]


def nowhere(check: Callable[[Source], list[str]]) -> None:
    """Asserts that a check finds nothing in the whole package; the failure lists all that it finds."""
    found = [line for source in sources() for line in check(source)]
    assert not found, "\n".join(["", *found])
