"""BatchNorm of bf16 maps by compiled kernels, against an fp64 loop over groups, and against torch's own layer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lookalike.functional import machine_code
from lookalike.functional.batch_norm import SMALL, Fused, compiled_kernels, fused

pytest.importorskip("numba")
LAST = torch.channels_last
SHAPES = [(64, 16, 8, 8), (16, 64, 9, 7), (32, 8, 5, 5), (8, 96, 11, 3), (24, 130, 6, 4), (8, 512, 4, 4)]


def maps(shape: tuple[int, ...], offset: float = 1.0, spread: float = 2.0) -> Tensor:
    x = torch.randn(shape, dtype=torch.float64) * spread + offset * torch.randn(1, shape[1], 1, 1, dtype=torch.float64)
    return x.bfloat16().contiguous(memory_format=LAST)


def parameters(channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """weight, bias, running mean, running variance"""
    return torch.rand(channels) + 0.5, torch.randn(channels), torch.randn(channels), torch.rand(channels) + 0.5


def slow(
    x: Tensor, dy: Tensor, weight: Tensor, bias: Tensor, low: float, blocks: int, onto: Tensor
) -> dict[str, Tensor]:
    """Results and gradients in fp64, block by block, by autograd."""
    x, weight, bias, onto = (t.detach().double().requires_grad_() for t in (x, weight, bias, onto))
    means, variances, ys = [], [], []
    for part, more in zip(x.split(len(x) // blocks), onto.split(len(x) // blocks), strict=True):
        rows = part.transpose(0, 1).flatten(1)
        mean, var = rows.mean(1), rows.var(1, unbiased=False)
        means.append(mean.detach())
        variances.append(rows.var(1).detach())
        normal = (part - mean[:, None, None]) / (var + 1e-5).sqrt()[:, None, None]
        ys.append((normal * weight[:, None, None] + bias[:, None, None] + more).clamp_min(low))
    y = torch.cat(ys)
    dx, dw, db, d_onto = torch.autograd.grad(y, (x, weight, bias, onto), dy.double())
    found = {"y": y.detach(), "dx": dx, "dw": dw, "db": db, "d_onto": d_onto}
    return found | {"mean": torch.stack(means).mean(0), "var": torch.stack(variances).mean(0)}


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("low", [-torch.inf, 0.0])
@pytest.mark.parametrize("blocks", [1, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_is_the_slow_loop(shape: tuple[int, ...], blocks: int, low: float, adds: bool) -> None:
    x, dy, onto = maps(shape).requires_grad_(), maps(shape), (maps(shape) * adds).requires_grad_()
    weight, bias, mean, var = parameters(shape[1])
    expected = slow(x, dy, weight, bias, low, blocks, onto)
    moved = {"mean": 0.75 * mean + 0.25 * expected.pop("mean"), "var": 0.75 * var + 0.25 * expected.pop("var")}
    weight.requires_grad_()
    bias.requires_grad_()
    y = Fused.apply(x, weight, bias, mean, var, 0.25, 1e-5, low, blocks, *([onto] if adds else []))
    names, inputs = (
        (("dx", "dw", "db", "d_onto"), (x, weight, bias, onto)) if adds else (("dx", "dw", "db"), (x, weight, bias))
    )
    found = dict(zip(names, torch.autograd.grad(y, inputs, dy), strict=True)) | {"y": y}
    if adds:
        near = (expected["y"] - low).abs() < 1e-4  # where rounding decides on which side of the bound a number lies
        assert torch.equal(found["d_onto"].double()[~near], expected["d_onto"][~near])
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=LAST)
    for name in ("y", "dx"):  # half a step of bf16, which has 8 bits, of what is added up
        torch.testing.assert_close(found[name].double(), expected[name], rtol=2**-8, atol=2e-4)
    for name in ("dw", "db"):
        scale = dy.double().abs().sum() / shape[1]
        torch.testing.assert_close(found[name].double(), expected[name], rtol=1e-5, atol=float(1e-5 * scale))
    torch.testing.assert_close(mean.double(), moved["mean"], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(var.double(), moved["var"], rtol=1e-6, atol=1e-6)


def test_a_mean_far_from_zero_costs_no_digits_of_the_variance() -> None:
    x = maps((64, 16, 16, 16), offset=0.0, spread=1.0) + 256  # of two steps of bf16 at 256, variance 1 remains
    weight, bias, mean, var = parameters(16)
    Fused.apply(x, weight, bias, mean, var, 1.0, 1e-5, -torch.inf, 1)
    rows = x.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(var.double(), rows.var(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(mean.double(), rows.mean(1), rtol=1e-6, atol=0)


def test_nan_is_not_hidden_by_the_bound() -> None:
    x = maps((64, 16, 8, 8))
    x[3, 5, 1, 1] = torch.nan
    y = Fused.apply(x, *parameters(16), 0.1, 1e-5, 0.0, 1)
    assert bool(y[:, 5].isnan().all())
    assert not bool(y[:, [0, 4, 6, 15]].isnan().any())


def test_the_bits_are_the_same_in_any_number_of_threads() -> None:
    x, dy, first = maps((64, 16, 32, 32)).requires_grad_(), maps((64, 16, 32, 32)), parameters(16)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        values = [value.clone() for value in first]
        weight, bias = (value.requires_grad_() for value in values[:2])
        y = Fused.apply(x, *values, 0.1, 1e-5, 0.0, 1)
        results.append([y, *values[2:], *torch.autograd.grad(y, (x, weight, bias), dy)])
    torch.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_gradient_in_another_layout_is_taken() -> None:
    x, dy = maps((64, 16, 8, 8)).requires_grad_(), maps((64, 16, 8, 8))
    results = [
        torch.autograd.grad(Fused.apply(x, *parameters_of_seed(), 0.1, 1e-5, 0.0, 1), x, slope)[0]
        for slope in (dy, dy.contiguous(), dy[:1].expand(64, -1, -1, -1))
    ]
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert bool(results[2].isfinite().all())


def parameters_of_seed() -> tuple[Tensor, ...]:
    torch.manual_seed(3)
    return parameters(16)


def test_what_does_not_fit_is_left_to_torch() -> None:
    x, values = maps((64, 16, 8, 8)), parameters(16)
    assert fused(x, *values)
    assert not fused(x.float(), *values)
    assert not fused(x.contiguous(), *values)
    assert not fused(x[:1], *values), f"{x[:1].numel()} numbers are fewer than {SMALL}"
    assert not fused(x, *(value.double() for value in values))
    assert not fused(x, None, *values[1:])
    assert not fused(x.to("meta"), *values)


WITHOUT = """
import sys
sys.modules["numba"] = None  # as if it were not installed
import torch
from lookalike.functional.batch_norm import fused
from lookalike.modules import backbone, with_batch_statistics
from lookalike.transforms import ops
x = torch.zeros(64, 16, 8, 8, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
assert not fused(x, torch.ones(16))
net = with_batch_statistics(backbone("resnet18_quarter"), "global").to(memory_format=torch.channels_last)
with torch.autocast("cpu", torch.bfloat16):
    net(torch.rand(16, 3, 32, 32)).sum().backward()
print(ops.color_jitter_(torch.full((1, 3, 2, 2), 8.0), torch.tensor([[0, 1, 2, 3]]), torch.tensor([[2.0, 1, 1, 0]])))
"""


def test_without_numba_all_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "16." in done.stdout


FORKED = """
import os, torch
from lookalike.functional import machine_code
from lookalike.functional.batch_norm import Fused, fused
from lookalike.transforms import ops
torch.set_num_threads(2)
x = torch.randn(64, 16, 16, 16).bfloat16().contiguous(memory_format=torch.channels_last)
v = torch.ones(16), torch.zeros(16), torch.zeros(16), torch.ones(16)
Fused.apply(x, *v, 0.1, 1e-5, 0.0, 1)
images, order, amounts = torch.rand(32, 3, 32, 32) * 255, torch.rand(32, 4).argsort(1), torch.rand(32, 4)
here = ops.color_jitter_(images.clone(), order, amounts)
child = os.fork()
if child == 0:
    torch.set_num_threads(1)  # as in every worker that loads data: torch's own threads do not survive a fork either
    same = not fused(x, *v) and machine_code.forked()
    same = same and torch.equal(here, ops.color_jitter_(images.clone(), order, amounts))
    os._exit(0 if same else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="processes are not forked here")
def test_a_forked_process_asks_for_no_threads() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("0", 0), done.stderr


def test_kernels_are_there_where_numba_is() -> None:
    assert (machine_code.kernels(compiled_kernels) is not None) == sys.platform.startswith("linux")


@pytest.mark.parametrize("blocks", [2, 8])
def test_a_block_has_the_same_bits_wherever_it_is(blocks: int) -> None:
    """So split statistics do not depend on how many processes have the blocks."""
    x, dy = maps((64, 16, 8, 8)), maps((64, 16, 8, 8))
    results = []
    for parts in (1, blocks):
        rows = x.chunk(parts), dy.chunk(parts)
        found = [
            halves(part.contiguous(memory_format=LAST), slope, blocks // parts)
            for part, slope in zip(*rows, strict=True)
        ]
        results.append([torch.cat(each) for each in zip(*found, strict=True)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def halves(x: Tensor, dy: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    y = Fused.apply(x, *parameters_of_seed(), 0.1, 1e-5, 0.0, blocks)
    return y.detach(), torch.autograd.grad(y, x, dy)[0]


THREADS = """
import torch
from lookalike.functional.batch_norm import Fused, fused
from lookalike.transforms import ops
torch.set_num_threads(1)
x = torch.randn(64, 16, 16, 16).bfloat16().contiguous(memory_format=torch.channels_last)
v = torch.ones(16), torch.zeros(16), torch.zeros(16), torch.ones(16)
assert fused(x, *v)
Fused.apply(x, *v, 0.1, 1e-5, 0.0, 1)
ops.color_jitter_(torch.rand(32, 3, 32, 32) * 255, torch.rand(32, 4).argsort(1), torch.rand(32, 4))
assert torch.get_num_threads() == 1, torch.get_num_threads()
"""


def test_torch_keeps_its_number_of_threads() -> None:
    """numba tells OpenMP how many there are when it starts, and torch's convolutions would round by that number."""
    environment = os.environ | {"NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


BROKEN = """
import torch
from lookalike.functional.batch_norm import compiled_kernels
from lookalike.functional.machine_code import call, kernels, missing
assert kernels(compiled_kernels) is None
print(missing(compiled_kernels))
try:
    call(compiled_kernels, "forward")
except RuntimeError as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kernels are for Linux")
@pytest.mark.parametrize("error", ["ImportError", "SystemError", "AttributeError"])
def test_a_numba_that_does_not_work_is_none(tmp_path: Path, error: str) -> None:
    (tmp_path / "numba.py").write_text(f"raise {error}('needs another numpy')")
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", BROKEN], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == f"{error}: needs another numpy"
    assert f"needs numba and Linux ({first})" in second


def test_an_openmp_that_cannot_start_is_none() -> None:
    environment = os.environ | {"NUMBA_THREADING_LAYER": "tbb"}
    done = subprocess.run([sys.executable, "-c", BROKEN], env=environment, capture_output=True, text=True, check=False)
    if done.returncode and "AssertionError" in done.stderr:
        pytest.skip("TBB is installed here")
    assert "No threading layer could be loaded" in done.stdout


COMPILED = """
import torch
from lookalike.modules import backbone, with_batch_statistics
net = with_batch_statistics(backbone("resnet18_quarter", stem="small"), "global").to(memory_format=torch.channels_last)
x = torch.rand(16, 3, 32, 32).contiguous(memory_format=torch.channels_last)
with torch.autocast("cpu", torch.bfloat16):
    print(torch.compile(net, backend="eager", fullgraph=True)(x).shape)
"""


def test_compiled_networks_have_no_break_at_a_norm() -> None:
    """In a process of its own, without the checks of shapes that tests put around every function."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "torch.Size([16, 128])", done.stderr
