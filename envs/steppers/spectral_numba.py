"""The fused CPU stepper of periodic PDEs: generated kernels that run a whole control interval."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from separatrix.envs.core.forks import keep_forks_alive
from separatrix.envs.steppers import field_fft, simd, vector_fft
from separatrix.envs.steppers.kernel_cache import load_kernel
from separatrix.envs.steppers.numba_backend import NUMPY_DTYPES, THREADED_FROM
from separatrix.envs.steppers.spectral_adjoint import Adjoint
from separatrix.envs.steppers.spectral_program import SpectralProgram
from separatrix.envs.steppers.spectral_source import Kernel


class SpectralNumbaStepper:
    """Advances a batch of fields on the CPU by one kernel call.

    Gradients by fields and controls come from a second kernel, which is made when it is first
    needed; until then a rollout remembers the field and the control of each interval.

    Args:
        program: What to compute.
        dtype: torch.float32 or torch.float64.

    Raises:
        ValueError: The program has three dimensions or more.
    """

    def __init__(self, program: SpectralProgram, dtype: torch.dtype) -> None:
        self.program = program
        self._dtype = NUMPY_DTYPES[dtype]
        self._interval = _Compiled(Kernel(program, self._dtype.name))
        # Compile, or load from the disk cache, here rather than in the first step.
        self._interval.prepare()

    @cached_property
    def _gradient(self) -> _Compiled:
        return _Compiled(Adjoint(self.program, self._dtype.name))

    def __call__(
        self, field: Float[Tensor, "batch field ..."], control: Float[Tensor, "batch control"]
    ) -> Float[Tensor, "batch field ..."]:
        """Advances fields by one control interval under held controls."""
        if torch.is_grad_enabled() and (field.requires_grad or control.requires_grad):
            advanced: Tensor = _Interval.apply(field, control, self)
            return advanced
        return self._advance(field, control)

    def _advance(self, field: Tensor, control: Tensor) -> Tensor:
        fields, controls = self._arrays(field, control)
        result = np.empty_like(fields)
        self._interval((fields, controls), (), (result,))
        return torch.from_numpy(result)

    def vector_jacobian(
        self,
        field: Float[Tensor, "batch field ..."],
        control: Float[Tensor, "batch control"],
        gradient: Float[Tensor, "batch field ..."],
    ) -> tuple[Float[Tensor, "batch field ..."], Float[Tensor, "batch control"]]:
        """Returns the gradients by field and control of an interval.

        Args:
            field: Fields at its start.
            control: Controls.
            gradient: By the fields at its end.
        """
        inputs = (*self._arrays(field, control), self._array("gradient", gradient, field.shape))
        found = np.empty_like(inputs[0]), np.empty_like(inputs[1])
        self._gradient(inputs, (self._weighted,), found)
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])

    @cached_property
    def _weighted(self) -> np.ndarray:
        """Actuators as the adjoint kernel takes them: see `spectral_adjoint`."""
        grid = self.program.grid
        weights = torch.full(grid.modes, 2.0 * math.prod(grid.shape), dtype=torch.float64)
        weights[..., 0] /= 2
        actuators = (self.program.actuators * weights).flatten(0, 1)
        return self._gradient.layout.spectrum_table(actuators).ravel()

    def _arrays(self, field: Tensor, control: Tensor) -> tuple[np.ndarray, np.ndarray]:
        program, batch = self.program, len(field)
        rows = len(program.forcing)
        if rows not in (1, batch):
            raise ValueError(f"field: got a batch of {batch}; allowed: {rows}, as of parameters")
        return (
            self._array("field", field, (batch, program.fields, *program.grid.shape)),
            self._array("control", control, (batch, len(program.actuators))),
        )

    def _array(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> np.ndarray:
        """Returns a tensor as the contiguous array that the kernel, which checks nothing, takes."""
        array: np.ndarray = tensor.detach().contiguous().numpy()
        if array.shape != tuple(shape) or array.dtype != self._dtype:
            raise ValueError(
                f"{name}: got {array.dtype} of shape {array.shape}; "
                f"allowed: {self._dtype} of shape {tuple(shape)}"
            )
        return array


class _Compiled:
    """A kernel with its tables.

    Args:
        kernel: What to compile.
    """

    def __init__(self, kernel: Kernel) -> None:
        program, self.layout = kernel.program, kernel.layout
        source = kernel.source()  # and so the layout is complete
        self._module = load_kernel(source, (field_fft, simd, vector_fft))
        roots, half, whole = field_fft.plans(program.grid.points)
        actuators = self.layout.spectrum_table(program.actuators.flatten(0, 1))
        self._tables = self.layout.table().ravel(), actuators.ravel()
        self._plans = roots.astype(self.layout.dtype), half, whole, program.substeps
        # An estimate, mostly of the transforms.
        points = math.prod(program.grid.shape)
        transforms = program.substeps * len(program.stages) * (1 + len(kernel.inputs))
        self._operations = int(transforms * 5 * points * math.log2(points))
        self._program = program

    def prepare(self) -> None:
        """Compiles the kernel by running it on an empty batch."""
        program = self._program
        field = np.empty((0, program.fields, *program.grid.shape), self.layout.dtype)
        control = np.empty((0, len(program.actuators)), self.layout.dtype)
        self((field, control), (), (field,))

    def __call__(
        self,
        inputs: tuple[np.ndarray, ...],
        tables: tuple[np.ndarray, ...],
        outputs: tuple[np.ndarray, ...],
    ) -> None:
        """Runs the kernel on contiguous arrays of its dtype, which it does not check."""
        batch = len(inputs[0])
        arguments: tuple[Any, ...] = (*inputs, *self._tables, *tables, *self._plans, *outputs)
        last = -(-batch // self.layout.together)
        # Asking for the number of threads starts them, which a forked process does not survive.
        if last > 1 and batch * self._operations >= THREADED_FROM:
            keep_forks_alive()
            self._module.threaded(min(last, numba.get_num_threads()), last, *arguments)
        else:
            self._module.blocks(0, last, *arguments)


class _Interval(torch.autograd.Function):
    """A control interval, run anew for its gradients."""

    @staticmethod
    def forward(ctx: Any, field: Tensor, control: Tensor, stepper: SpectralNumbaStepper) -> Tensor:
        ctx.stepper = stepper
        ctx.save_for_backward(field, control)
        return stepper._advance(field, control)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (*ctx.stepper.vector_jacobian(*ctx.saved_tensors, gradient), None)
