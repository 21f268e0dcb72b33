"""What the code never says: empty names, pickle, catch-all arguments, configuration objects, unkeyed random numbers."""

import ast
import re
from collections import Counter

import pytest
from sources import REPOSITORY, Source, nowhere

EMPTY_WORDS = {"manager", "helper", "util", "base", "handler", "processor", "wrapper"}
ATTICS = {"util", "utils", "common", "misc", "core", "helper", "helpers", "shared", "base"}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
LOADERS = {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle"}
CATCH_ALL = {"kwargs", "kwds", "kw"}
CONFIGURATION = {"config", "configuration", "cfg", "conf", "hparams"}
PROCESS_WORDS = {"device", "rank", "world", "cuda", "distributed", "optimizer", "logger"}
COLLECTIVES = {"global_mean", "gather_rows"}
DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}
DRAWS_LIKE = {"rand_like", "randn_like", "randint_like"}
DRAWS_IN_PLACE = {
    "normal_",
    "uniform_",
    "random_",
    "bernoulli_",
    "exponential_",
    "cauchy_",
    "geometric_",
    "log_normal_",
}
SEEDED = {"default_rng", "Generator", "Philox", "PCG64", "SeedSequence"}
SEEDERS = {
    "torch.manual_seed",
    "torch.seed",
    "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all",
    "torch.random.manual_seed",
}
ABOVE_RECIPES = {"", "cli", "api", "recipes"}


def test_every_file_says_what_it_is():
    nowhere(untitled)


def test_every_test_and_benchmark_says_what_it_is():
    files = [*(REPOSITORY / "tests").rglob("*.py"), *(REPOSITORY / "benchmarks").rglob("*.py")]
    assert [found for file in files for found in untitled(Source(str(file), file.read_text()))] == []


def test_every_test_file_has_a_name_of_its_own():
    names = Counter(file.name for file in (REPOSITORY / "tests").rglob("*.py"))
    assert [
        name for name, count in names.items() if count > 1 and name != "conftest.py"
    ] == []  # pytest imports by name


def test_no_class_has_an_empty_name():
    nowhere(empty_names)


def test_there_is_no_attic():
    nowhere(attics)


def test_nothing_is_pickled():
    nowhere(pickles)


def test_arguments_have_names():
    nowhere(catch_all)


def test_there_are_no_debts():
    nowhere(debts)


def test_configuration_stays_in_recipes():
    nowhere(configured)


def test_methods_know_no_device_process_or_optimizer():
    nowhere(process_words)


def test_random_numbers_are_keyed():
    nowhere(unkeyed)


def test_nothing_is_evaluated_or_postponed():
    nowhere(magic)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('"""The queue."""\nimport torch', False),
        ('"""The queue: a ring buffer.\n\nMore.\n"""', False),
        ("import torch", True),
        ("", True),
        ('# a comment\n"""The queue."""', True),
        ('"""\nThe queue.\n"""', True),
        ('"""The queue"""', True),
    ],
)
def test_untitled_files_are_found(text, wrong):
    assert bool(untitled(Source("modules/a.py", text))) is wrong


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("Queue", False),
        ("Database", False),
        ("QueueManager", True),
        ("BaseMethod", True),
        ("HTTPHandler", True),
        ("ImageProcessor", True),
        ("Utils", True),
        ("_Wrapper", True),
    ],
)
def test_empty_names_are_found(name, wrong):
    assert bool(empty_names(Source("modules/a.py", f"class {name}: ..."))) is wrong


@pytest.mark.parametrize(
    ("path", "wrong"),
    [("modules/queue.py", False), ("modules/utils.py", True), ("training/common/loop.py", True), ("core/a.py", True)],
)
def test_attics_are_found(path, wrong):
    assert bool(attics(Source(path, ""))) is wrong


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("import pickle", True),
        ("from pickle import loads", True),
        ("import torch\ntorch.load(path)", True),
        ("from torch import load as read\nread(path)", True),
        ("import torch\ntorch.load(path, weights_only=True)", True),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", True),
        ("import numpy as np\nnp.load(path, allow_pickle=False)", False),
        ("import numpy as np\nnp.load(path)", False),
        ("import yaml\nyaml.load(text, Loader=yaml.Loader)", True),
        ("import yaml\nyaml.safe_load(text)", False),
        ("from safetensors.torch import load\nload(data)", False),
        ("class A:\n    def load(self): ...\nA().load()", False),
    ],
)
def test_pickles_are_found(text, wrong):
    assert bool(pickles(Source("modules/a.py", text))) is wrong


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("def f(**kwargs): ...", True),
        ("class A:\n    def __init__(self, **options: int): ...", True),
        ("def push(self, **columns: Tensor): ...", False),
        ("def push(self, **columns): ...", True),
        ("f(**columns)", False),
    ],
)
def test_catch_all_arguments_are_found(text, wrong):
    assert bool(catch_all(Source("modules/a.py", text))) is wrong


@pytest.mark.parametrize(("word", "wrong"), [("TODO", True), ("FIXME later", True), ("XXX", True), ("todos", False)])
def test_debts_are_found(word, wrong):
    assert bool(debts(Source("modules/a.py", f"x = 1  # {word}\n"))) is wrong


@pytest.mark.parametrize(
    ("path", "text", "wrong"),
    [
        ("modules/a.py", "class A:\n    def __init__(self, config): ...", True),
        ("methods/a.py", "class A:\n    def __init__(self, encoder, *, head_cfg=None): ...", True),
        ("training/a.py", "@dataclass\nclass A:\n    config: dict", True),
        ("training/a.py", "class A:\n    def __init__(self, encoder, *, temperature=0.1): ...", False),
        ("training/a.py", "class A:\n    def __init__(self, confidence): ...", False),
        ("evaluation/a.py", "import pydantic", True),
        ("recipes/a.py", "class A:\n    def __init__(self, config): ...", False),
    ],
)
def test_configured_classes_are_found(path, text, wrong):
    assert bool(configured(Source(path, text))) is wrong


@pytest.mark.parametrize(
    ("path", "text", "wrong"),
    [
        ("methods/a.py", "x.to(y.device)", True),
        ("methods/a.py", "torch.zeros(2, device=d)", True),
        ("methods/a.py", "x.cuda()", True),
        ("methods/a.py", "def f(rank): ...", True),
        ("methods/a.py", "world_size = 2", True),
        ("methods/a.py", "y = all_gather(x)", True),
        ("methods/a.py", "dist.all_reduce(x)", True),
        ("methods/a.py", "open(path)", True),
        ("methods/a.py", "from lookalike.functional.collectives import all_sum", True),
        ("methods/a.py", "from lookalike.functional.collectives import gather_rows, global_mean", False),
        ("methods/a.py", "import lookalike.functional.collectives", True),
        ("methods/a.py", "def f():\n    '''Of the global batch, on any device.'''\n    return franked", False),
        ("methods/method.py", "x.to(y.device)", False),
        ("training/a.py", "x.to(y.device)", False),
    ],
)
def test_process_words_are_found(path, text, wrong):
    assert bool(process_words(Source(path, text))) is wrong


@pytest.mark.parametrize(
    ("path", "text", "wrong"),
    [
        ("a.py", "import torch\ntorch.rand(3)", True),
        ("a.py", "import torch\ntorch.rand(3, generator=g)", False),
        ("a.py", "from torch import randperm\nrandperm(3)", True),
        ("a.py", "import torch\ntorch.rand_like(x)", True),
        ("a.py", "x.normal_()", True),
        ("a.py", "x.normal_(generator=g)", False),
        ("a.py", "from torch import nn\nnn.init.normal_(w)", False),
        ("a.py", "import torch\nclass A:\n    def __init__(self): self.w = torch.nn.Parameter(torch.randn(3))", False),
        ("a.py", "import torch\nclass A:\n    def __init__(self): self.w = torch.randn(3)", True),
        ("a.py", "import torch\nclass A:\n    def forward(self): return torch.nn.Parameter(torch.randn(3))", True),
        ("a.py", "import numpy as np\nnp.random.rand(3)", True),
        ("a.py", "import numpy as np\nnp.random.seed(0)", True),
        ("a.py", "import numpy as np\nnp.random.default_rng()", True),
        ("a.py", "import numpy as np\nnp.random.default_rng(0).random(3)", False),
        ("a.py", "import numpy as np\nnp.random.Generator(np.random.Philox(key=k))", False),
        ("a.py", "import random", True),
        ("a.py", "from lookalike.functional import random", False),
        ("a.py", "import torch\ntorch.manual_seed(0)", True),
        ("a.py", "import torch\ntorch.Generator().manual_seed(0)", False),
        ("training/loop.py", "import torch\ntorch.manual_seed(0)", False),
    ],
)
def test_unkeyed_random_numbers_are_found(path, text, wrong):
    assert bool(unkeyed(Source(path, text))) is wrong


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("eval('1')", True),
        ("exec('x = 1')", True),
        ("model.eval()", False),
        ("from __future__ import annotations", True),
    ],
)
def test_magic_is_found(text, wrong):
    assert bool(magic(Source("modules/a.py", text))) is wrong


def untitled(source: Source) -> list[str]:
    title = (ast.get_docstring(source.tree, clean=False) or "").split("\n")[0]
    first = source.text.startswith('"""' + title) and re.search(r"[.!?:)\]]$", title)
    return [] if first else [f"{source.path}: the first line is no sentence that says what the file is"]


def words(name: str) -> set[str]:
    """The words of a camel-case or snake-case name, in lower case and the singular."""
    pieces = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return {piece.lower() for piece in pieces} | {piece.lower().removesuffix("s") for piece in pieces}


def empty_names(source: Source) -> list[str]:
    return [
        source.at(node, f"class {node.name} does not say what it is")
        for node in source.classes()
        if words(node.name) & EMPTY_WORDS
    ]


def attics(source: Source) -> list[str]:
    rooms = {part.removesuffix(".py") for part in source.parts}
    return [f"{source.path}: {room} holds anything, so it says nothing" for room in rooms & ATTICS]


def pickles(source: Source) -> list[str]:
    found = [
        source.at(node, f"imports {module}") for node, module, _ in source.imports() if module.split(".")[0] in PICKLES
    ]
    for call, name in source.calls():
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        allow = given.get("allow_pickle", ast.Constant(False))
        if name in LOADERS or not (isinstance(allow, ast.Constant) and allow.value is False):
            found.append(source.at(call, f"{name} can run what it reads"))
    return found


def catch_all(source: Source) -> list[str]:
    return [
        source.at(function, f"{function.name} takes **{rest.arg}: name the arguments")
        for function in source.functions()
        if (rest := function.args.kwarg)
        and (rest.arg in CATCH_ALL or rest.annotation is None or function.name == "__init__")
    ]


def debts(source: Source) -> list[str]:
    lines = enumerate(source.text.splitlines(), start=1)
    return [
        f"{source.path}:{number}: {line.strip()}" for number, line in lines if re.search(r"\b(TODO|FIXME|XXX)\b", line)
    ]


def configured(source: Source) -> list[str]:
    if source.layer in ABOVE_RECIPES:
        return []
    names = [(node, name) for node in source.classes() for name in given_to(node)]
    found = [source.at(node, f"{node.name} is given {name}") for node, name in names if words(name) & CONFIGURATION]
    return found + [source.at(node, "knows pydantic") for node, module, _ in source.imports() if module == "pydantic"]


def given_to(node: ast.ClassDef) -> list[str]:
    """Parameters of the constructor, and the fields of a data class."""
    fields = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
    constructors = [n.args for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    return fields + [a.arg for args in constructors for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)]


def process_words(source: Source) -> list[str]:
    if not source.is_method:
        return []
    found = []
    for node, module, name in source.imports():
        if module.endswith("collectives") and name not in COLLECTIVES:
            found.append(source.at(node, f"imports {name or module}"))
    for node in ast.walk(source.tree):
        name = identifier(node)
        if words(name) & PROCESS_WORDS or name in ("all_gather", "all_reduce", "open"):
            found.append(source.at(node, f"says {name}"))
    return found


def identifier(node: ast.AST) -> str:
    """The name that a node brings up: of a variable, attribute, parameter, keyword or import."""
    for field in ("id", "attr", "arg", "name"):
        if isinstance(name := getattr(node, field, None), str):
            return name
    return ""


def unkeyed(source: Source) -> list[str]:
    initial = set(initial_values(source))
    found = [source.at(node, "imports random") for node, module, _ in source.imports() if module == "random"]
    return found + [
        source.at(call, f"{name} draws from a global generator")
        for call, name in source.calls()
        if call not in initial and draws(call, name, source)
    ]


def draws(call: ast.Call, name: str, source: Source) -> bool:
    """Whether the call reads, or sets, a random generator that is shared by the whole process."""
    head, _, last = name.rpartition(".")
    keyed = any(keyword.arg == "generator" for keyword in call.keywords)
    if head == "torch":
        # a backbone's own dropout has no other generator: training sets it anew in each step, as a function of the step
        seeds = name in SEEDERS and source.layer != "training"
        return seeds or last in DRAWS_LIKE or (last in DRAWS and not keyed)
    if head.startswith("numpy.random"):
        return last not in SEEDED or not (call.args or call.keywords)
    if head == "torch.nn.init":
        return False  # initial values
    in_place = isinstance(call.func, ast.Attribute) and call.func.attr in DRAWS_IN_PLACE
    return name in SEEDERS or (in_place and not keyed)


def initial_values(source: Source) -> list[ast.Call]:
    """The calls inside nn.Parameter(...) in constructors: weights start from torch's own generator."""
    constructors = [function for function in source.functions() if function.name == "__init__"]
    inside = [node for function in constructors for node in ast.walk(function)]
    parameters = [n for n in inside if isinstance(n, ast.Call) and source.dotted(n.func) == "torch.nn.Parameter"]
    return [inner for parameter in parameters for inner in ast.walk(parameter) if isinstance(inner, ast.Call)]


def magic(source: Source) -> list[str]:
    found = [source.at(call, f"calls {name}") for call, name in source.calls() if name in ("eval", "exec")]
    return found + [
        source.at(n, "postpones annotations") for n, module, _ in source.imports() if module == "__future__"
    ]
