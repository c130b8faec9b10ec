"""The lattice's time step in torch: the definition, differentiable, on any device.

A collision keeps of the populations what physics needs, their moments up to the second, and makes
the rest of them anew: recursive regularization (O. Malaspinas, arXiv:1505.06900, 2015; C. Coreixas
et al., Phys. Rev. E 96 (2017) 033306). With the departures n_ab of the second moments from u_a u_b,
of which a collision leaves the part 1 - 1 / tau,

    f_i = w_i (rho + 3 c_i.u + 9/2 (c_a c_b - d_ab / 3) (u_a u_b + n_ab)
               + 27/2 ((c_x^2 - 1/3) c_y (u^2 v + 2 u n_xy + v n_xx) + ... x and y exchanged)
               + 81/4 (c_x^2 - 1/3) (c_y^2 - 1/3) (u^2 v^2 + u^2 n_yy + v^2 n_xx + 4 u v n_xy))

The relaxation time tau is 1/2 + 3 nu, nu the kinematic viscosity.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from separatrix.envs.steppers.lattice import OPPOSITE, VELOCITIES, WEIGHTS
from separatrix.envs.steppers.lattice_program import LatticeProgram

Advanced = tuple[Tensor, Tensor, Tensor]
"""Populations (batch, 9, row, column), control (batch, control), mean force (batch, body, 2)."""


class LatticeTorchStepper:
    """Advances a batch by one control interval.

    Args:
        program: The domain on its lattice.
        keep: Part of the difference between the control and its target that a time step leaves.
        substeps: Time steps in a control interval.
        device: Where the tensors live.
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
        self._program, self._keep, self._substeps = program, keep, substeps
        walls, copies = program.walls, program.copies
        size = (program.rows + 2) * (program.columns + 2)

        def index(direction: object, site: object) -> Tensor:
            return torch.as_tensor(direction * size + site, device=device)  # type: ignore[operator]

        def numbers(values: object) -> Tensor:
            return torch.as_tensor(values, device=device, dtype=dtype)

        back = OPPOSITE[walls.direction]
        self._out, self._next = index(back, walls.site), index(back, walls.beyond)
        self._own = index(walls.direction, walls.site)
        self._ghost = index(walls.direction, walls.ghost)
        self._weights, self._gain = numbers(walls.weights), numbers(walls.gain)
        self._along = numbers(VELOCITIES[walls.direction])
        self._still, self._moved = numbers(walls.still), numbers(walls.moved)
        self._source = index(copies.source_direction, copies.source)
        self._copied = index(copies.direction, copies.ghost)
        self._rate = numbers(copies.rate)
        self._pull, self._level = numbers(copies.pull), numbers(copies.level)
        anchored = copies.anchor > 0
        self._anchored = torch.as_tensor(anchored.nonzero()[0], device=device)
        self._anchor = numbers((copies.anchor * WEIGHTS[copies.direction])[anchored])
        self._column = torch.as_tensor(copies.source[anchored], device=device)
        self._solid = torch.as_tensor(program.solid, device=device)
        owned = [(walls.body == b).nonzero()[0] for b in range(program.bodies)]
        self._owned = [torch.as_tensor(found, device=device) for found in owned]

    def __call__(
        self,
        populations: Float[Tensor, "batch 9 row column"],
        control: Float[Tensor, "batch control"],
        target: Float[Tensor, "batch control"],
        rate: Float[Tensor, " rows"],
    ) -> Advanced:
        """Advances all environments.

        Args:
            populations: With their ghosts, of which those of the outlet matter.
            control: In force; it comes nearer to the target in every time step.
            target: Of the control.
            rate: 1 / tau, one for all environments or one for each.

        Returns:
            Populations, controls, and the mean force on every body in lattice units.
        """
        # Memory for a backward pass: of so many steps, and the populations between them.
        chunk = math.isqrt(self._substeps - 1) + 1
        force = populations.new_zeros((len(populations), self._program.bodies, 2))
        left = self._substeps
        inputs = (populations, control, target, rate)
        remembers = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
        while left:
            steps = min(chunk, left)
            arguments = (populations, control, target, rate, steps)
            if remembers:
                populations, control, part = checkpoint(self._run, *arguments, use_reentrant=False)
            else:
                populations, control, part = self._run(*arguments)
            force, left = force + part, left - steps
        return self._emptied(populations), control, force / self._substeps

    def _emptied(self, populations: Tensor) -> Tensor:
        """Writes zeros where no fluid is, but for the outlet's ghosts."""
        return populations.flatten(2).index_fill(2, self._solid, 0.0).view_as(populations)

    def _run(
        self, populations: Tensor, control: Tensor, target: Tensor, rate: Tensor, steps: int
    ) -> Advanced:
        force = populations.new_zeros(())
        for _ in range(steps):
            control = target + self._keep * (control - target)
            populations, pushed = self._fill(self._emptied(populations), control)
            populations, force = self._collide(populations, rate), force + pushed
        return populations, control, force

    def _fill(self, populations: Tensor, control: Tensor) -> tuple[Tensor, Tensor]:
        """Writes the ghosts, and returns the force on every body besides."""
        flat = populations.flatten(1)
        density = populations.flatten(2)[:, :, self._column].sum(1)
        out = flat[:, self._out]
        velocity = self._still + torch.einsum("bc,lcd->bld", control, self._moved)
        back = self._weights[:, 0] * out + self._weights[:, 1] * flat[:, self._next]
        back = back + self._weights[:, 2] * flat[:, self._own]
        back = back + self._gain * (self._along * velocity).sum(2)
        old, source = flat[:, self._copied], flat[:, self._source]
        new = old + self._rate * (source - old) - self._pull * (source - self._level)
        new = new.index_add(1, self._anchored, -self._anchor * density)
        flat = flat.index_copy(1, self._ghost, back).index_copy(1, self._copied, new)
        # Momentum exchange, seen from the wall: B. Wen et al., J. Comput. Phys. 266 (2014) 161.
        pushed = -self._along * (out + back)[..., None] - velocity * (out - back)[..., None]
        forces = [pushed[:, links].sum(1) for links in self._owned]
        empty = populations.new_zeros((len(populations), 0, 2))
        return flat.view_as(populations), torch.stack(forces, 1) if forces else empty

    def _collide(self, populations: Tensor, rate: Tensor) -> Tensor:
        """Pulls all populations and collides them; the ghosts of the outlet stay."""
        rows, columns = self._program.rows, self._program.columns
        f = [
            populations[:, i, 1 - y : rows + 1 - y, 1 - x : columns + 1 - x]
            for i, (x, y) in enumerate(VELOCITIES.tolist())
        ]
        u, v = f[1] - f[3] + f[5] - f[6] - f[7] + f[8], f[2] - f[4] + f[5] + f[6] - f[7] - f[8]
        diagonal = f[5] + f[6] + f[7] + f[8]
        density = f[0] + f[1] + f[2] + f[3] + f[4] + diagonal
        keep = (1 - rate)[:, None, None]
        nxx = keep * (f[1] + f[3] + diagonal - density / 3 - u * u)
        nyy = keep * (f[2] + f[4] + diagonal - density / 3 - v * v)
        nxy = keep * (f[5] - f[6] + f[7] - f[8] - u * v)
        xx, yy, xy = u * u + nxx, v * v + nyy, u * v + nxy
        xxy = u * u * v + 2 * u * nxy + v * nxx
        xyy = v * v * u + 2 * v * nxy + u * nyy
        fourth = 2.25 * (u * u * yy + v * v * nxx + 4 * u * v * nxy)
        rest = density - 1.5 * (xx + yy)
        sides = rest + 4.5 * (xx + yy) + 4 * fourth
        pairs = (
            (rest + 4.5 * xx - 2 * fourth, 3 * u - 4.5 * xyy),
            (rest + 4.5 * yy - 2 * fourth, 3 * v - 4.5 * xxy),
            (sides + 9 * xy, 3 * (u + v) + 9 * (xyy + xxy)),
            (sides - 9 * xy, 3 * (v - u) + 9 * (xxy - xyy)),
        )
        new: list[Tensor] = [rest + fourth] * 9
        for i, (even, odd) in zip((1, 2, 5, 6), pairs, strict=True):
            new[i], new[OPPOSITE[i]] = even + odd, even - odd
        weights = torch.as_tensor(WEIGHTS, device=populations.device, dtype=populations.dtype)
        stacked = torch.stack(new, 1) * weights[:, None, None]
        padded = torch.nn.functional.pad(stacked, (1, 1, 1, 1)).flatten(1)
        kept = populations.flatten(1)[:, self._copied]
        return padded.index_copy(1, self._copied, kept).view_as(populations)
