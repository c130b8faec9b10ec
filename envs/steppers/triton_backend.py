"""The fused GPU stepper: a generated Triton kernel that runs a whole control step of a batch.

In Triton's interpreter (`TRITON_INTERPRET=1`) the same kernel runs on the CPU, slowly, for tests.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor

from separatrix.envs.steppers.fused import FusedStepper
from separatrix.envs.steppers.integrators import Tableau
from separatrix.envs.steppers.kernel_cache import load_kernel
from separatrix.envs.steppers.symbolic import Program
from separatrix.envs.steppers.torch_backend import Interval, StepResult, TorchStepper
from separatrix.envs.steppers.triton_functions import INTERPRETED
from separatrix.envs.steppers.triton_source import BLOCK, WARPS, kernel_source

OPTIONS = {"num_warps": WARPS, "enable_fp_fusion": True, "maxnreg": 255}
"""Options of Triton's compiler. Without a limit, the largest of all, ptxas has been seen to give a
kernel that needs all registers only 32 of them."""


class TritonStepper(FusedStepper):
    """Advances a batch on a GPU by one kernel launch; gradients come from the torch reference.

    Args:
        program: What to compute.
        scheme: The Runge-Kutta scheme.
        interval: Constants of the control interval.
        dtype: torch.float32 or torch.float64.
        device: A CUDA device, or the CPU in Triton's interpreter.

    Raises:
        RuntimeError: `TRITON_INTERPRET` has been changed since kernels were first made.
    """

    def __init__(
        self,
        program: Program,
        scheme: Tableau,
        interval: Interval,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        if triton.knobs.runtime.interpret != INTERPRETED.value:
            raise RuntimeError(
                f"TRITON_INTERPRET: got {int(triton.knobs.runtime.interpret)} after kernels were "
                f"made with {int(INTERPRETED.value)}; allowed: one value while a process runs"
            )
        self.reference = TorchStepper(program, scheme, interval)
        name = str(dtype).removeprefix("torch.")
        self._kernel = load_kernel(kernel_source(program, scheme, interval, name)).step
        self._num_states, self._num_parameters = len(program.state), len(program.parameter)
        self._num_actions = len(program.action)
        self._num_observations = len(program.observation)
        self._num_scalars = 1 + len(program.metrics)
        self._substeps = interval.substeps
        self._empty = torch.empty(0, dtype=dtype, device=device)
        # Compile, or load from Triton's disk cache, here rather than in the first step.
        self.observe(
            self._empty.new_zeros((1, self._num_states)),
            self._empty.new_zeros((self._num_parameters, 1)),
        )

    def _observe(self, values: Tensor, parameters: Tensor) -> Tensor:
        action = values.new_zeros((values.shape[0], self._num_actions))
        return self._run(values, action, parameters, 0).observation

    def _step(self, values: Tensor, action: Tensor, parameters: Tensor) -> StepResult:
        return self._run(values, action, parameters, self._substeps)

    def _run(self, values: Tensor, action: Tensor, parameters: Tensor, substeps: int) -> StepResult:
        batch = values.shape[0]
        rows = 1 if parameters.shape[-1] == 1 else batch
        inputs = (
            self._checked("state", values, (batch, self._num_states)),
            self._checked("action", action, (batch, self._num_actions)),
            self._checked("parameters", parameters, (self._num_parameters, rows)),
        )
        next_values = values.new_empty((batch, self._num_states))
        observation = values.new_empty((batch, self._num_observations))
        scalars = values.new_empty((self._num_scalars, batch))
        flags = values.new_empty((2, batch), dtype=torch.bool)
        if batch:
            outputs = (next_values, observation, scalars, flags)
            # Triton launches on torch's current device. Its interpreter is numpy, which would warn
            # of the overflow of a state that diverges.
            quiet: Any = np.errstate(all="ignore") if INTERPRETED.value else nullcontext()
            with torch.cuda.device_of(values), quiet:
                self._kernel[triton.cdiv(batch, BLOCK),](
                    *inputs, *outputs, batch, rows, substeps, **OPTIONS
                )
        return StepResult(next_values, observation, scalars[0], scalars[1:], flags[0], flags[1])

    def _checked(self, name: str, tensor: Tensor, shape: tuple[int, int]) -> Tensor:
        """Returns a tensor as the contiguous one that the kernel, which checks nothing, takes."""
        wanted = self._empty
        found = (tensor.dtype, tensor.device, tuple(tensor.shape))
        if found != (wanted.dtype, wanted.device, shape):
            raise ValueError(
                f"{name}: got {tensor.dtype} on {tensor.device} of shape {tuple(tensor.shape)}; "
                f"allowed: {wanted.dtype} on {wanted.device} of shape {shape}"
            )
        return tensor.detach().contiguous()
