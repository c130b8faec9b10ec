"""The fused CPU stepper: a generated numba kernel that runs a whole control step of a batch.

Kernels are source files in a user cache directory, named by a hash of their content, so that
numba's own disk cache of compiled code works across processes. The directory is
`$SEPARATRIX_CACHE`, else `$XDG_CACHE_HOME/separatrix`, else `~/.cache/separatrix`; where that
cannot be written, a temporary one of this process.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from separatrix.envs.steppers import kernel_functions, vector_math
from separatrix.envs.steppers.integrators import Tableau
from separatrix.envs.steppers.numba_source import kernel_source
from separatrix.envs.steppers.printing import Block
from separatrix.envs.steppers.symbolic import Program
from separatrix.envs.steppers.torch_backend import Interval, StepResult, TorchStepper

THREADED_FROM = 500_000
"""Arithmetic operations in a call from which threads share the work, about 40 microseconds of it:
some 1300 Lorenz systems of ten RK4 steps, or 90 of Lorenz-96. Less work stays serial: threads
would not pay, and a process that has run no threaded kernel can be forked safely."""

NUMPY_DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}


@cache
def cache_directory() -> Path:
    """Returns the directory of generated kernels, creating it."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    chosen = Path(os.environ.get("SEPARATRIX_CACHE") or Path(base) / "separatrix")
    try:
        chosen.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=chosen):
            return chosen
    except OSError:
        return Path(tempfile.mkdtemp(prefix="separatrix-"))


@cache
def load_kernel(source: str) -> ModuleType:
    """Imports a kernel module from its source, by way of a file named by its content."""
    # numba does not see changes of functions that a cached kernel calls: they enter the name.
    called = "".join(
        Path(str(module.__file__)).read_text(encoding="utf-8")
        for module in (kernel_functions, vector_math)
    )
    name = "step_" + hashlib.sha256((source + called).encode()).hexdigest()[:24]
    path = cache_directory() / f"{name}.py"
    if not path.exists():
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8"
        ) as file:
            file.write(source)
        os.replace(file.name, path)
    spec = importlib.util.spec_from_file_location(f"separatrix_kernels.{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import the generated kernel {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class NumbaStepper:
    """Advances a batch on the CPU by one kernel call; gradients come from the torch reference.

    Args:
        program: What to compute.
        scheme: The Runge-Kutta scheme.
        interval: Constants of the control interval.
        dtype: torch.float32 or torch.float64.
    """

    def __init__(
        self, program: Program, scheme: Tableau, interval: Interval, dtype: torch.dtype
    ) -> None:
        self.reference = TorchStepper(program, scheme, interval)
        self._dtype = NUMPY_DTYPES[dtype]
        self._kernel = load_kernel(kernel_source(program, scheme, self._dtype.name))
        stages = interval.substeps * len(scheme.b)
        self._operations = stages * Block(program.vector_field).operations
        self._operations += Block((*program.law, *program.outputs)).operations
        self._num_states, self._num_parameters = len(program.state), len(program.parameter)
        self._num_actions = len(program.action)
        self._num_observations = len(program.observation)
        self._num_scalars = 1 + len(program.metrics)
        self._constants = (
            np.stack([interval.low, interval.high]).astype(self._dtype),
            interval.worst_reward,
            interval.step,
            interval.substeps,
        )
        # Compile, or load from the disk cache, here rather than in the first step.
        self.observe(
            torch.zeros(1, len(program.state), dtype=dtype),
            torch.zeros(len(program.parameter), 1, dtype=dtype),
        )

    def observe(
        self, values: Float[Tensor, "batch state"], parameters: Float[Tensor, "parameter rows"]
    ) -> Float[Tensor, "batch observation"]:
        """Observes states without advancing them, in the kernel's own arithmetic."""
        if torch.is_grad_enabled() and (values.requires_grad or parameters.requires_grad):
            reference = self.reference.observe
            found = _Differentiable.apply(self._observe, reference, values, parameters)
            return found[0]
        return self._observe(values, parameters)

    def _observe(self, values: Tensor, parameters: Tensor) -> Tensor:
        action = values.new_zeros((values.shape[0], self._num_actions))
        endless = np.full_like(self._constants[0], np.inf) * np.array([[-1], [1]], self._dtype)
        still = (endless, 0.0, 0.0, 0)
        return self._run(values, action, parameters, still).observation

    def __call__(
        self,
        values: Float[Tensor, "batch state"],
        action: Float[Tensor, "batch action"],
        parameters: Float[Tensor, "parameter rows"],
    ) -> StepResult:
        """Advances every environment by one control interval, as `TorchStepper` does."""
        if torch.is_grad_enabled() and (
            values.requires_grad or action.requires_grad or parameters.requires_grad
        ):
            inputs = (values, action, parameters)
            return StepResult(*_Differentiable.apply(self._step, self.reference, *inputs))
        return self._step(values, action, parameters)

    def _step(self, values: Tensor, action: Tensor, parameters: Tensor) -> StepResult:
        return self._run(values, action, parameters, self._constants)

    def _run(
        self, values: Tensor, action: Tensor, parameters: Tensor, constants: tuple[Any, ...]
    ) -> StepResult:
        batch = values.shape[0]
        rows = 1 if parameters.shape[-1] == 1 else batch
        inputs = (
            self._array("state", values, (batch, self._num_states)),
            self._array("action", action, (batch, self._num_actions)),
            self._array("parameters", parameters, (self._num_parameters, rows)),
        )
        next_values = np.empty((batch, self._num_states), self._dtype)
        observation = np.empty((batch, self._num_observations), self._dtype)
        scalars = np.empty((self._num_scalars, batch), self._dtype)
        flags = np.empty((2, batch), np.bool_)
        arguments = (*inputs, *constants, next_values, observation, scalars, flags)
        work = batch * self._operations
        if work >= THREADED_FROM and (threads := numba.get_num_threads()) > 1:
            self._kernel.threaded(threads, *arguments)
        else:
            self._kernel.serial(*arguments)
        outputs = (next_values, observation, scalars[0], scalars[1:], flags[0], flags[1])
        return StepResult(*map(torch.from_numpy, outputs))

    def _array(self, name: str, tensor: Tensor, shape: tuple[int, int]) -> np.ndarray:
        """Returns a tensor as the contiguous array that the kernel, which checks nothing, takes."""
        if tensor.requires_grad:
            tensor = tensor.detach()
        array: np.ndarray = (tensor if tensor.is_contiguous() else tensor.contiguous()).numpy()
        if array.shape != shape or array.dtype != self._dtype:
            raise ValueError(
                f"{name}: got {array.dtype} of shape {array.shape}; "
                f"allowed: {self._dtype} of shape {shape}"
            )
        return array


class _Differentiable(torch.autograd.Function):
    """The kernel forward, the reference backward: asking for a gradient changes no trajectory."""

    @staticmethod
    def forward(ctx: Any, fused: Any, reference: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.reference = reference
        ctx.save_for_backward(*inputs)
        # What nobody used gets None: a zero would be NaN after, say, the infinite slope of sqrt(0).
        ctx.set_materialize_grads(False)
        results = _tuple(fused(*inputs))
        ctx.mark_non_differentiable(*(r for r in results if not r.is_floating_point()))
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs = [
            tensor.detach().requires_grad_(needed)
            for tensor, needed in zip(ctx.saved_tensors, ctx.needs_input_grad[2:], strict=True)
        ]
        with torch.enable_grad():
            results = _tuple(ctx.reference(*inputs))
        pairs = [
            (result, gradient)
            for result, gradient in zip(results, gradients, strict=True)
            if gradient is not None and result.requires_grad
        ]
        found = iter(
            torch.autograd.grad(
                [result for result, _ in pairs],
                [tensor for tensor in inputs if tensor.requires_grad],
                [gradient for _, gradient in pairs],
                allow_unused=True,
            )
        )
        return (None, None, *(next(found) if tensor.requires_grad else None for tensor in inputs))


def _tuple(results: Tensor | StepResult) -> tuple[Tensor, ...]:
    return (results,) if isinstance(results, Tensor) else tuple(results)
