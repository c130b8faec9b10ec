"""The lattice on the CPU: kernels forward, and backward."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from separatrix.envs.steppers import lattice_kernel
from separatrix.envs.steppers.fused import recomputed
from separatrix.envs.steppers.lattice_program import LatticeProgram
from separatrix.envs.steppers.lattice_torch import Advanced, LatticeTorchStepper
from separatrix.envs.steppers.numba_backend import NUMPY_DTYPES, THREADED_FROM, keep_forks_alive

OPERATIONS = 100
"""Of one site in one time step, roughly."""


class LatticeNumbaStepper:
    """Advances a batch by one control interval, as `LatticeTorchStepper` does.

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
        self._reference = LatticeTorchStepper(program, keep, substeps, torch.device("cpu"), dtype)
        self._lists = self._arrays(program.walls), self._arrays(program.copies), program.solid
        self._keep, self._substeps = self._dtype.type(keep), substeps
        self._bodies = program.bodies
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
        found: Advanced = recomputed(self._advance, self._reference, *inputs)
        return found

    def _advance(
        self, populations: Tensor, control: Tensor, target: Tensor, rate: Tensor
    ) -> Advanced:
        values, held, wanted, rates = (
            tensor.detach().contiguous().numpy() for tensor in (populations, control, target, rate)
        )
        outputs = np.empty_like(values), np.empty_like(held)
        force = np.empty((len(values), self._bodies, 2), self._dtype)
        arguments = (values, held, *self._lists, wanted, self._keep, rates, self._substeps)
        threads = min(len(values), numba.get_num_threads()) if len(values) > 1 else 1
        if threads > 1 and self._operations * len(values) >= THREADED_FROM:
            keep_forks_alive()
            lattice_kernel.threaded(threads, *arguments, *outputs, force)
        else:
            lattice_kernel.serial(*arguments, *outputs, force)
        moved, held, force = (torch.from_numpy(array) for array in (*outputs, force))
        return moved, held, force
