"""The lattice in Triton: in its interpreter, compiled for a GPU without one, and on a GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix.envs.steppers.lattice import Actuator, Disc, Domain
from separatrix.envs.steppers.lattice_program import LatticeProgram, compile_lattice
from separatrix.envs.steppers.lattice_torch import LatticeTorchStepper

triton = pytest.importorskip("triton")
FOLDER = Path(__file__).parent
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_in_the_interpreter() -> None:
    """Which must be chosen before Triton is imported."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    finished = subprocess.run(
        [*command, str(FOLDER / "lattice_triton_interpreter.py")],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=FOLDER.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    summary = re.search(r"(\d+) passed", finished.stdout)
    assert summary and int(summary[1]) > 20, finished.stdout


def channel(inflow: str = "parabola", sides: str = "no_slip") -> LatticeProgram:
    """A body that turns and has jets."""
    jets = tuple(Actuator(0, 1, "jet", s * 90.0, 30, float(s)) for s in (1, -1))
    domain = Domain(10, 4.1, inflow, sides, (Disc(2, 2),))
    return compile_lattice(domain, (Actuator(0, 0), *jets), 10, 0.05)


def compiled(name: str, dtype: str) -> Any:
    """A kernel, compiled for compute capability 9.0 as when it is launched."""
    from separatrix.envs.steppers import lattice_triton_kernel as kernels
    from separatrix.envs.steppers.lattice_triton import LatticeTritonStepper

    stepper = LatticeTritonStepper(channel(), 0.7, 2, CPU, getattr(torch, dtype))
    kernel = getattr(kernels, name)
    sizes = {"tiles": stepper._tiles, "width": stepper._width, "size": stepper._size}
    constants = stepper._constants if name == "fill" else sizes
    numbers = {"float32": "*fp32", "float64": "*fp64"}[dtype]
    other = {"own": "i32"} | dict.fromkeys(("bounds", "walls", "copies"), "*i32")
    signature = {
        key: "constexpr" if key in constants else other.get(key, numbers)
        for key in kernel.arg_names
    }
    # One binary serves all batches only if nothing is specialised.
    assert all(
        p.do_not_specialize if p.name == "own" else p.do_not_specialize_on_alignment
        for p in kernel.params
        if not p.is_constexpr
    )
    source = triton.compiler.ASTSource(kernel, signature=signature, constexprs=constants)
    target = triton.backends.compiler.GPUTarget("cuda", 90, 32)
    return triton.compile(source, target=target, options=kernels.OPTIONS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["fill", "collide"])
def test_compiles_for_a_gpu(name: str, dtype: str) -> None:
    found = compiled(name, dtype)
    ptx, intermediate = found.asm["ptx"], found.asm["ttgir"]
    assert ".target sm_90" in ptx
    assert re.search(r"\b(atom|red)\.", ptx) is None  # sums have one order
    # Nothing is approximated by the hardware, and float64 is not by way of float32.
    assert re.findall(r"\b(?:div|sqrt|rsqrt|rcp|ex2)\.(?:approx|full)\S*", ptx) == []
    operations = re.findall(r"\b(?:add|sub|mul|fma|div)\S*\.f(\d\d)\b", ptx)
    assert set(operations) == {dtype.removeprefix("float")}
    # Numbers of all environments together may pass 2**31.
    assert re.search(r"arith.muli .* : i64", intermediate)
    if name == "collide":
        loads = re.findall(r"tt.load .*: (\S+)", intermediate)
        assert len([kind for kind in loads if kind.startswith("tensor")]) == 9
        assert len(loads) == 10  # and the rate
        assert intermediate.count("tt.store") == 9
        assert found.metadata.shared == 0
        assert "bar.sync" not in ptx


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def on_gpu(batch: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Populations, controls, targets and rates, no two environments alike."""
    generator = torch.Generator().manual_seed(5)
    program = channel()
    inside = 0.01 * torch.randn(batch, 9, program.rows, program.columns, generator=generator)
    controls = torch.randn(2, batch, program.controls, generator=generator)
    rate = torch.linspace(1.6, 1.8, batch)
    tensors = (torch.nn.functional.pad(inside, (1, 1, 1, 1)), *controls, rate)
    populations, control, target, rate = (tensor.to(CUDA, dtype) for tensor in tensors)
    return populations, control, target, rate


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("sides", ["no_slip", "open"])
def test_gpu_agrees_with_torch(sides: str, dtype: torch.dtype) -> None:
    """To the roundings of all steps: noise decays, so errors do not grow."""
    from separatrix.envs.steppers.lattice_triton import LatticeTritonStepper

    inputs = on_gpu(3, dtype)
    found, expected = (
        stepper(channel(sides=sides), 0.7, 51, CUDA, dtype)(*inputs)
        for stepper in (LatticeTritonStepper, LatticeTorchStepper)
    )
    for one, other in zip(found, expected, strict=True):
        size = max(1.0, float(other.abs().max()))
        torch.testing.assert_close(one, other, rtol=0, atol=51 * torch.finfo(dtype).eps * size)


@pytest.mark.gpu
@needs_gpu
def test_gpu_is_bitwise_invariant() -> None:
    from separatrix.envs.steppers.lattice_triton import LatticeTritonStepper

    inputs = on_gpu(65, torch.float32)
    stepper = LatticeTritonStepper(channel(), 0.7, 20, CUDA, torch.float32)
    everybody = stepper(*inputs)
    for size in (1, 2, 64):
        for part, whole in zip(stepper(*(x[:size] for x in inputs)), everybody, strict=True):
            assert torch.equal(part, whole[:size])


@pytest.mark.gpu
@needs_gpu
def test_gpu_step_in_a_cuda_graph() -> None:
    from separatrix.envs.steppers.lattice_triton import LatticeTritonStepper

    inputs = on_gpu(4, torch.float32)
    stepper = LatticeTritonStepper(channel(), 0.7, 20, CUDA, torch.float32)
    expected = stepper(*inputs)  # has compiled the kernels
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = stepper(*inputs)
    graph.replay()
    assert all(map(torch.equal, found, expected))
