"""The lattice on the CPU: kernels forward, and backward."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from separatrix.envs.core.forks import keep_forks_alive
from separatrix.envs.steppers import lattice_adjoint, lattice_kernel
from separatrix.envs.steppers.lattice_program import LatticeProgram
from separatrix.envs.steppers.lattice_torch import Advanced
from separatrix.envs.steppers.numba_backend import NUMPY_DTYPES, THREADED_FROM

OPERATIONS = 100
"""Of one site in one time step, roughly."""


class LatticeNumbaStepper:
    """Advances a batch by one control interval, as `LatticeTorchStepper` does.

    Gradients come from a second kernel, which runs the interval anew: until then a rollout
    remembers the populations and controls at the start of each.

    Args:
        program: The domain on its lattice.
        keep: Part of the difference between the control and its target that a time step leaves.
        substeps: Time steps in a control interval.
        dtype: torch.float32 or torch.float64.
    """

    def __init__(
        self, program: LatticeProgram, keep: float, substeps: int, dtype: torch.dtype
    ) -> None:
        self._dtype = NUMPY_DTYPES[dtype]
        self._lists = self._arrays(program.walls), self._arrays(program.copies), program.solid
        self._keep, self._substeps = self._dtype.type(keep), substeps
        self._program = program
        self._operations = OPERATIONS * program.rows * program.columns * substeps

    def _arrays(self, lists: Any) -> tuple[np.ndarray, ...]:
        found = (np.ascontiguousarray(getattr(lists, field.name)) for field in fields(lists))
        return tuple(a.astype(self._dtype) if a.dtype.kind == "f" else a for a in found)

    def __call__(
        self,
        populations: Float[Tensor, "batch 9 row column"],
        control: Float[Tensor, "batch control"],
        target: Float[Tensor, "batch control"],
        rate: Float[Tensor, " rows"],
    ) -> Advanced:
        """Advances all environments."""
        inputs = (populations, control, target, rate)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
            found: Advanced = _Interval.apply(self, *inputs)
            return found
        return self._advance(*inputs)

    def _advance(self, *inputs: Tensor) -> Advanced:
        values, held, wanted, rates = self._inputs(*inputs)
        outputs = np.empty_like(values), np.empty_like(held), self._force(values)
        arguments = (values, held, *self._lists, wanted, self._keep, rates, self._substeps)
        if (threads := self._threads(len(values))) > 1:
            lattice_kernel.threaded(threads, *arguments, *outputs)
        else:
            lattice_kernel.serial(*arguments, *outputs)
        moved, held_now, force = map(torch.from_numpy, outputs)
        return moved, held_now, force

    def vector_jacobian(
        self, inputs: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the gradients by populations, control, target and rate of an interval.

        Args:
            inputs: Populations, control, target and rate at its start.
            gradients: By populations, control and force at its end; None for zeros.
        """
        arrays = values, held, wanted, rates = self._inputs(*inputs)
        shapes = (values.shape, held.shape, self._force(values).shape)
        given = (
            np.zeros(shape, self._dtype) if g is None else self._array("gradient", g, shape)
            for g, shape in zip(gradients, shapes, strict=True)
        )
        by_rate = np.empty(len(values), self._dtype)
        found = np.empty_like(values), np.empty_like(held), np.empty_like(wanted), by_rate
        arguments = (*arrays, *self._lists, self._keep, self._substeps, *given, *found)
        threads = self._threads(len(values))
        first = [t * len(values) // threads for t in range(threads + 1)]
        # A second kernel that runs threads would take as long again to compile.
        with ThreadPoolExecutor(threads) as pool:
            parts = [
                pool.submit(lattice_adjoint.retreat, *part, *arguments) for part in pairwise(first)
            ]
        for part in parts:
            part.result()
        if len(rates) == 1:
            found = (*found[:3], by_rate.sum(keepdims=True))
        by_values, by_control, by_target, by_rates = map(torch.from_numpy, found)
        return by_values, by_control, by_target, by_rates

    def _threads(self, batch: int) -> int:
        """Returns how many threads to use; it starts them if there is so much to do."""
        if batch < 2 or self._operations * batch < THREADED_FROM:
            return 1
        keep_forks_alive()
        return min(batch, numba.get_num_threads())

    def _inputs(
        self, populations: Tensor, control: Tensor, target: Tensor, rate: Tensor
    ) -> tuple[np.ndarray, ...]:
        program, batch = self._program, len(populations)
        controls = (batch, program.controls)
        return (
            self._array(
                "populations", populations, (batch, 9, program.rows + 2, program.columns + 2)
            ),
            self._array("control", control, controls),
            self._array("target", target, controls),
            self._array("rate", rate, (1 if len(rate) == 1 else batch,)),
        )

    def _force(self, values: np.ndarray) -> np.ndarray:
        return np.empty((len(values), self._program.bodies, 2), self._dtype)

    def _array(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> np.ndarray:
        """Returns a tensor as the contiguous array that the kernels, which check nothing, take."""
        array: np.ndarray = tensor.detach().contiguous().numpy()
        if array.shape != shape or array.dtype != self._dtype:
            raise ValueError(
                f"{name}: got {array.dtype} of shape {array.shape}; "
                f"allowed: {self._dtype} of shape {shape}"
            )
        return array


class _Interval(torch.autograd.Function):
    """A control interval, run anew for its gradients."""

    @staticmethod
    def forward(ctx: Any, stepper: LatticeNumbaStepper, *inputs: Tensor) -> Advanced:
        ctx.stepper = stepper
        ctx.save_for_backward(*inputs)
        ctx.set_materialize_grads(False)
        return stepper._advance(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return (None, *ctx.stepper.vector_jacobian(ctx.saved_tensors, gradients))
