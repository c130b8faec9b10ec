"""The lattice on a GPU: two Triton kernels a time step, launched for all environments at once.

In Triton's interpreter (`TRITON_INTERPRET=1`) the same kernels run on the CPU, slowly, for tests.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import triton
from jaxtyping import Float
from torch import Tensor

from separatrix.envs.steppers.fused import recomputed
from separatrix.envs.steppers.lattice import OPPOSITE, VELOCITIES, WEIGHTS
from separatrix.envs.steppers.lattice_program import LatticeProgram
from separatrix.envs.steppers.lattice_torch import Advanced, LatticeTorchStepper
from separatrix.envs.steppers.lattice_triton_kernel import BLOCK, OPTIONS, collide, fill
from separatrix.envs.steppers.triton_functions import INTERPRETED


class LatticeTritonStepper:
    """Advances a batch on a GPU, as `LatticeTorchStepper` does; gradients come from there.

    Args:
        program: The domain on its lattice.
        keep: Part of the difference between the control and its target that a time step leaves.
        substeps: Time steps in a control interval.
        device: A CUDA device, or the CPU in Triton's interpreter.
        dtype: torch.float32 or torch.float64.
    """

    def __init__(
        self,
        program: LatticeProgram,
        keep: float,
        substeps: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._reference = LatticeTorchStepper(program, keep, substeps, device, dtype)
        self._program, self._substeps = program, substeps
        self._width = program.columns + 2
        self._size = size = (program.rows + 2) * self._width
        walls, copies = program.walls, program.copies
        back = OPPOSITE[walls.direction] * size
        ghost = walls.direction * size + walls.ghost
        places = [walls.direction * size + walls.site, back + walls.site, back + walls.beyond]
        numbers = [*walls.weights.T, walls.gain, *VELOCITIES[walls.direction].T, *walls.still.T]
        numbers += [*walls.moved.reshape(len(ghost), 2 * program.controls).T]
        # Links of a body make one group each, which come first; those of the sides are cut.
        owner = np.where(walls.body < 0, program.bodies, walls.body)
        order = np.argsort(owner, kind="stable")
        first = np.searchsorted(owner[order], range(program.bodies))
        bounds = [*first, *range(int((walls.body >= 0).sum()), len(ghost), BLOCK.value), len(ghost)]
        copied = copies.direction * size + copies.ghost
        found = [copies.source_direction * size + copies.source, copied, copies.source]
        factors = [copies.rate, copies.anchor * WEIGHTS[copies.direction]]
        factors += [copies.pull, copies.level]

        def tensor(values: Any, kind: torch.dtype) -> Tensor:
            return torch.as_tensor(np.array(values), dtype=kind, device=device).contiguous()

        self._lists = (
            tensor(bounds, torch.int32),
            tensor(np.stack([*places, ghost])[:, order], torch.int32),
            tensor(np.stack(numbers)[:, order], dtype),
            tensor(found, torch.int32),
            tensor(factors, dtype),
        )
        solid = np.arange(9)[:, None] * size + program.solid
        self._empty = tensor(np.concatenate([ghost, solid.ravel()]), torch.int64)
        self._constants = {
            "groups": len(bounds) - 1 + triton.cdiv(len(copied), BLOCK.value),
            "wall_groups": len(bounds) - 1,
            "wall_links": len(ghost),
            "copy_links": len(copied),
            "size": size,
            "bodies": program.bodies,
            "controls": program.controls,
            "keep": float(keep),
        }
        self._tiles = triton.cdiv(program.rows * self._width, BLOCK.value)

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
        program, batch = self._program, len(populations)
        shape = (batch, 9, program.rows + 2, program.columns + 2)
        a = self._checked("populations", populations, shape).clone()
        held = self._checked("control", control, (batch, program.controls)).clone()
        target = self._checked("target", target, (batch, program.controls))
        rate = self._checked("rate", rate, (1 if len(rate) == 1 else batch,))
        b, moved = torch.zeros_like(a), torch.empty_like(held)
        force = a.new_zeros((batch, program.bodies, 2))
        fills, tiles = batch * self._constants["groups"], batch * self._tiles
        # Triton launches on torch's current device. Its interpreter is numpy, which would warn of
        # the overflow of a state that diverges.
        quiet: Any = np.errstate(all="ignore") if INTERPRETED.value else nullcontext()
        with torch.cuda.device_of(a), quiet:
            for _ in range(self._substeps if batch else 0):
                fill[fills,](
                    a, b, held, target, force, moved, *self._lists, **self._constants, **OPTIONS
                )
                collide[tiles,](
                    a, b, rate, int(len(rate) > 1), self._tiles, self._width, self._size, **OPTIONS
                )
                a, b, held, moved = b, a, moved, held
        # As the reference leaves them: nothing where no fluid is, but for the ghosts of copies.
        a.flatten(1).index_fill_(1, self._empty, 0.0)
        return a, held, force / self._substeps

    def _checked(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Returns a tensor as the contiguous one that the kernels, which check nothing, take."""
        wanted = self._lists[-1]
        if (tensor.dtype, tensor.device, tensor.shape) != (wanted.dtype, wanted.device, shape):
            raise ValueError(
                f"{name}: got {tensor.dtype} on {tensor.device} of shape {tuple(tensor.shape)}; "
                f"allowed: {wanted.dtype} on {wanted.device} of shape {shape}"
            )
        return tensor.detach().contiguous()
