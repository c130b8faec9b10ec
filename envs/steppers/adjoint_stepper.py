"""The differentiable CPU stepper: its interval is integrated, forward and back, by a kernel."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from separatrix.envs.core.forks import keep_forks_alive
from separatrix.envs.steppers import kernel_functions, numba_backend, vector_math
from separatrix.envs.steppers.adjoint_source import adjoint_source
from separatrix.envs.steppers.kernel_cache import load_kernel
from separatrix.envs.steppers.torch_backend import TorchStepper


class AdjointStepper(TorchStepper):
    """A torch stepper whose integral and its gradients come from a kernel.

    Args:
        reference: The torch stepper of the program.
        dtype: Of all that is computed.
    """

    def __init__(self, reference: TorchStepper, dtype: np.dtype[Any]) -> None:
        scheme, interval = reference.scheme, reference.interval
        super().__init__(reference.program, scheme, interval)
        self._dtype, self._kernels = dtype, dict[bool, ModuleType]()
        step = 1.0 if scheme.replaces else interval.step
        stages = len(scheme.b)
        a = np.array([[*row, *[0.0] * (stages - len(row))] for row in scheme.a])
        self._constants = (
            (step * a).astype(dtype),
            (step * np.array(scheme.b)).astype(dtype),
            scheme.replaces,
            interval.substeps,
        )

    def integrate(
        self,
        x: Float[Tensor, "state batch"],
        u: Float[Tensor, "control batch"],
        p: Float[Tensor, "parameter rows"],
    ) -> Float[Tensor, "state batch"]:
        """Integrates states over the interval under held controls."""
        integral: Tensor = _Integral.apply(x, u, p, self)
        return integral

    def kernel(self, by_parameter: bool) -> ModuleType:
        """The kernel with or without gradients by parameters, compiled when it is first called."""
        if by_parameter not in self._kernels:
            source = adjoint_source(self.program, self._dtype.name, by_parameter)
            self._kernels[by_parameter] = load_kernel(source, (kernel_functions, vector_math))
        return self._kernels[by_parameter]

    def run(
        self, kernel: ModuleType, x: Tensor, u: Tensor, p: Tensor, gradient: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Runs the kernel.

        Args:
            kernel: It.
            x: States at the start.
            u: Controls.
            p: Parameters.
            gradient: By the states after the interval, if it is to go back.

        Returns:
            The states after the interval; or gradients by x, u, and p with a column for each
            environment.
        """
        inputs = *map(self._array, (x, u, p)), self._array(x if gradient is None else gradient)
        batch = x.shape[1]
        sizes = (len(x), 0, 0, 0) if gradient is None else (0, len(x), len(u), len(p))
        found = tuple(np.zeros((size, batch), self._dtype) for size in sizes)
        arguments = gradient is not None, *inputs, *self._constants, *found
        blocks = -(-batch // kernel.LANES)
        operations = kernel.FORWARD_OPERATIONS if gradient is None else kernel.BACKWARD_OPERATIONS
        work = batch * operations * self.interval.substeps * len(self.scheme.b)
        if work >= numba_backend.THREADED_FROM and (threads := numba.get_num_threads()) > 1:
            keep_forks_alive()
            kernel.threaded(threads, blocks, *arguments)
        else:
            kernel.blocks(0, blocks, *arguments)
        return tuple(map(torch.from_numpy, found))

    def _array(self, tensor: Tensor) -> np.ndarray:
        array: np.ndarray = tensor.detach().contiguous().numpy()
        if array.dtype != self._dtype:
            raise ValueError(f"inputs: got {array.dtype}; allowed: {self._dtype}")
        return array


class _Integral(torch.autograd.Function):
    """State at the end of an interval."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, u: Tensor, p: Tensor, stepper: AdjointStepper) -> Tensor:
        ctx.stepper, ctx.kernel = stepper, stepper.kernel(ctx.needs_input_grad[2])
        ctx.save_for_backward(x, u, p)
        return stepper.run(ctx.kernel, x, u, p)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, u, p = ctx.saved_tensors
        _, by_x, by_u, by_p = ctx.stepper.run(ctx.kernel, x, u, p, gradient)
        return by_x, by_u, by_p.sum(1, keepdim=True) if p.shape[1] == 1 else by_p, None
