"""What the code can say: every literal of the package, with … where a value stands."""

import ast
import re

from sources import Source


def literals(source: Source) -> set[str]:
    """The strings of a file, joined where they were broken, with … for what is filled in."""
    found, pieces = set[str](), set[ast.AST]()
    for node in ast.walk(source.tree):  # from the outside in
        if isinstance(node, ast.JoinedStr):
            pieces.update(node.values)
            found.add("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in pieces:
            found.add(re.sub(r"\{[^{}]*\}", "…", node.value))
    return {" ".join(text.split()) for text in found}


def is_said(line: str, known: set[str]) -> bool:
    """Whether a quoted line is one of the literals; … in it stands for any text."""
    pattern = re.compile(".*".join(re.escape(part.strip("\n")) for part in line.split("…")))
    return any(pattern.fullmatch(text) for text in known)
