"""Triton kernels: in Triton's interpreter, compiled for a GPU without one, and on a GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import separatrix  # noqa: F401  (registers the environments)
from separatrix.envs.core.registration import REGISTRY, make_environment
from separatrix.envs.steppers import ode_system
from separatrix.envs.steppers.integrators import tableau
from separatrix.envs.steppers.kernel_cache import load_kernel
from separatrix.envs.steppers.ode_system import choose_backend

triton = pytest.importorskip("triton")
IDS = [
    name
    for name, entry in REGISTRY.items()
    if isinstance(entry.options.get("task"), str) and "points" not in entry.options
]
QUICK = ("separatrix/Lorenz-v0", "separatrix/CartPoleSwingUp-v0")
FOLDER = Path(__file__).parent
CPU, CUDA = torch.device("cpu"), torch.device("cuda")

# Every system in both dtypes, every operation, gradients; all of `triton_interpreter.py`.
FAST = (
    "kernel_equals and not Lorenz96 and (shared and float32 or own and float64) or kernel_refuses "
    "or in_kernel or extremes or both_backends "
    "or triton and not central and not policy"
)


def interpret(*arguments: str) -> None:
    """Runs tests in Triton's interpreter, which must be chosen before Triton is imported."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    files = (
        "test_backends.py",
        "test_maps.py",
        "test_operations.py",
        "test_gradients.py",
        "test_jump.py",
        "triton_interpreter.py",
        "../twin/test_glucose_kernels.py",
    )
    finished = subprocess.run(
        [*command, *(str(FOLDER / name) for name in files)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=FOLDER.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    summary = re.search(r"(\d+) passed", finished.stdout)
    assert summary and int(summary[1]) > 2 * len(IDS), finished.stdout


def test_in_the_interpreter() -> None:
    interpret("-m", "not slow and not gpu", "-k", FAST)


@pytest.mark.slow
def test_all_in_the_interpreter() -> None:
    """All systems with all schemes, dtypes and kinds of parameters."""
    interpret("-m", "not gpu", "-k", "kernel or asking or (triton and not central)")


def compiled(name: str, dtype: str) -> Any:
    """The kernel of an environment, compiled for compute capability 9.0 as when it is launched."""
    from separatrix.envs.steppers.triton_backend import OPTIONS
    from separatrix.envs.steppers.triton_source import kernel_source

    environment: Any = make_environment(name, backend="torch", dtype=dtype)
    scheme = tableau(environment.system.integrator)
    interval = environment._stepper.interval
    kernel = load_kernel(kernel_source(environment._program, scheme, interval, dtype)).step
    numbers = {"float32": "*fp32", "float64": "*fp64"}[dtype]
    sizes = {name: "i32" for name in ("count", "rows", "substeps")}
    signature = {name: numbers for name in kernel.arg_names} | {"flags": "*i1"} | sizes
    # One binary serves all batches only if nothing is specialised.
    assert all(p.do_not_specialize for p in kernel.params if p.name in sizes)
    assert all(p.do_not_specialize_on_alignment for p in kernel.params if p.name not in sizes)
    source = triton.compiler.ASTSource(kernel, signature=signature)
    target = triton.backends.compiler.GPUTarget("cuda", 90, 32)
    return triton.compile(source, target=target, options=OPTIONS)


def resources(binary: bytes, folder: Path) -> dict[str, int]:
    """Registers of a thread and bytes of its stack, where spilled registers go."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip("this build of Triton brings no cuobjdump")
    path = folder / "kernel.cubin"
    path.write_bytes(binary)
    command = [str(tool), "-res-usage", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {key: int(value) for key, value in re.findall(r"(REG|STACK):(\d+)", text)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in IDS]
)
def test_compiles_for_a_gpu(name: str, dtype: str) -> None:
    found = compiled(name, dtype)
    program = make_environment(name, backend="torch")._program  # type: ignore[attr-defined]
    ptx, intermediate = found.asm["ptx"], found.asm["ttgir"]
    assert ".target sm_90" in ptx
    # Every number is read at most once and written once, by the thread that needs it.
    inputs = len(program.state) + len(program.action) + len(program.parameter)
    outputs = len(program.state) + len(program.observation) + len(program.metrics) + 3
    assert len(program.state) < intermediate.count("tt.load") <= inputs
    assert intermediate.count("tt.store") == outputs
    assert found.metadata.shared == 0
    assert "bar.sync" not in ptx
    # Nothing is approximated by the hardware, and float64 is not by way of float32. The other way
    # round, libdevice's sine multiplies once in float64 to reduce a huge argument.
    fast = r"\b(sin|cos|tanh|ex2|lg2|div|sqrt|rsqrt)\.(approx|full)\S*"
    assert [match[0] for match in re.finditer(fast, ptx)] == []
    operations = r"\b(add|sub|fma|div|sqrt)\S*\.f(\d\d)\b"
    assert {match[2] for match in re.finditer(operations, ptx)} == {dtype.removeprefix("float")}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lorenz_lives_in_registers(dtype: str, tmp_path: Path) -> None:
    found = resources(compiled("Lorenz-v0", dtype).asm["cubin"], tmp_path)
    assert found["STACK"] == 0
    assert 0 < found["REG"] <= 128  # of 65536: half of the warps that a multiprocessor can hold


def test_choice_of_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_backend("auto", CUDA) == "triton"
    assert choose_backend("auto", CPU) == "numba"
    assert choose_backend("triton", CUDA) == "triton"
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match=r"got 'cpu'; allowed on 'cpu' only .*TRITON_INTERPRET=1"):
        make_environment("Lorenz-v0", backend="triton")
    with pytest.raises(ValueError, match="runs on device 'cuda', got 'meta'"):
        choose_backend("triton", torch.device("meta"))


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ode_system, "find_spec", lambda name: None)
    assert choose_backend("auto", CUDA) == "torch"
    with pytest.raises(ImportError, match="needs the package triton: pip install triton"):
        choose_backend("triton", CUDA)


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def on_gpu(name: str, count: int, backend: str, dtype: str) -> tuple[Any, Any, torch.Tensor]:
    """An environment, its first states, and actions of which some must be clipped."""
    environment: Any = make_environment(name, count, device="cuda", backend=backend, dtype=dtype)
    state, _ = environment.reset(0)
    shape = (count, *environment.action_shape)
    actions = np.random.default_rng(1).uniform(-1.5, 1.5, shape)
    return environment, state, torch.from_numpy(actions).to(state.values)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", IDS)
def test_gpu_agrees_with_torch(name: str, dtype: torch.dtype) -> None:
    """To a rounding of every sub-step, in units of what the components reach.

    The two round in other places (fused multiply-adds), so each of the four slopes of a sub-step
    may be some ulp off, and the errors add up over the sub-steps.
    """
    kernel, state, action = on_gpu(name, 1000, "triton", str(dtype)[6:])
    reference, *_ = on_gpu(name, 1000, "torch", str(dtype)[6:])
    found, expected = (environment.step(state, action) for environment in (kernel, reference))
    size = torch.maximum(state.values.abs(), expected.state.values.abs()).amax()
    bound = 16 * reference.system.interval.substeps * torch.finfo(dtype).eps * size
    assert (found.state.values - expected.state.values).abs().amax() <= bound
    assert torch.equal(found.terminated, expected.terminated)
    assert torch.equal(found.info["diverged"], expected.info["diverged"])


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("name", QUICK)
def test_gpu_is_bitwise_invariant(name: str) -> None:
    environment, state, action = on_gpu(name, 5000, "triton", "float32")
    everybody = environment._stepper(state.values, action, environment._parameters)
    for size in (1, 2, 63, 64, 65, 4096):
        some = environment._stepper(state.values[:size], action[:size], environment._parameters)
        own = environment._parameters.expand(-1, size).contiguous()
        same = environment._stepper(state.values[:size], action[:size], own)
        for whole, part, other in zip(everybody, some, same, strict=True):
            cut = whole[:, :size] if whole.ndim == 2 and whole.shape[1] == 5000 else whole[:size]
            assert torch.equal(part, cut) and torch.equal(other, cut)


@pytest.mark.gpu
@needs_gpu
def test_gpu_step_in_a_cuda_graph() -> None:
    environment, state, action = on_gpu(QUICK[0], 4096, "triton", "float32")
    stepper, parameters = environment._stepper, environment._parameters
    values = state.values.clone()
    expected = stepper(values, action, parameters)  # has compiled the kernel
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = stepper(values, action, parameters)
    graph.replay()
    assert torch.equal(result.next_values, expected.next_values)
    values.copy_(expected.next_values)
    graph.replay()
    again = stepper(expected.next_values, action, parameters)
    assert torch.equal(result.next_values, again.next_values)
