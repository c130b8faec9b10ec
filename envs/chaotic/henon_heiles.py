"""Henon and Heiles (1964): a star in the plane of a galaxy, conservative chaos.

    x' = px                           H = (px^2 + py^2) / 2 + V
    y' = py                           V = (x^2 + y^2) / 2 + coupling (x^2 y - y^3 / 3)
    px' = -x - 2 coupling x y + ux
    py' = -y - coupling (x^2 - y^2) + uy      ux, uy: thrust

M. Henon, C. Heiles, Astron. J. 69 (1964) 73, with coupling = 1. Three saddles of the potential, of
height 1 / (6 coupling^2), close the triangular well; beyond them the star escapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from separatrix.envs.chaotic.attractor import Attractor, attractor_of, forced_flow
from separatrix.envs.chaotic.hold_fixed_point import HoldFixedPoint
from separatrix.envs.chaotic.portrait import PhasePortrait
from separatrix.envs.steppers.component_task import Components, Parameters
from separatrix.envs.steppers.distance_task import require_positive
from separatrix.envs.steppers.energy_shell import EnergyShell
from separatrix.envs.steppers.functions import Expression
from separatrix.envs.steppers.hold_energy import HoldEnergy
from separatrix.envs.steppers.ode import ode
from separatrix.envs.steppers.registration import register_ode

if TYPE_CHECKING:
    import torch

    from separatrix.envs.core.stream import Stream
    from separatrix.envs.steppers.ode_system import OdeSystem

START_ENERGY = 0.15


def potential(x: Any, y: Any, coupling: Any = 1.0) -> Any:
    """Returns V, of expressions, arrays or tensors alike."""
    return (x * x + y * y) / 2 + coupling * (x * x * y - y * y * y / 3)


def unit_mass(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the mass matrix, which is 1."""
    return 1 + 0 * x, 0 * x, 1 + 0 * x


@dataclass(frozen=True)
class GalacticShell(Attractor):
    """The energy shell, in place of the attractor that a conservative system does not have."""

    def sample(self, stream: Stream) -> tuple[torch.Tensor, Stream]:
        """Draws states of the shell, (batch, 4) in float64."""
        corner = 3**0.5 / 2  # the triangle of the saddles holds all positions
        shell = EnergyShell(START_ENERGY, (-corner, -0.5), (corner, 1.0), potential, unit_mass, 1.0)
        return shell.sample(stream)


shell = GalacticShell("henon_heiles", margin=2.0)


@ode(states="x y px py", controls="ux uy", start=shell, box=shell.box)
def henon_heiles(
    x: Expression,
    y: Expression,
    px: Expression,
    py: Expression,
    ux: Expression,
    uy: Expression,
    *,
    coupling: Expression = 1.0,
) -> tuple[Expression, ...]:
    """Returns the time derivatives of x, y (position) and px, py (momentum)."""
    return px, py, -x - 2 * coupling * x * y + ux, -y - coupling * (x * x - y * y) + uy


@dataclass(frozen=True)
class HoldStarEnergy(HoldEnergy):
    """Hold the energy of the star.

    Attributes:
        authority: Largest thrust, in units of the flow.
    """

    authority: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "authority")

    def force(self, system: OdeSystem) -> torch.Tensor:
        """Returns the largest thrusts, (1, 2)."""
        return self.authority * forced_flow(system)[None]

    def observation_bound(self, system: OdeSystem) -> np.ndarray:
        """Returns the safe box in standard deviations, and the largest excess of energy in it."""
        low, high = system.definition.bounds()
        largest = np.maximum(abs(low), abs(high))
        x, y, px, py = largest
        coupling = max(abs(c) for c in system.parameters["coupling"].tolist())
        energy = potential(x, y) + (px * px + py * py) / 2 + coupling * (x * x * y + y**3)
        scale = attractor_of(system).statistic("standard_deviation")
        excess = (energy + abs(self.target_energy)) / self.width
        return np.append(largest / scale, excess)

    def total_energy(self, state: Components, parameters: Parameters) -> Expression:
        """Returns H."""
        x, y, px, py = state
        return (px * px + py * py) / 2 + potential(x, y, parameters["coupling"])

    def observe(self, state: Components, parameters: Parameters) -> Components:
        """Returns the state in standard deviations, and the excess of energy in widths."""
        scale = shell.statistic("standard_deviation").tolist()
        scaled = [x / s for x, s in zip(state, scale, strict=True)]
        return [*scaled, self.excess(state, parameters)]

    def state_of(self, observation: Components, parameters: Parameters) -> Components:
        """Returns the state; the excess of energy follows from it."""
        scale = shell.statistic("standard_deviation").tolist()
        return [x * s for x, s in zip(observation[:-1], scale, strict=True)]


class HenonHeiles:
    """Bring a star in a galaxy's chaotic sea to rest, or to an energy.

    ## Description
    A star moves in a triangular potential well without friction: without thrust its energy stays,
    and with the start's energy of 0.15 four fifths of its orbits are chaotic. Task `hold` is to
    bring it to rest in the middle, a neutral equilibrium (exponents +- i, twice); task `energy` is
    to bring its energy to `target_energy`, where motion is regular, and keep it. The three corners
    of the well are saddles of height 1/6: a star with more energy can escape for ever.

    ## Action space
    | Num | Name     | Min | Max | Unit                                                 |
    |-----|----------|-----|-----|------------------------------------------------------|
    | 0   | thrust x | -1  | 1   | `authority` times the rms of px' at the start energy |
    | 1   | thrust y | -1  | 1   | `authority` times the rms of py' at the start energy |

    ## Observation space
    | Num | Name | Min  | Max | Unit                                        |
    |-----|------|------|-----|---------------------------------------------|
    | 0   | x    | -8.9 | 8.9 | standard deviation at the start energy      |
    | 1   | y    | -8.1 | 8.1 | standard deviation at the start energy      |
    | 2   | px   | -8.3 | 8.3 | standard deviation at the start energy      |
    | 3   | py   | -8.3 | 8.3 | standard deviation at the start energy      |

    Task `energy` adds, as number 4, the excess of energy over the target in units of `width`; its
    bounds are about half as wide, and 221 for the excess.

    ## Reward
    exp(-d^2 / (2 width^2)): between 0 and 1, 1 on target. For `hold`, d is the distance to rest in
    all four coordinates after the step; for `energy`, the difference between energy and target. A
    diverged environment gets 0. An episode of 400 steps returns at most 400.

    ## Starting state
    Uniform on the energy shell 0.15 of the default parameter (microcanonical): position uniform
    over the accessible area, and direction of the momentum uniform.

    ## Episode end
    Truncated after 400 steps of 0.2 time units, each of 4 Runge-Kutta steps (error of a step below
    1e-7 of the standard deviation). Terminated if the state leaves the safe box, twice the shell's.
    That is a real escape: thrust along the momentum drives every star out, and about 1 in 200
    leaves under random thrust within an episode.

    ## Arguments
    System: `coupling`. Task `hold`: `authority` (0.05), `width` (0.3), `radius` (0.1, of the target
    ball), `near` (start of the search for the fixed point). Task `energy`: `target_energy` (0.05),
    `authority` (0.05), `width` (0.05), `radius` (0.01).

    ## References
    M. Henon, C. Heiles, Astron. J. 69 (1964) 73.

    ## Version history
    - v0: first version.
    """


register_ode(
    "HenonHeiles-v0",
    henon_heiles,
    {
        "hold": HoldFixedPoint(near=(0.0, 0.0, 0.0, 0.0), authority=0.05, width=0.3, radius=0.1),
        "energy": HoldStarEnergy(target_energy=0.05, authority=0.05, width=0.05, radius=0.01),
    },
    control_interval=0.2,
    substeps=4,
    horizon=400,
    summary="Bring a star in a galaxy's chaotic sea to rest, or to an energy",
    draw=PhasePortrait(horizontal=0, vertical=1),
    documented=HenonHeiles,
)
