"""Imports flow down: a file imports from its own layer's package and from below, never up, never sideways."""

import ast
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources import CONTRACT, REPOSITORY, Source, nowhere

# highest first; packages on one line are siblings
LAYERS = (
    ("cli",),
    ("api",),
    ("recipes",),
    ("training",),
    ("data", "methods", "evaluation", "search"),
    ("modules", "transforms"),
    ("functional",),
)
HEIGHT = {package: -number for number, line in enumerate(LAYERS) for package in line}
COLLECTIVES = ("functional/collectives.py", "training/")


def test_every_file_belongs_to_a_layer():
    nowhere(homeless)


def test_no_import_goes_up_or_sideways():
    nowhere(wrong_imports)


def test_methods_are_known_to_the_table_only():
    nowhere(imported_methods)


def test_init_files_only_re_export():
    nowhere(more_than_exports)


def test_processes_are_known_to_collectives_and_training_only():
    nowhere(process_groups)


def test_the_contract_of_import_linter_is_this_table():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = settings["contracts"]
    stated = [{package.strip(" ()") for package in line.split("|")} for line in contract["layers"]]
    present = [{f"lookalike.{package}" for package in line if exists(package)} for line in LAYERS]
    assert contract["type"] == "layers"
    assert stated == present


def test_import_linter_finds_the_contract_kept():
    result = lint_imports(REPOSITORY / "pyproject.toml")
    assert result.returncode == 0, result.stdout
    assert "imports flow down KEPT" in result.stdout


def test_import_linter_finds_a_broken_contract(tmp_path):
    for name, text in {"low": "import house.high", "high": "import house.low"}.items():
        (tmp_path / "house" / name).mkdir(parents=True)
        (tmp_path / "house" / name / "__init__.py").write_text(text)
    (tmp_path / "house" / "__init__.py").touch()
    settings = """
        [tool.importlinter]
        root_package = "house"
        [[tool.importlinter.contracts]]
        name = "imports flow down"
        type = "layers"
        layers = ["house.high", "house.low"]
    """
    (tmp_path / "pyproject.toml").write_text(textwrap.dedent(settings))
    result = lint_imports(tmp_path / "pyproject.toml")
    assert result.returncode == 1, result.stdout
    assert "imports flow down BROKEN" in result.stdout


@pytest.mark.parametrize(
    ("path", "text", "wrong"),
    [
        ("training/loop.py", "from lookalike.methods.method import Method", False),
        ("training/loop.py", "from lookalike.recipes.schema import Recipe", True),
        ("modules/queue.py", "from lookalike.functional import random", False),
        ("modules/queue.py", "from lookalike.transforms import Views", True),
        ("modules/queue.py", "from lookalike.modules.bank import Bank", False),
        ("data/folder.py", "import lookalike.methods.method as contract", True),
        ("evaluation/knn.py", "def score():\n    from lookalike.data import folders", True),
        ("functional/ema.py", "from ..modules import queue", True),
        ("functional/ema.py", "from .random import key", False),
        ("functional/ema.py", "import lookalike", True),
        ("functional/ema.py", "from lookalike import functional", False),
        ("functional/ema.py", "from lookalike import api", True),
        ("functional/ema.py", "import importlib\nimportlib.import_module('lookalike.api')", True),
        ("__init__.py", "from lookalike.api import pretrain", False),
        ("__main__.py", "from lookalike.cli import main", False),
    ],
)
def test_wrong_imports_are_found(path, text, wrong):
    assert bool(wrong_imports(Source(path, text))) is wrong


@pytest.mark.parametrize(
    ("path", "text", "wrong"),
    [
        ("methods/sce.py", "from lookalike.methods.method import Method", False),
        ("methods/sce.py", "from lookalike.methods.moco import MoCo", True),
        ("methods/sce.py", "from lookalike.methods import method", False),
        ("methods/sce.py", "from lookalike.methods import moco", True),
        ("methods/sce.py", "from . import moco", True),
        ("methods/with_rotation.py", "from lookalike.methods.moco import MoCo", False),
        ("methods/method.py", "from lookalike.methods.moco import MoCo", True),
        ("training/loop.py", "from lookalike.methods.moco import MoCo", True),
        ("training/loop.py", "from lookalike.methods.method import Method", False),
        ("recipes/build.py", "from lookalike.methods import moco", True),
        ("recipes/tables.py", "from lookalike.methods.moco import MoCo", False),
    ],
)
def test_imported_methods_are_found(path, text, wrong):
    assert bool(imported_methods(Source(path, text))) is wrong


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('"""Parts."""', False),
        ('"""Parts."""\nfrom a import b\n__all__ = ["b"]', False),
        ('"""Parts."""\nfrom a import b, c\n__all__ = ["b"]', True),
        ('"""Parts."""\nfrom a import b\n__all__ = ["b", "c"]', True),
        ('"""Parts."""\nfrom a import b', True),
        ('"""Parts."""\nfrom a import *\n__all__ = []', True),
        ('"""Parts."""\nfrom a import b\n__all__ = [name for name in dir()]', True),
        ('"""Parts."""\nfrom a import b\n__all__ = ["b"]\nb.register()', True),
        ('"""Parts."""\ndef f(): ...', True),
    ],
)
def test_more_than_exports_is_found(text, wrong):
    assert bool(more_than_exports(Source("modules/__init__.py", text))) is wrong


@pytest.mark.parametrize(
    ("path", "exported", "wrong"),
    [("__init__.py", ["b"], False), ("__init__.py", ["b", "c"], True), ("modules/__init__.py", ["b"], True)],
)
def test_only_the_package_itself_exports_at_first_use(path, exported, wrong):
    text = "'''Parts.'''\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import b\n"
    text += f"__all__ = {exported}\ndef __getattr__(name): ...\n"
    assert bool(more_than_exports(Source(path, text))) is wrong


@pytest.mark.parametrize(
    ("path", "text", "wrong"),
    [
        ("functional/collectives.py", "import torch.distributed as dist", False),
        ("training/runtime.py", "from torch.distributed import init_process_group", False),
        ("evaluation/knn.py", "import torch.distributed as dist", True),
        ("evaluation/knn.py", "from torch import distributed", True),
        ("evaluation/knn.py", "import torch\ntorch.distributed.barrier()", True),
        ("evaluation/knn.py", "from lookalike.functional.collectives import all_sum", False),
    ],
)
def test_process_groups_are_found(path, text, wrong):
    assert bool(process_groups(Source(path, text))) is wrong


def homeless(source: Source) -> list[str]:
    known = source.layer in HEIGHT or source.layer == ""
    return [] if known else [f"{source.path}: lookalike.{source.layer} is no layer: give it a line in LAYERS"]


def wrong_imports(source: Source) -> list[str]:
    if source.layer == "":
        return []
    found = [
        source.at(node, f"{source.layer} imports {target or 'the whole package'}")
        for node, module, name in source.imports()
        for target in targets(module, name)
        if not allowed(source.layer, target)
    ]
    dynamic = ("importlib.import_module", "__import__")
    return found + [source.at(call, "imports by string") for call, name in source.calls() if name in dynamic]


def targets(module: str, name: str | None) -> list[str]:
    """Packages of lookalike that an import reaches; "" for the top of the package."""
    head, _, rest = module.partition(".")
    if head != "lookalike":
        return []
    return [rest.split(".")[0] or (name if name in HEIGHT else "") or ""]


def allowed(layer: str, target: str) -> bool:
    return layer == target or (target in HEIGHT and HEIGHT[target] < HEIGHT[layer])


def imported_methods(source: Source) -> list[str]:
    wrapper = source.layer == "methods" and source.parts[1].startswith("with_")
    if source.path in ("methods/__init__.py", "recipes/tables.py") or wrapper:
        return []
    return [
        source.at(node, f"imports {module}.{name}: methods are known to recipes/tables.py and to wrappers")
        for node, module, name in source.imports()
        if page(module, name) not in ("", *CONTRACT)
    ]


def page(module: str, name: str | None) -> str:
    """The file in methods/ that an import reaches: "methods/moco.py"; "" for imports of something else."""
    full = f"{module}.{name}" if module == "lookalike.methods" else module
    inside = full.startswith("lookalike.methods.")
    return full.removeprefix("lookalike.").replace(".", "/") + ".py" if inside else ""


def more_than_exports(source: Source) -> list[str]:
    if source.parts[-1] != "__init__.py":
        return []
    _, *body = source.tree.body or [ast.Pass()]
    body = list(at_once(body)) if source.path == "__init__.py" else body
    imported = {alias.asname or alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names}
    lists = [node for node in body if isinstance(node, ast.Assign | ast.AnnAssign) and is_all(node)]
    found = [
        source.at(node, "an __init__ file does more than re-export")
        for node in body
        if not isinstance(node, ast.ImportFrom) and node not in lists
    ]
    exported = {name for node in lists for name in literal(node.value)}
    if imported != exported or len(lists) > 1:
        found.append(f"{source.path}: __all__ and the imports differ in {sorted(imported ^ exported)}")
    return found


def at_once(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The package's own __init__ may import at first use: under `if TYPE_CHECKING`, and in __getattr__."""
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from node.body
        elif not (isinstance(node, ast.FunctionDef) and node.name == "__getattr__"):
            typing = isinstance(node, ast.ImportFrom) and node.module == "typing"
            yield from [] if typing else [node]


def is_all(node: ast.Assign | ast.AnnAssign) -> bool:
    (target,) = node.targets if isinstance(node, ast.Assign) else [node.target]
    return isinstance(target, ast.Name) and target.id == "__all__"


def literal(node: ast.expr | None) -> list[str]:
    try:
        return list(ast.literal_eval(node or ast.List([])))
    except ValueError:
        return ["(not a list of names)"]


def process_groups(source: Source) -> list[str]:
    if source.path.startswith(COLLECTIVES):
        return []
    used = [(node, f"{module}.{name}" if name else module) for node, module, name in source.imports()]
    used += [(node, source.dotted(node)) for node in ast.walk(source.tree) if isinstance(node, ast.Attribute)]
    return [
        source.at(node, f"{name}: processes are the matter of functional/collectives.py and training/")
        for node, name in used
        if f"{name}.".startswith("torch.distributed.")
    ]


def exists(package: str) -> bool:
    folder = REPOSITORY / "src" / "lookalike" / package
    return folder.is_dir() or folder.with_suffix(".py").is_file()


def lint_imports(settings: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", program, "--config", str(settings), "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=settings.parent, capture_output=True, text=True, timeout=120, check=False)
