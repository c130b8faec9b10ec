"""Incompressible flow in a periodic square, written with its vorticity alone.

    omega = v_x - u_y,    u = -psi_y,    v = psi_x,    laplacian psi = omega
    omega_t = -(d_xx - d_yy)(u v) + d_xy (u^2 - v^2) + viscosity and the curl of body forces

The products are those of C. Basdevant, J. Comput. Phys. 50 (1983) 209: two fields to synthesize and
two to transform, where u omega_x + v omega_y takes four and one. Light: torch loads when a system
is made.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from separatrix.envs.core.registration import suggest
from separatrix.envs.fluid.actuators import Actuators
from separatrix.envs.steppers.spectral import inverse_laplacian

if TYPE_CHECKING:
    from torch import Tensor

    from separatrix.envs.steppers.spectral import Derivatives
    from separatrix.envs.steppers.spectral_grid import Grid

BODY_FORCES = ("swirl", "shear")


def velocity(d: Derivatives) -> tuple[Tensor, Tensor]:
    """Returns the multipliers that make u and v of omega."""
    inverse = inverse_laplacian(d)
    return -d[1] * inverse, d[0] * inverse


def advection(d: Derivatives) -> tuple[Tensor, Tensor]:
    """Returns the multipliers that make omega_t of u v and of u^2 - v^2."""
    return d[1] ** 2 - d[0] ** 2, d[0] * d[1]


@dataclass(frozen=True)
class BodyForces(Actuators):
    """Body forces, as the vorticity they add in a unit of time.

    Of a body force only the curl moves an incompressible fluid, the rest is pressure. So one number
    for each place is all there is, and a swirl the natural force: it has a stream function, a
    Gaussian of standard deviation `actuator_width`, and is strongest, 1 in a box of side 2 pi, at
    that distance from its centre. In a box of side L forces are L / (2 pi) times as strong.

    Attributes:
        actuators: How many swirls along each axis, or their places, in units of the box. Of shear
            forces how many, with wave numbers from 1 on, or their wave numbers.
        actuator_shape: "swirl", or "shear": then force j is sin(2 pi k_j y / L) along x.
        actuator_width: Of a swirl, in units of the box.
    """

    actuator_shape: str = "swirl"
    actuator_width: float = 0.08

    def count(self, dimensions: int) -> int:
        """Returns the number of actuators in so many dimensions."""
        return super().count(1 if self.actuator_shape == "shear" else dimensions)

    def shapes(self, grid: Grid) -> Tensor:
        """Returns the curls of the forces, float64 (actuator, *grid).

        Raises:
            ValueError: An option is not allowed.
        """
        shape = self.actuator_shape
        if not isinstance(shape, str) or shape not in BODY_FORCES:
            got = reprlib.repr(shape)
            raise ValueError(f"actuator_shape: got {got}; {suggest(shape, BODY_FORCES)}")
        if shape == "shear":
            return _shear(self.actuators, grid)
        bumps = Actuators(self.actuators, "gaussian", self.actuator_width).shapes(grid)
        # The steepest slope of exp(-r^2 / (2 w^2)) is exp(-1/2) / w, at r = w.
        stream = bumps * (-2 * math.pi * self.actuator_width * math.exp(0.5))
        laplacian = -(grid.numbers[0] ** 2) - grid.numbers[1] ** 2
        return grid.synthesize_constant(laplacian * grid.transform_constant(stream))


def _shear(found: Any, grid: Grid) -> Tensor:
    import torch

    highest = grid.highest(2)
    waves = range(1, found + 1) if isinstance(found, int) else found
    several = isinstance(waves, Sequence) and not isinstance(waves, str) and len(waves) > 0
    if not (several and all(isinstance(k, int) and 1 <= k <= highest for k in waves)):
        raise ValueError(
            f"actuators: got {reprlib.repr(found)}; allowed for shear: how many, or a sequence of "
            f"wave numbers, integers from 1 to {highest} on a grid of {grid.points} points"
        )
    y = torch.arange(grid.points, dtype=torch.float64) * (2 * torch.pi / grid.points)
    return torch.stack([(-k * torch.cos(k * y)).expand(grid.shape) for k in waves])
