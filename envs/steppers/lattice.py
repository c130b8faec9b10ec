"""Bodies in a stream, as the lattice Boltzmann stepper takes them. Light: numpy only.

The lattice is D2Q9 (Y. H. Qian, D. d'Humieres, P. Lallemand, Europhys. Lett. 17 (1992) 479), its
equilibrium that of X. He and L.-S. Luo, J. Stat. Phys. 88 (1997) 927, for an incompressible fluid:

    e_i = w_i (rho + 3 c_i.u + 9/2 (c_i.u)^2 - 3/2 u.u),   rho = sum f_i,   u = sum c_i f_i

Populations f_i are stored as deviations from the fluid at rest, so that rho is the deviation of the
density from 1, a third of which is the pressure, and float32 loses nothing to a large constant.
They are stored as collisions leave them. Lengths are in units of the body, velocities in units of
the stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

VELOCITIES = np.array(
    [(0, 0), (1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (-1, -1), (1, -1)]
)
"""c_i as (x, y), a link between neighbours each."""
WEIGHTS = np.array([4 / 9] + [1 / 9] * 4 + [1 / 36] * 4)
OPPOSITE = np.array([0, 3, 4, 1, 2, 7, 8, 5, 6])
MIRRORED = np.array([0, 1, 4, 3, 2, 8, 7, 6, 5])
"""The direction into which a plane y = constant reflects each."""


def equilibrium(u: float, v: float = 0.0) -> Float[np.ndarray, " 9"]:
    """Returns the populations of fluid that flows, of density deviation 0, in lattice units."""
    along = VELOCITIES @ np.array([u, v])
    return WEIGHTS * (3 * along + 4.5 * along**2 - 1.5 * (u**2 + v**2))


@dataclass(frozen=True)
class Disc:
    """A round body.

    Attributes:
        x: Of the centre, from the inflow.
        y: Of the centre, from the lower side.
        radius: Half the diameter.
    """

    x: float
    y: float
    radius: float = 0.5


@dataclass(frozen=True)
class Domain:
    """A box with bodies in it.

    Attributes:
        length: Of the box, along the stream.
        height: Of the box, across it.
        inflow: "parabola" or "uniform", both of mean velocity 1; or "periodic": what leaves the box
            on the right enters it on the left.
        sides: Lower and upper side: "no_slip" walls; "slip" walls, without friction; "open" to the
            undisturbed stream, where sound leaves; or "periodic".
        bodies: What stands in the stream.
    """

    length: float
    height: float
    inflow: str
    sides: str
    bodies: tuple[Disc, ...] = ()


@dataclass(frozen=True)
class Actuator:
    """Velocity that a control of 1 gives to the surface of one body.

    Attributes:
        body: Index of the body.
        control: Index of the control.
        kind: "rotation": the surface moves counterclockwise at velocity 1. "jet": fluid leaves the
            surface, normally to it, with a velocity of (pi / 2) cos(pi (angle - centre) / width)
            over an arc, whose mean is 1.
        centre: Angle in the middle of a jet, in degrees from the direction of the stream.
        width: Angle over which a jet reaches, in degrees.
        factor: Of the velocity; jets of opposite factors let no net mass in.
    """

    body: int
    control: int
    kind: str = "rotation"
    centre: float = 0.0
    width: float = 10.0
    factor: float = 1.0

    def velocity(self, offset: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 2"]:
        """Returns the velocity of points of the surface.

        Args:
            offset: The points, from the centre of the body.
        """
        normal = offset / np.linalg.norm(offset, axis=1, keepdims=True)
        if self.kind == "rotation":
            return self.factor * np.stack([-normal[:, 1], normal[:, 0]], 1)
        angle = np.degrees(np.arctan2(normal[:, 1], normal[:, 0])) - self.centre
        angle = (angle + 180) % 360 - 180
        profile = np.pi / 2 * np.cos(np.pi * angle / self.width)
        return self.factor * normal * np.where(abs(angle) < self.width / 2, profile, 0)[:, None]
