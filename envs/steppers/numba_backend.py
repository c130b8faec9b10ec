"""The fused CPU stepper: a generated numba kernel that runs a whole control step of a batch."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from separatrix.envs.core.forks import keep_forks_alive
from separatrix.envs.steppers import kernel_functions, vector_math
from separatrix.envs.steppers.fused import FusedStepper
from separatrix.envs.steppers.integrators import Tableau
from separatrix.envs.steppers.kernel_cache import load_kernel
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


class NumbaStepper(FusedStepper):
    """Advances a batch on the CPU by one kernel call.

    Gradients come from other kernels, which are made when they are first needed.

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
        self._kernel = load_kernel(
            kernel_source(program, scheme, self._dtype.name), (kernel_functions, vector_math)
        )
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

    @cached_property
    def differentiable(self) -> TorchStepper:
        """The reference, with the integral and its derivatives from a kernel."""
        from separatrix.envs.steppers.tangent_stepper import differentiable_stepper

        return differentiable_stepper(self.reference, self._dtype)

    def _observe(self, values: Tensor, parameters: Tensor) -> Tensor:
        action = values.new_zeros((values.shape[0], self._num_actions))
        endless = np.full_like(self._constants[0], np.inf) * np.array([[-1], [1]], self._dtype)
        still = (endless, 0.0, 0.0, 0)
        return self._run(values, action, parameters, still).observation

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
        next_values, observation, scalars, flags = self.run_arrays(*inputs, constants)
        outputs = (next_values, observation, scalars[0], scalars[1:], flags[0], flags[1])
        return StepResult(*map(torch.from_numpy, outputs))

    def run_arrays(
        self,
        values: np.ndarray,
        action: np.ndarray,
        parameters: np.ndarray,
        constants: tuple[Any, ...] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Runs the kernel on contiguous arrays of its dtype, which it does not check.

        Returns:
            The next values (batch, state) and observations (batch, observation); reward and
            metrics (1 + metric, batch); terminated and diverged (2, batch).
        """
        batch = values.shape[0]
        next_values = np.empty_like(values)
        observation = np.empty((batch, self._num_observations), self._dtype)
        scalars = np.empty((self._num_scalars, batch), self._dtype)
        flags = np.empty((2, batch), np.bool_)
        arguments = (values, action, parameters, *(constants or self._constants))
        outputs = (next_values, observation, scalars, flags)
        work = batch * self._operations
        if work >= THREADED_FROM and (threads := numba.get_num_threads()) > 1:
            keep_forks_alive()
            self._kernel.threaded(threads, *arguments, *outputs)
        else:
            self._kernel.serial(*arguments, *outputs)
        return outputs

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
