"""What gradients come from on the CPU: kernels that go forward or back through an interval."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from separatrix.envs.steppers.adjoint_stepper import AdjointStepper
from separatrix.envs.steppers.numba_backend import NUMPY_DTYPES, NumbaStepper
from separatrix.envs.steppers.tangent_program import tangent_program
from separatrix.envs.steppers.torch_backend import TorchStepper

MOST_TANGENTS = 100
"""Derivatives in the state of a kernel, at most: ten by ten compile in seconds, the 3200 of
Lorenz-96 never would."""


class TangentStepper(AdjointStepper):
    """A differentiable stepper that integrates derivatives by state and control beside the state.

    Of few states it takes less time than to integrate twice and go back once, above all where f
    has sines: for 4096 double pendulums 1.5 ms in kernels instead of 3.7, and 14 ms instead of 21
    for a step and its gradient. Gradients by parameters come back through the interval.

    Args:
        reference: The torch stepper of the program.
        dtype: Of all that is computed.
    """

    def __init__(self, reference: TorchStepper, dtype: np.dtype[Any]) -> None:
        super().__init__(reference, dtype)
        varied = tangent_program(self.program)
        endless = np.full(len(varied.state), np.inf)
        interval = replace(self.interval, low=-endless, high=endless)
        dtypes = {numpy: torch for torch, numpy in NUMPY_DTYPES.items()}
        self._kernel = NumbaStepper(varied, self.scheme, interval, dtypes[dtype])

    def integrate(
        self,
        x: Float[Tensor, "state batch"],
        u: Float[Tensor, "control batch"],
        p: Float[Tensor, "parameter rows"],
    ) -> Float[Tensor, "state batch"]:
        """Integrates states over the interval under held controls."""
        if p.requires_grad:
            return super().integrate(x, u, p)
        integral: Tensor = _Integral.apply(x, u, p, self._kernel)
        return integral


def differentiable_stepper(reference: TorchStepper, dtype: np.dtype[Any]) -> AdjointStepper:
    """Returns what gradients of a program are taken from."""
    program = reference.program
    tangents = len(program.state) * (len(program.state) + len(program.control))
    if program.jump or tangents > MOST_TANGENTS:
        return AdjointStepper(reference, dtype)
    return TangentStepper(reference, dtype)


class _Integral(torch.autograd.Function):
    """State at the end of an interval, with the derivatives that were integrated beside it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, u: Tensor, p: Tensor, kernel: NumbaStepper) -> Tensor:
        n, batch = x.shape
        identity = torch.eye(n, n + len(u), dtype=x.dtype).flatten().expand(batch, -1)
        result = kernel(torch.cat((x.T, identity), 1), u.T, p).next_values
        ctx.save_for_backward(result[:, n:].view(batch, n, -1))
        return result[:, :n].T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (tangents,) = ctx.saved_tensors
        n = len(gradient)
        # A product and a sum: the rounding of a matrix product depends on batch and alignment.
        found = (gradient.T[:, :, None] * tangents).sum(1).T
        return found[:n], found[n:], None, None
